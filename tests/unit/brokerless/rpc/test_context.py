# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import pickle

import pytest
from brokerless.rpc.context import RpcContext, context_values


def test_values_are_attributes_and_come_back_whole() -> None:
    values = {"user_id": "u1", "roles": ["admin"], "reply": "hidden", "values": 3, "failure": "x"}
    context = RpcContext.from_dict(values)
    assert context.user_id == "u1"
    assert context.to_dict() == values
    assert callable(context.reply)
    assert context.failure is None


def test_what_a_handler_does_to_the_dictionary_stays_there() -> None:
    context = RpcContext(roles=["admin"])
    context.to_dict()["roles"].append("member")
    assert context.roles == ["admin"]


def test_an_absent_value_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="the request's context has no 'tenant'"):
        RpcContext(user="u").tenant  # noqa: B018 - looking is the test


def test_it_can_be_copied_and_pickled() -> None:
    context = RpcContext(user="u")
    assert copy.deepcopy(context).to_dict() == {"user": "u"}
    assert pickle.loads(pickle.dumps(context)).to_dict() == {"user": "u"}


def test_its_text_shows_names_and_no_secrets() -> None:
    assert repr(RpcContext(auth_token="secret", user="u")) == "RpcContext(auth_token, user)"


def test_replies_are_appended() -> None:
    context = RpcContext()
    context.reply(1)
    context.reply(None)
    context.reply(2, ending=True)
    context.reply(ending=True)
    assert context.replies == [1, None, 2]


def test_a_failure_is_an_exception_or_what_exc_info_gives() -> None:
    error = ValueError("no")
    for failure in (error, (ValueError, error, None)):
        context = RpcContext()
        context.reply(failure=failure)
        assert context.failure is error
        assert context.replies == []


def test_context_values_takes_what_nova_has() -> None:
    assert context_values(None) == {}
    assert context_values({"a": 1}) == {"a": 1}
    assert context_values(RpcContext(a=1)) == {"a": 1}


@pytest.mark.parametrize("context", ["me", 3, ["a"], RpcContext])
def test_anything_else_is_no_context(context: object) -> None:
    with pytest.raises(TypeError, match=r"context must be a mapping|missing 1 required positional argument"):
        context_values(context)
