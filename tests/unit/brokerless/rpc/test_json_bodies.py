# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from brokerless.rpc.errors import MalformedBody, Unserialisable, UnsupportedRpcEnvelopeVersion
from brokerless.rpc.json_bodies import Request, decode_reply, decode_request, encode_failure, encode_request, encode_values
from brokerless.rpc.remote_exceptions import MAX_TRACEBACK, Failure
from hypothesis import given, settings
from hypothesis import strategies as st

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


class NovaContext:
    def to_dict(self) -> dict[str, Any]:
        return {"user_id": "u1", "roles": ("admin",)}


def body_of(**fields: object) -> bytes:
    return json.dumps({"format": 1, **fields}).encode()


def test_a_request_says_what_was_asked() -> None:
    body = encode_request(NovaContext(), {"method": "echo", "args": {"value": 42}, "version": "2.3", "namespace": "baseapi"})
    assert json.loads(body) == {
        "format": 1,
        "context": {"user_id": "u1", "roles": ["admin"]},
        "message": {"method": "echo", "args": {"value": 42}, "version": "2.3", "namespace": "baseapi"},
    }
    request = decode_request(body)
    assert request.context == {"user_id": "u1", "roles": ["admin"]}
    assert (request.method, request.args, request.version, request.namespace) == ("echo", {"value": 42}, "2.3", "baseapi")


@pytest.mark.parametrize("message", [{"method": "echo"}, {"method": "echo", "args": None, "version": None, "namespace": None}])
def test_what_a_message_leaves_out_has_a_default(message: dict[str, Any]) -> None:
    assert decode_request(encode_request(None, message)) == Request({}, message, "echo", {}, "1.0", None)


def test_a_notification_needs_no_method() -> None:
    request = decode_request(encode_request({}, {"event_type": "compute.create", "args": 3}, method_needed=False))
    assert request == Request({}, {"event_type": "compute.create", "args": 3}, None, {}, "1.0", None)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(), values), st.dictionaries(st.text(), values))
def test_arguments_and_context_round_trip(context: dict[str, Any], args: dict[str, Any]) -> None:
    request = decode_request(encode_request(context, {"method": "echo", "args": args}))
    assert (request.context, request.args) == (context, args)


@settings(deadline=None, max_examples=60)
@given(st.lists(values))
def test_values_round_trip(returned: list[Any]) -> None:
    assert decode_reply(encode_values(returned)) == returned


@pytest.mark.parametrize(
    ("context", "message", "error", "text"),
    [
        ({}, {"method": "echo", "args": {"value": {1, (2,)}, "file": b""}}, Unserialisable, r"^args\['file'\] is of type bytes"),
        ({"token": object()}, {"method": "echo"}, Unserialisable, r"^context\['token'\] is of type object"),
        ({}, {"method": "echo", 3: 4}, Unserialisable, r"^message has the key 3, of type int"),
        ({}, {"method": "echo", "args": [1]}, TypeError, "args of method 'echo' must be a mapping of names to values, not a list"),
        ({}, {"args": {}}, ValueError, "message has no 'method' to call"),
        ({}, {"method": 3}, ValueError, "message has no 'method' to call"),
        ({}, ["echo"], TypeError, "message must be a mapping with the key 'method', not a list"),
        ("me", {"method": "echo"}, TypeError, "context must be a mapping or have a to_dict"),
    ],
)
def test_a_message_that_cannot_be_sent_is_refused_at_the_sender(context: Any, message: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        encode_request(context, message)


def test_a_value_that_cannot_be_sent_is_named() -> None:
    with pytest.raises(Unserialisable, match=r"^value 1\['x'\] is of type object"):
        encode_values([1, {"x": object()}])


def test_a_failure_round_trips() -> None:
    failure = Failure("ValueError", "builtins", "no", ["no", 3], {"code": 4}, "Traceback")
    assert decode_reply(encode_failure(failure)) == failure


def test_a_failure_is_bounded_on_both_sides() -> None:
    huge = Failure("C" * 9999, "m" * 9999, "t" * 99999, ["a" * 9999] * 99, {"k" * 9999: 1, "x": "y" * 9999}, "b" * 99999)
    body = encode_failure(huge)
    assert len(body) < 300_000
    told = {"class": "C" * 9999, "message": "t" * 99999, "arguments": ["a" * 9999] * 99, "traceback": "b" * 99999}
    failure = decode_reply(body_of(failure=told))
    assert isinstance(failure, Failure)
    assert len(failure.traceback) < MAX_TRACEBACK + 100
    assert len(encode_failure(failure)) < 300_000


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "the request's body is not JSON"),
        (b"\xff\xfe", "the request's body is not JSON"),
        (b"[" * 100_000, "the request's body is nested too deeply"),
        (b'{"format": 1, "x": NaN}', "NaN is not JSON"),
        (b'{"format": 1, "x": ' + b"9" * 5000 + b"}", "the request's body is not JSON"),
        (b"[1, 2]", "the request's body is a list; it must be an object"),
        (body_of(), "'message' of the request is missing; it must be a dict"),
        (body_of(message=[]), "'message' of the request is a list"),
        (body_of(message={}, context=3), "'context' of the request is a int"),
        (body_of(message={"method": ["a"]}), "'method' of the message is a list"),
        (body_of(message={"method": "a", "args": [1]}), "'args' of the message is a list"),
        (body_of(message={"method": "a", "version": 1.0}), "'version' of the message is a float"),
        (body_of(message={"method": "a", "namespace": {}}), "'namespace' of the message is a dict"),
    ],
)
def test_a_malformed_request_is_refused_by_name(body: bytes, text: str) -> None:
    with pytest.raises(MalformedBody, match=text):
        decode_request(body)


@pytest.mark.parametrize("body", [b"{}", b'{"format": 2, "message": {"method": "a"}}', b'{"format": null}', b'{"format": [["x"]]}'])
def test_another_format_is_refused_as_such(body: bytes) -> None:
    with pytest.raises(UnsupportedRpcEnvelopeVersion, match="this side knows format 1 only"):
        decode_request(body)
    with pytest.raises(UnsupportedRpcEnvelopeVersion, match="this side knows format 1 only"):
        decode_reply(body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (body_of(), "'values' of the reply is missing"),
        (body_of(values={}), "'values' of the reply is a dict"),
        (body_of(failure=[]), "'failure' of the reply is a list"),
        (body_of(failure={}), "'class' of the failure is missing"),
        (body_of(failure={"class": "A", "arguments": "x"}), "'arguments' of the failure is a str"),
    ],
)
def test_a_malformed_reply_is_refused_by_name(body: bytes, text: str) -> None:
    with pytest.raises(MalformedBody, match=text):
        decode_reply(body)


@settings(deadline=None, max_examples=60)
@given(
    st.binary()
    | values.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(["format", "message", "failure", "values", "context"]), values | st.just(1)).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_no_bytes_do_more_than_be_malformed(body: bytes) -> None:
    for decode in (decode_request, decode_reply):
        with contextlib.suppress(MalformedBody):
            decode(body)
