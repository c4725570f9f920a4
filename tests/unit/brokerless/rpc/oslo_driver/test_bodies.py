# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import datetime as dt

import pytest
from brokerless.rpc import json_bodies
from brokerless.rpc.oslo_driver.bodies import NotOurs, Reply, Request, decode_reply, decode_request, encode_failure, encode_request, encode_result
from hypothesis import given
from hypothesis import strategies as st

MESSAGE = {"method": "echo", "args": {"value": 1}, "version": "1.0"}


class Context:
    def to_dict(self) -> dict[str, str]:
        return {"user": "me"}


def test_a_request_arrives_as_it_was_sent() -> None:
    assert decode_request(encode_request({"user": "me"}, MESSAGE, 60)) == Request({"user": "me"}, MESSAGE, 60)
    assert decode_request(encode_request(Context(), MESSAGE)) == Request({"user": "me"}, MESSAGE, None)


def test_a_request_can_be_read_as_one_of_novas_own_api() -> None:
    request = json_bodies.decode_request(encode_request({"user": "me"}, MESSAGE, 60))
    assert (request.context, request.method, request.args) == ({"user": "me"}, "echo", {"value": 1})


def test_values_that_only_oslo_serialization_can_write_are_written() -> None:
    sent = encode_result({"at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "set": {1}, "much": float("inf")})
    assert decode_reply(sent).result == {"at": "2026-01-02T00:00:00.000000", "set": [1], "much": float("inf")}


def test_a_reply_has_a_result_or_a_failure() -> None:
    assert decode_reply(encode_result(None)) == Reply(None, None)
    assert decode_reply(encode_failure("{}")) == Reply(None, "{}")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b'{"format": 2, "context": {}, "message": {}}',
        b'{"format": 1, "context": [], "message": {}}',
        b'{"format": 1, "context": {}}',
        b'{"format": 1, "context": {}, "message": {}, "monitor": true}',
    ],
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(NotOurs):
        decode_request(body)


def test_what_is_no_reply_is_refused() -> None:
    with pytest.raises(NotOurs, match="failure"):
        decode_reply(b'{"format": 1, "failure": {}}')


@given(st.binary(max_size=100))
def test_bytes_are_refused_or_read_and_nothing_else(body: bytes) -> None:
    for decode in (decode_request, decode_reply):
        with contextlib.suppress(NotOurs):
            decode(body)
