# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The RPC functions from one host to another: the caller on control1, the service on compute1 (and on compute2 where it says so)."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from brokerless.rpc import impl_zmq
from brokerless.rpc.context import RpcContext
from brokerless.rpc.driver.connection import process_connection
from brokerless.rpc.errors import NoSuchMethod, NotSent, RemoteError, ResultTooLarge, Timeout, Unserialisable, UnsupportedRpcVersion
from brokerless.rpc.json_bodies import decode_reply
from brokerless.rpc.remote_exceptions import Failure
from brokerless.rpc.topics import Address, TopicError
from receiver_process import PATIENCE, Receiver, hosts, wait_until

RING = {"test": ["compute1"], "nested": ["compute1"], "all": ["compute1", "compute2"], "notifications-info": ["compute2"]}
MAX_MESSAGE = 100_000


class QuotaExceeded(Exception):
    """An exception of a module that no option allows."""


class Service:
    """What is called. It notes each call in `seen`."""

    def __init__(self, conf: Any) -> None:
        self.conf = conf
        self.seen: list[Any] = []
        self.released = threading.Event()

    def echo(self, context: RpcContext, value: Any) -> Any:
        self.seen.append(value)
        return value

    def no_arguments(self, context: RpcContext) -> str:
        self.seen.append("no arguments")
        return "none"

    def who(self, context: RpcContext) -> dict[str, Any]:
        return context.to_dict()

    def three_by_generator(self, context: RpcContext, value: int) -> Iterator[int]:
        yield from (value, value + 1, value + 2)

    def three_by_reply(self, context: RpcContext, value: int) -> None:
        for number in (value, value + 1, value + 2):
            context.reply(number)
        context.reply(ending=True)

    def three_nones(self, context: RpcContext) -> Iterator[None]:
        yield from (None, None, None)

    def fails(self, context: RpcContext, value: Any) -> None:
        raise ValueError(value)

    def exceeds(self, context: RpcContext, value: Any) -> None:
        raise QuotaExceeded(value)

    def leaves(self, context: RpcContext) -> None:
        raise SystemExit(3)

    def blocks(self, context: RpcContext) -> str:
        self.seen.append("blocks")
        self.released.wait(PATIENCE)
        return "late"

    def passes_on(self, context: RpcContext, target: str, request: dict[str, Any]) -> Any:
        return impl_zmq.call(self.conf, context, target, request, timeout=PATIENCE)

    def returns_object(self, context: RpcContext) -> Any:
        return {"server": object()}

    def returns_much(self, context: RpcContext) -> str:
        return "x" * MAX_MESSAGE

    def process_notification(self, context: RpcContext, message: dict[str, Any]) -> None:
        self.seen.append(message)


@pytest.fixture(scope="module")
def three_hosts() -> Iterator[list[Receiver]]:
    with hosts(["control1", "compute1", "compute2"], RING, rpc_zmq_max_message_size=MAX_MESSAGE) as running:
        yield running


@pytest.fixture
def conf(three_hosts: list[Receiver]) -> Any:
    """The options of control1, where the calls come from."""
    return three_hosts[0].conf


@contextlib.contextmanager
def serving(receiver: Receiver, *topics: str) -> Iterator[Service]:
    service = Service(receiver.conf)
    with impl_zmq.create_connection(receiver.conf) as connection:
        for topic in topics:
            connection.create_consumer(topic, service)
            connection.create_consumer(f"{topic}.{receiver.host}", service)
            connection.create_consumer(topic, service, fanout=True)
        connection.consume_in_thread()
        try:
            yield service
        finally:
            service.released.set()


@pytest.fixture
def service(three_hosts: list[Receiver]) -> Iterator[Service]:
    """A service on compute1."""
    with serving(three_hosts[1], "test", "nested", "all") as running:
        yield running


@pytest.fixture(params=["bare", "directed", "directed to nobody known", "with a trailing dot"])
def topic(request: pytest.FixtureRequest) -> str:
    """The same topic in each of its writings."""
    return {"bare": "test", "directed": "test.compute1", "directed to nobody known": "test.None", "with a trailing dot": "test."}[request.param]


def call(conf: Any, topic: str, method: str, /, context: Any = None, timeout: float = PATIENCE, **args: Any) -> Any:
    return impl_zmq.call(conf, context, topic, {"method": method, "args": args}, timeout)


