# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from brokerless.rpc.context import RpcContext
from brokerless.rpc.errors import ResultTooLarge, Unserialisable, client_exceptions
from brokerless.rpc.json_bodies import decode_reply, encode_request
from brokerless.rpc.remote_exceptions import Failure
from brokerless.rpc.request_handler import RequestHandler
from brokerless.rpc.topics import Address
from hypothesis import given, settings
from hypothesis import strategies as st

TOPIC = Address("test")
MAX_MESSAGE = 2000


@dataclass
class Handed:
    """A message as the driver hands it to a handler: the same attributes, and what was replied."""

    body: bytes
    wants_reply: bool = True
    seconds_left: float = 5.0
    address: Address = TOPIC
    replies: list[bytes] = field(default_factory=list)

    def expires_in(self) -> float:
        return self.seconds_left

    def reply(self, body: bytes) -> None:
        if self.wants_reply:
            self.replies.append(body)


class Service:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def echo(self, context: RpcContext, value: Any) -> Any:
        self.seen.append(value)
        return value

    def who(self, context: RpcContext) -> dict[str, Any]:
        return context.to_dict()

    def numbers(self, context: RpcContext, count: int) -> Iterator[int]:
        for number in range(count):
            self.seen.append(number)
            yield number

    def several(self, context: RpcContext) -> str:
        context.reply("a")
        context.reply(None)
        return "ignored"

    def fails(self, context: RpcContext, value: str) -> None:
        raise ValueError(value)

    def fails_late(self, context: RpcContext) -> Iterator[int]:
        yield 1
        raise ValueError("late")

    def fails_by_context(self, context: RpcContext) -> None:
        context.reply(1)
        context.reply(failure=KeyError("told"))

    def leaves(self, context: RpcContext) -> None:
        raise SystemExit(3)

    @client_exceptions(LookupError)
    def finds(self, context: RpcContext) -> None:
        raise KeyError("disk")

    def odd(self, context: RpcContext) -> Any:
        self.seen.append("odd")
        return {"disk": object()}

    def much(self, context: RpcContext) -> str:
        return "x" * 3000

    def process_notification(self, context: RpcContext, message: dict[str, Any]) -> None:
        self.seen.append((context.to_dict(), message))


def ask(service: object, method: str, args: dict[str, Any] | None = None, context: dict[str, Any] | None = None, **options: Any) -> Any:
    message = Handed(encode_request(context, {"method": method, "args": args or {}}), **options)
    RequestHandler(service, "control1", MAX_MESSAGE)(message)  # type: ignore[arg-type]
    if not message.replies:
        return None
    assert len(message.replies) == 1
    return decode_reply(message.replies[0])


def test_a_value_is_a_list_of_one() -> None:
    assert ask(Service(), "echo", {"value": 42}) == [42]
    assert ask(Service(), "echo", {"value": None}) == [None]


def test_the_context_arrives() -> None:
    assert ask(Service(), "who", context={"user": "u", "roles": ["admin"]}) == [{"user": "u", "roles": ["admin"]}]


def test_a_generator_is_exhausted_here() -> None:
    assert ask(Service(), "numbers", {"count": 3}) == [0, 1, 2]
    assert ask(Service(), "numbers", {"count": 0}) == []


def test_what_was_given_to_reply_counts_instead_of_the_result() -> None:
    assert ask(Service(), "several") == ["a", None]


def test_a_cast_runs_to_its_end_and_is_not_answered() -> None:
    service = Service()
    for method, args in [("echo", {"value": 1}), ("numbers", {"count": 2}), ("odd", {})]:
        assert ask(service, method, args, wants_reply=False) is None
    assert service.seen == [1, 0, 1, "odd"]


def test_the_result_of_a_cast_need_not_be_sendable(caplog: pytest.LogCaptureFixture) -> None:
    ask(Service(), "odd", wants_reply=False)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("method", "args", "kind", "message"),
    [
        ("fails", {"value": "42"}, "ValueError", "42"),
        ("fails_late", {}, "ValueError", "late"),
        ("fails_by_context", {}, "KeyError", "'told'"),
        ("leaves", {}, "SystemExit", "3"),
        ("echo", {"valve": 1}, "TypeError", "Service.echo() got an unexpected keyword argument 'valve'"),
        ("odd", {}, "Unserialisable", "what method 'odd' returned can't be sent: value 0['disk'] is of type object, which JSON can't carry"),
        ("much", {}, "ResultTooLarge", "what method 'much' returned makes 3026 bytes; at most 2000 can be sent"),
    ],
)
@pytest.mark.parametrize("wants_reply", [True, False])
def test_a_failure_is_told_to_the_caller_and_logged_with_method_and_topic(
    method: str, args: dict[str, Any], kind: str, message: str, wants_reply: bool, caplog: pytest.LogCaptureFixture
) -> None:
    failure = ask(Service(), method, args, wants_reply=wants_reply)
    if not wants_reply:
        assert failure is None
        if kind in (Unserialisable.__name__, ResultTooLarge.__name__):
            return
    else:
        assert isinstance(failure, Failure)
        assert (failure.class_name, failure.message) == (kind, message)
    (record,) = caplog.records
    assert record.getMessage() == f"Method {method!r} on topic test failed"
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None


