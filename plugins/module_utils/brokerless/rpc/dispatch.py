# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Which method of which object a request means.

A consumer's proxy is either an object whose public methods may be called, or a dispatcher: an object with its own
`dispatch(context, version, method, **args)`, such as `RpcDispatcher` or Nova's.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .errors import NoSuchMethod, UnsupportedRpcVersion
from .json_bodies import DEFAULT_VERSION

_VERSION = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})")
_PUBLIC_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,254}")


def version_is_compatible(implemented: str, requested: str) -> bool:
    """Whether an endpoint of version `implemented` serves a request for `requested`: the same major version, a minor version at least as high.

    What is not written `major.minor` is compatible with nothing.
    """
    has, wants = _VERSION.fullmatch(implemented), _VERSION.fullmatch(requested)
    return has is not None and wants is not None and int(has[1]) == int(wants[1]) and int(has[2]) >= int(wants[2])


def check_public_name(method: str) -> str:
    """Return `method` if it can name a public method: a letter, then letters, digits and `_`, all ASCII. Raises `NoSuchMethod`."""
    if not _PUBLIC_NAME.fullmatch(method):
        raise NoSuchMethod(f"No such RPC function {method[:60]!r}: only public methods can be called")
    return method


def public_method(proxy: object, method: str) -> Callable[..., Any] | None:
    """Return the proxy's method of that name, or None if it has no such method that may be called from outside.

    It must be a function or method written in Python (or a `functools.partial` of one) under a public name. Classes, properties (which are not
    even evaluated) and what an object inherits from a built-in class are not reachable.
    """
    check_public_name(method)
    static = inspect.getattr_static(proxy, method, None)
    if isinstance(static, property | functools.cached_property):
        return None
    found = getattr(proxy, method, None)
    plain = found.func if isinstance(found, functools.partial) else found
    return found if inspect.isfunction(plain) or inspect.ismethod(plain) else None


class RpcDispatcher:
    """Offers several objects as one consumer, each with its own API version.

    Each has the attribute `RPC_API_VERSION` (`"1.0"` if absent) and may have `RPC_API_NAMESPACE` (None if absent). The first one that is
    compatible with the request and has the method answers it.
    """

    def __init__(self, callbacks: Sequence[object]) -> None:
        self.callbacks = tuple(callbacks)

    def dispatch(self, ctxt: Any, version: str, method: str, /, **kwargs: Any) -> Any:
        """Call `method` of the first object that serves `version` and has it, with `ctxt` and the keyword arguments; return what it returns.

        Raises `NoSuchMethod` if only the method is missing, and `UnsupportedRpcVersion` if no object serves the version.
        """
        return self.dispatch_within(None, ctxt, version, method, kwargs)

    def dispatch_within(self, namespace: str | None, ctxt: Any, version: str, method: str, args: Mapping[str, Any]) -> Any:
        """As `dispatch`, among the objects of one namespace."""
        check_public_name(method)
        compatible = False
        for callback in self.callbacks:
            if _declared(callback, "RPC_API_NAMESPACE") != namespace:
                continue
            if not version_is_compatible(_declared(callback, "RPC_API_VERSION") or DEFAULT_VERSION, version):
                continue
            compatible = True
            function = public_method(callback, method)
            if function is not None:
                return function(ctxt, **args)
        if compatible:
            raise NoSuchMethod(f"No such RPC function {method!r}")
        raise UnsupportedRpcVersion(version, namespace)


def _declared(callback: object, name: str) -> str | None:
    """Return the text of an object's attribute, None if it has none; an object that makes methods on demand would answer with one of those."""
    value = getattr(callback, name, None)
    return value if isinstance(value, str) else None


def dispatch(proxy: object, ctxt: Any, namespace: str | None, version: str, method: str, args: Mapping[str, Any]) -> Any:
    """Call the method of a consumer's proxy that a request means, and return what it returns.

    Raises `NoSuchMethod`, `UnsupportedRpcVersion`, or whatever the method raises.
    """
    check_public_name(method)
    if isinstance(proxy, RpcDispatcher):
        return proxy.dispatch_within(namespace, ctxt, version, method, args)
    own_dispatch = getattr(proxy, "dispatch", None)
    if not callable(own_dispatch):
        return RpcDispatcher([proxy]).dispatch_within(namespace, ctxt, version, method, args)
    if namespace is not None:
        raise UnsupportedRpcVersion(version, namespace)
    return own_dispatch(ctxt, version, method, **args)