def multicall(conf: Any, topic: str, method: str, /, **args: Any) -> list[Any]:
    return impl_zmq.multicall(conf, None, topic, {"method": method, "args": args}, PATIENCE)


@pytest.mark.parametrize("value", [42, None, "ünïcödé\0\ud800", {"a": [1.5, {"b": False}]}, [], "x" * 50_000])
def test_echo(conf: Any, service: Service, topic: str, value: Any) -> None:
    assert call(conf, topic, "echo", value=value) == value


def test_arguments_arrive_as_json_has_them(conf: Any, service: Service) -> None:
    assert call(conf, "test", "echo", value={"at": dt.datetime(2026, 11, 21, tzinfo=dt.UTC), "ids": (1, 2)}) == {
        "at": "2026-11-21T00:00:00+00:00",
        "ids": [1, 2],
    }


def test_arguments_may_be_left_out(conf: Any, service: Service, topic: str) -> None:
    assert impl_zmq.call(conf, None, topic, {"method": "no_arguments"}, PATIENCE) == "none"
    impl_zmq.cast(conf, None, topic, {"method": "no_arguments"})
    wait_until(lambda: len(service.seen) == 2, "the cast arrived")


def test_multicall_of_one_value(conf: Any, service: Service, topic: str) -> None:
    assert multicall(conf, topic, "echo", value=42) == [42]


@pytest.mark.parametrize("method", ["three_by_generator", "three_by_reply"])
def test_of_three_values_multicall_returns_all_and_call_the_last(conf: Any, service: Service, topic: str, method: str) -> None:
    assert multicall(conf, topic, method, value=42) == [42, 43, 44]
    assert call(conf, topic, method, value=42) == 44


def test_multicall_of_three_nones(conf: Any, service: Service, topic: str) -> None:
    assert multicall(conf, topic, "three_nones") == [None, None, None]


def test_the_context_arrives_as_it_was_sent(conf: Any, service: Service, topic: str) -> None:
    context = RpcContext(user_id="u", is_admin=True, roles=["admin"], quota=None)
    assert call(conf, topic, "who", context) == context.to_dict()


def test_an_exception_of_an_allowed_module_is_raised_by_its_class(conf: Any, service: Service, topic: str) -> None:
    with pytest.raises(ValueError, match=r"^42\nTraceback[^$]*raise ValueError\(value\)") as caught:
        call(conf, topic, "fails", value=42)
    assert type(caught.value).__name__ == "ValueError_Remote"
    assert caught.value.args == (42,)


def test_any_other_exception_is_a_remote_error(conf: Any, service: Service, topic: str) -> None:
    with pytest.raises(RemoteError) as caught:
        call(conf, topic, "exceeds", value=42)
    assert caught.value.exc_type == "QuotaExceeded"
    assert int(caught.value.value or "") == 42
    assert "raise QuotaExceeded(value)" in (caught.value.traceback or "")


def test_nested_calls_carry_the_context_on(conf: Any, service: Service, topic: str) -> None:
    inner = {"target": "nested.compute1", "request": {"method": "who", "args": {}}}
    outer = {"method": "passes_on", "args": inner}
    assert call(conf, topic, "passes_on", {"user_id": "u"}, target="nested", request=outer) == {"user_id": "u"}


def test_exceptions_of_nested_calls_keep_their_class(conf: Any, service: Service, topic: str) -> None:
    with pytest.raises(ValueError, match=r"^42\n") as caught:
        call(conf, topic, "passes_on", target="nested", request={"method": "fails", "args": {"value": 42}})
    assert type(caught.value).__name__ == "ValueError_Remote"
    with pytest.raises(RemoteError) as other:
        call(conf, topic, "passes_on", target="nested", request={"method": "exceeds", "args": {"value": 42}})
    assert (other.value.exc_type, other.value.value) == ("QuotaExceeded", "42")


def test_a_call_that_takes_too_long_times_out(conf: Any, service: Service, topic: str) -> None:
    with pytest.raises(Timeout, match=r"^no answer to method 'blocks' on topic '.*' within 0\.5 s") as caught:
        call(conf, topic, "blocks", timeout=0.5)
    assert (caught.value.method, caught.value.seconds) == ("blocks", 0.5)
    service.released.set()
    assert call(conf, topic, "echo", value=1) == 1
    assert service.seen == ["blocks", 1]