def test_an_expected_exception_is_the_callers_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    failure = ask(Service(), "finds")
    assert isinstance(failure, Failure)
    assert (failure.class_name, failure.module, failure.message) == ("KeyError", "builtins", "'disk'")
    assert caplog.records == []


@pytest.mark.parametrize("method", ["nothing", "_private", "__init__", "-reply", "seen", "__class__", "x" * 9999])
def test_a_method_that_may_not_be_called_is_told_in_one_line(method: str, caplog: pytest.LogCaptureFixture) -> None:
    failure = ask(Service(), method)
    assert isinstance(failure, Failure)
    assert failure.class_name == "NoSuchMethod"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.exc_info is None
    assert len(record.getMessage()) < 400


def test_an_unsupported_version_is_told(caplog: pytest.LogCaptureFixture) -> None:
    message = Handed(encode_request(None, {"method": "echo", "version": "2.0"}))
    RequestHandler(Service(), "control1", MAX_MESSAGE)(message)  # type: ignore[arg-type]
    failure = decode_reply(message.replies[0])
    assert isinstance(failure, Failure)
    assert failure.class_name == "UnsupportedRpcVersion"
    assert "Could not run method 'echo' on topic test: RPC version 2.0 is not supported" in caplog.text


def test_a_ping_is_answered_without_the_service() -> None:
    assert ask(object(), "-ping") == [{"host": "control1", "pid": os.getpid()}]


def test_a_cast_that_was_taken_over_in_time_is_run_however_late_a_worker_is_free() -> None:
    service = Service()
    message = Handed(encode_request(None, {"method": "echo", "args": {"value": 1}}), wants_reply=False, seconds_left=-1.0)
    RequestHandler(service, "control1", MAX_MESSAGE)(message)  # type: ignore[arg-type]
    assert service.seen == [1]


def test_a_call_whose_time_is_over_is_not_run(caplog: pytest.LogCaptureFixture) -> None:
    service = Service()
    assert ask(service, "echo", {"value": 1}, seconds_left=0.0) is None
    assert service.seen == []
    assert "Not run: method 'echo' on topic test" in caplog.text


def test_a_notification_is_processed(caplog: pytest.LogCaptureFixture) -> None:
    service = Service()
    body = encode_request({"user": "u"}, {"event_type": "create"}, method_needed=False)
    RequestHandler(service, "control1", MAX_MESSAGE)(Handed(body, wants_reply=False))  # type: ignore[arg-type]
    assert service.seen == [({"user": "u"}, {"event_type": "create"})]
    RequestHandler(object(), "control1", MAX_MESSAGE)(Handed(body, wants_reply=False))  # type: ignore[arg-type]
    assert "the consumer takes no notifications" in caplog.text


def test_a_malformed_body_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    message = Handed(b"{")
    RequestHandler(Service(), "control1", MAX_MESSAGE)(message)  # type: ignore[arg-type]
    failure = decode_reply(message.replies[0])
    assert isinstance(failure, Failure)
    assert (failure.class_name, failure.module) == ("MalformedBody", "brokerless.rpc.errors")
    assert "Refused a message on topic test: the request's body is not JSON" in caplog.text


names = st.sampled_from(["echo", "numbers", "several", "-ping", "-reply", "_x", "__class__", "dispatch", ""]) | st.text()
scalars = st.none() | st.booleans() | st.integers(max_value=99) | st.text()
plain = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)
arguments = plain | st.dictionaries(st.sampled_from(["value", "count"]), plain)
messages = st.fixed_dictionaries({}, optional={"method": names | plain, "args": arguments, "version": plain, "namespace": plain})
well_formed = st.fixed_dictionaries({"format": st.just(1), "message": messages | plain}, optional={"context": plain})
bodies = st.binary() | well_formed.map(lambda body: json.dumps(body).encode())


@settings(deadline=None, max_examples=60)
@given(bodies, st.booleans())
def test_no_body_does_more_than_call_a_public_method(body: bytes, wants_reply: bool) -> None:
    message = Handed(body, wants_reply=wants_reply)
    logging.disable(logging.CRITICAL)
    try:
        RequestHandler(Service(), "control1", MAX_MESSAGE)(message)  # type: ignore[arg-type]
    finally:
        logging.disable(logging.NOTSET)
    assert len(message.replies) == (1 if wants_reply else 0)
    for reply in message.replies:
        decode_reply(reply)
