# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import functools
from typing import Any

import pytest
from brokerless.rpc.dispatch import RpcDispatcher, check_public_name, dispatch, public_method, version_is_compatible
from brokerless.rpc.errors import NoSuchMethod, UnsupportedRpcVersion


def assigned(_context: Any) -> str:
    return "assigned"


class Compute:
    RPC_API_VERSION = "1.4"
    token = "secret"
    kind = int
    evaluated = False

    def __init__(self) -> None:
        self.partial = functools.partial(self.echo, value="given")
        self.assigned = assigned

    def echo(self, context: Any, value: Any = None) -> Any:
        return context, value

    def _private(self, context: Any) -> None:
        raise AssertionError

    @property
    def secret(self) -> Any:
        type(self).evaluated = True
        return self.echo

    @staticmethod
    def static(_context: Any) -> str:
        return "static"

    @classmethod
    def of_class(cls, _context: Any) -> str:
        return "class"


class Cells:
    RPC_API_VERSION = "1.9"
    RPC_API_NAMESPACE = "cells"

    def echo(self, context: Any, value: Any = None) -> Any:
        return "cells", value


class Newer:
    RPC_API_VERSION = "2.1"

    def migrate(self, context: Any) -> str:
        return "migrated"


class Registry(dict[str, int]):
    def size(self, context: Any) -> int:
        return len(self)


class Dynamic:
    def __getattr__(self, name: str) -> Any:
        if name == "dispatch":
            raise AttributeError(name)
        return lambda _context: name


class OwnDispatcher:
    def dispatch(self, ctxt: Any, version: str, method: str, **kwargs: Any) -> Any:
        return ctxt, version, method, kwargs


@pytest.mark.parametrize(
    ("implemented", "requested", "compatible"),
    [
        ("1.0", "1.0", True),
        ("1.4", "1.0", True),
        ("1.4", "1.4", True),
        ("1.10", "1.9", True),
        ("1.4", "1.5", False),
        ("2.0", "1.0", False),
        ("1.0", "2.0", False),
        ("1.0", "1", False),
        ("1", "1.0", False),
        ("1.0", "1.0.0", False),
        ("1.0", "", False),
        ("1.0", "-1.0", False),
        ("1.0", "1.x", False),
        ("1.0", "1.0\n", False),
        ("1.0", "1." + "0" * 5000, False),
        ("1.0", "\u0661.\u0660", False),
    ],
)
def test_versions_are_compatible_within_a_major_version(implemented: str, requested: str, compatible: bool) -> None:
    assert version_is_compatible(implemented, requested) is compatible


@pytest.mark.parametrize("name", ["_private", "__init__", "__class__", "-ping", "", "a.b", "a b", "1a", "echo\n", "é", "a" * 256])
def test_no_other_name_than_a_public_one_is_looked_up(name: str) -> None:
    with pytest.raises(NoSuchMethod, match="only public methods can be called"):
        check_public_name(name)
    with pytest.raises(NoSuchMethod, match="only public methods can be called"):
        public_method(Dynamic(), name)
    for proxy in (OwnDispatcher(), RpcDispatcher([Dynamic()]), Dynamic()):
        with pytest.raises(NoSuchMethod, match="only public methods can be called"):
            dispatch(proxy, None, None, "1.0", name, {})


@pytest.mark.parametrize("name", ["echo", "static", "of_class", "partial", "assigned"])
def test_methods_and_functions_are_reachable(name: str) -> None:
    function = public_method(Compute(), name)
    assert function is not None
    assert function("context") in (("context", None), ("context", "given"), "static", "class", "assigned")


@pytest.mark.parametrize("name", ["token", "kind", "secret", "nothing"])
def test_what_is_no_method_is_not_reachable(name: str) -> None:
    assert public_method(Compute(), name) is None
    assert not Compute.evaluated


def test_what_a_builtin_class_gives_is_not_reachable() -> None:
    registry = Registry(a=1)
    assert public_method(registry, "size") is not None
    for name in ("clear", "pop", "update", "fromkeys", "get"):
        assert public_method(registry, name) is None
    for proxy in ("text", [1], object(), open):
        for name in ("format", "append", "clear", "join"):
            assert public_method(proxy, name) is None


def test_methods_that_are_made_on_demand_are_reachable() -> None:
    assert dispatch(Dynamic(), None, None, "1.0", "anything", {}) == "anything"


def test_a_plain_proxy_is_called_with_the_context_and_the_arguments() -> None:
    assert dispatch(Compute(), "context", None, "1.0", "echo", {"value": 3}) == ("context", 3)


def test_a_method_that_is_missing_and_a_version_that_is_not_served_are_told_apart() -> None:
    with pytest.raises(NoSuchMethod, match="No such RPC function 'nothing'"):
        dispatch(Compute(), None, None, "1.4", "nothing", {})
    with pytest.raises(AttributeError):
        dispatch(Compute(), None, None, "1.4", "nothing", {})
    with pytest.raises(UnsupportedRpcVersion, match=r"RPC version 1\.5 is not supported"):
        dispatch(Compute(), None, None, "1.5", "echo", {})
    with pytest.raises(UnsupportedRpcVersion, match="of namespace 'cells'"):
        dispatch(Compute(), None, "cells", "1.0", "echo", {})


def test_a_dispatcher_takes_the_first_object_that_fits() -> None:
    dispatcher = RpcDispatcher([Cells(), Newer(), Compute(), Registry()])
    assert dispatcher.dispatch("context", "1.4", "echo", value=3) == ("context", 3)
    assert dispatcher.dispatch("context", "2.0", "migrate") == "migrated"
    assert dispatcher.dispatch("context", "1.0", "size") == 0
    assert dispatch(dispatcher, "context", "cells", "1.9", "echo", {"value": 3}) == ("cells", 3)
    with pytest.raises(NoSuchMethod):
        dispatcher.dispatch("context", "1.0", "migrate")
    with pytest.raises(UnsupportedRpcVersion):
        dispatcher.dispatch("context", "3.0", "echo")


def test_arguments_may_have_any_name() -> None:
    class Names:
        def take(self, context: Any, /, **kwargs: Any) -> dict[str, Any]:
            return kwargs

    given = {"ctxt": 1, "version": 2, "method": 3, "self": 4, "namespace": 5}
    assert dispatch(Names(), None, None, "1.0", "take", given) == given
    assert RpcDispatcher([Names()]).dispatch(None, "1.0", "take", **given) == given


def test_a_proxy_with_its_own_dispatch_is_asked_itself() -> None:
    assert dispatch(OwnDispatcher(), "context", None, "3.1", "echo", {"value": 3}) == ("context", "3.1", "echo", {"value": 3})
    with pytest.raises(UnsupportedRpcVersion, match="of namespace 'cells'"):
        dispatch(OwnDispatcher(), "context", "cells", "3.1", "echo", {})