def test_a_cast_runs_once(conf: Any, service: Service, topic: str) -> None:
    impl_zmq.cast(conf, None, topic, {"method": "echo", "args": {"value": 7}})
    wait_until(lambda: service.seen, "the cast arrived")
    assert call(conf, topic, "echo", value=8) == 8
    assert service.seen == [7, 8]


def test_casts_to_a_host_keep_their_order(conf: Any, service: Service) -> None:
    """In the order in which they are handed over; how the threads of a pool then go on is another matter, so there is one thread."""
    service.conf.set_override("rpc_thread_pool_size", 1)
    impl_zmq.cleanup()
    try:
        with impl_zmq.create_connection(service.conf) as connection:
            connection.create_consumer("test", service)
            connection.consume_in_thread()
            for number in range(200):
                impl_zmq.cast(conf, None, "test.compute1", {"method": "echo", "args": {"value": number}})
            wait_until(lambda: len(service.seen) == 200, "all casts arrived")
    finally:
        service.conf.clear_override("rpc_thread_pool_size")
    assert service.seen == list(range(200))


def test_a_fanout_reaches_each_host_once(conf: Any, three_hosts: list[Receiver], service: Service) -> None:
    with serving(three_hosts[2], "all") as other:
        wait_until(lambda: can_reach(conf, "all.compute2"), "compute2 answers")
        impl_zmq.fanout_cast(conf, None, "all", {"method": "echo", "args": {"value": "to all"}})
        wait_until(lambda: service.seen and other.seen, "the fanout arrived")
        for host in ("compute1", "compute2"):
            call(conf, f"all.{host}", "echo", value="after")
    assert service.seen == ["to all", "after"]
    assert other.seen == ["to all", "after"]


def can_reach(conf: Any, topic: str) -> bool:
    try:
        impl_zmq.ping(conf, topic, 1.0)
    except Timeout:
        return False
    return True


def test_a_bare_topic_goes_round_the_hosts(conf: Any, three_hosts: list[Receiver], service: Service) -> None:
    with serving(three_hosts[2], "all") as other:
        wait_until(lambda: {impl_zmq.ping(conf, "all", PATIENCE)["host"] for _turn in range(2)} == {"compute1", "compute2"}, "both are known")
        answered = [impl_zmq.ping(conf, "all", PATIENCE)["host"] for _number in range(6)]
    assert sorted(answered) == ["compute1"] * 3 + ["compute2"] * 3
    assert other.seen == []


def test_a_notification_arrives_at_the_topic_with_dashes(conf: Any, three_hosts: list[Receiver]) -> None:
    with serving(three_hosts[2], "notifications-info") as other:
        impl_zmq.notify(conf, {"user": "u"}, "notifications.info", {"event_type": "create", "payload": {"id": 1}})
        wait_until(lambda: other.seen, "the notification arrived")
    assert other.seen == [{"event_type": "create", "payload": {"id": 1}}]


def test_a_ping_names_the_host_that_answers(conf: Any, service: Service, topic: str) -> None:
    assert impl_zmq.ping(conf, topic, PATIENCE) == {"host": "compute1", "pid": os.getpid()}


def test_a_message_for_another_host_is_not_consumed_here(conf: Any, service: Service) -> None:
    with pytest.raises(Timeout, match=r"on topic 'test\.compute2' within 1 s: "):
        call(conf, "test.compute2", "echo", timeout=1, value=1)
    assert service.seen == []


def test_a_call_to_an_unknown_topic_says_which_and_who_does_not_know_it(conf: Any, service: Service) -> None:
    with pytest.raises(Timeout, match=r"on topic 'unknown' within 2 s: MatchMaker fanout-ring .*ring\.json.* has no host for topic 'unknown'"):
        call(conf, "unknown", "echo", timeout=2, value=1)


@pytest.mark.parametrize("bad", ["a/b", "..", "a\\b", "a\0b", "a b", "x" * 300, "", ".", "test.a/b"])
def test_a_bad_topic_is_refused(conf: Any, service: Service, bad: str) -> None:
    for function in (impl_zmq.call, impl_zmq.cast, impl_zmq.fanout_cast):
        with pytest.raises(TopicError):
            function(conf, None, bad, {"method": "echo", "args": {"value": 1}})
    assert service.seen == []


def test_what_cannot_be_sent_is_not_sent(conf: Any, service: Service, topic: str) -> None:
    for function in (impl_zmq.call, impl_zmq.cast):
        with pytest.raises(TypeError, match=r"^args\['value'\]\['image'\] is of type object"):
            function(conf, None, topic, {"method": "echo", "args": {"value": {"image": object()}}})
    with pytest.raises(NotSent, match=r"larger than rpc_zmq_max_message_size, 100000"):
        call(conf, topic, "echo", value="x" * MAX_MESSAGE)
    assert call(conf, topic, "echo", value=1) == 1
    assert service.seen == [1]


def test_a_result_that_cannot_be_sent_is_a_failure_at_the_caller(conf: Any, service: Service, topic: str) -> None:
    with pytest.raises(Unserialisable, match=r"^what method 'returns_object' returned can't be sent: value 0\['server'\] is of type object"):
        call(conf, topic, "returns_object")
    with pytest.raises(ResultTooLarge, match=r"^what method 'returns_much' returned makes 100026 bytes; at most 100000 can be sent"):
        call(conf, topic, "returns_much")


def test_a_method_or_a_version_that_is_not_there_is_told(conf: Any, service: Service, topic: str) -> None:
    for method in ("nothing", "_private", "__init__", "-reply", "seen"):
        with pytest.raises(NoSuchMethod):
            call(conf, topic, method)
    with pytest.raises(TypeError, match="unexpected keyword argument 'valve'"):
        call(conf, topic, "echo", valve=1)
    with pytest.raises(UnsupportedRpcVersion):
        impl_zmq.call(conf, None, topic, {"method": "echo", "args": {"value": 1}, "version": "2.0"}, PATIENCE)
    assert service.seen == []


def test_a_consumer_survives_what_its_methods_raise(conf: Any, service: Service, topic: str) -> None:
    for _attempt in range(2):
        with pytest.raises(RemoteError) as caught:
            call(conf, topic, "leaves")
        assert caught.value.exc_type == "SystemExit"
        impl_zmq.cast(conf, None, topic, {"method": "leaves"})
        impl_zmq.cast(conf, None, topic, {"method": "fails", "args": {"value": 1}})
    assert call(conf, topic, "echo", value=42) == 42


@pytest.mark.parametrize("body", [b"", b"\xff\x00", b"[" * 50_000, b'{"format": 1}', b'{"format": 2, "message": {}}', b'{"format": 1, "message": 3}'])
def test_a_consumer_survives_what_is_no_message(conf: Any, service: Service, body: bytes) -> None:
    failure = decode_reply(process_connection(conf).call(Address("test"), body, PATIENCE))
    assert isinstance(failure, Failure)
    assert failure.class_name in ("MalformedBody", "UnsupportedRpcEnvelopeVersion")
    process_connection(conf).cast(Address("test"), body, PATIENCE)
    assert call(conf, "test", "echo", value=42) == 42


def test_calls_of_many_threads_get_their_own_answers(conf: Any, service: Service) -> None:
    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(lambda number: call(conf, "test", "echo", value=number), range(200))) == list(range(200))


def test_a_connection_that_was_closed_consumes_no_more(conf: Any, three_hosts: list[Receiver]) -> None:
    with serving(three_hosts[1], "test") as first:
        assert call(conf, "test", "echo", value=1) == 1
    with pytest.raises(Timeout):
        call(conf, "test", "echo", timeout=1, value=2)
    with serving(three_hosts[1], "test") as second:
        assert call(conf, "test", "echo", value=3) == 3
    assert (first.seen, second.seen) == ([1], [3])


def test_a_request_whose_time_is_over_is_not_run(conf: Any, three_hosts: list[Receiver], caplog: pytest.LogCaptureFixture) -> None:
    compute1 = three_hosts[1]
    compute1.conf.set_override("rpc_thread_pool_size", 1)
    try:
        with serving(compute1, "test") as service:
            impl_zmq.cast(conf, None, "test", {"method": "blocks"})
            wait_until(lambda: service.seen == ["blocks"], "the only thread is busy")
            # The clock of the service runs from when the request arrives, so the first one's time is surely over there when the second one's is here.
            for value in ("too late", "perhaps"):
                with pytest.raises(Timeout):
                    call(conf, "test", "echo", timeout=0.5, value=value)
            service.released.set()
            assert call(conf, "test", "echo", value="in time") == "in time"
        assert [seen for seen in service.seen if seen != "perhaps"] == ["blocks", "in time"]
        assert "Not run: method 'echo' on topic test" in caplog.text
    finally:
        compute1.conf.clear_override("rpc_thread_pool_size")
