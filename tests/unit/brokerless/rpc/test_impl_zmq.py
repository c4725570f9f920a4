# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What the RPC functions decide: addresses, bodies, times and exceptions. Messages that travel are in tests/functional/rpc/test_impl_zmq.py."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from brokerless.rpc import impl_zmq
from brokerless.rpc.driver.connection import NotAccepted, NotAnswered, process_connection
from brokerless.rpc.errors import InvalidRPCConnectionReuse, NotSent, RemoteError, Timeout
from brokerless.rpc.json_bodies import Request, decode_request, encode_failure, encode_values
from brokerless.rpc.options import load_options
from brokerless.rpc.remote_exceptions import Failure
from brokerless.rpc.topics import Address, TopicError
from oslo_config import cfg

HOST = "control1"


@dataclass
class RecordedSubscription:
    addresses: list[str]
    on_close: Callable[[], None]
    closed: bool = False

    def close(self) -> None:
        self.closed = True
        self.on_close()


@dataclass
class RecordingDriver:
    """Stands in for the driver's connection: it notes what it is told, and answers a call with `answer`."""

    answer: bytes | Exception = field(default_factory=lambda: encode_values([None]))
    calls: list[tuple[str, Request, float]] = field(default_factory=list)
    casts: list[tuple[str, Request, float, bool]] = field(default_factory=list)
    subscriptions: list[RecordedSubscription] = field(default_factory=list)
    host: str = HOST

    def call(self, address: Address, body: bytes, timeout: float) -> bytes:
        self.calls.append((str(address), decode_request(body), timeout))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def cast(self, address: Address, body: bytes, ttl: float, notification: bool = False) -> None:
        if isinstance(self.answer, Exception):
            raise self.answer
        self.casts.append((str(address), decode_request(body), ttl, notification))

    def subscribe(self, addresses: Iterable[Address], handler: object) -> RecordedSubscription:
        self.subscriptions.append(RecordedSubscription([str(address) for address in addresses], lambda: None))
        return self.subscriptions[-1]


@pytest.fixture
def conf(tmp_path: Path) -> cfg.ConfigOpts:
    file = tmp_path / "b.conf"
    file.write_text(f"[DEFAULT]\nrpc_zmq_host = {HOST}\nrpc_response_timeout = 7\nrpc_cast_timeout = 9\nrpc_zmq_ipc_dir = {tmp_path}\n")
    return load_options([str(file)])


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> RecordingDriver:
    recording = RecordingDriver()
    monkeypatch.setattr(impl_zmq, "process_connection", lambda _conf: recording)
    return recording


@pytest.mark.parametrize(
    ("topic", "address"),
    [
        ("compute", "compute"),
        ("compute.None", "compute"),
        ("compute.", "compute"),
        ("compute.machine1", "compute.machine1"),
        ("compute.m1.lab.example.com", "compute.m1.lab.example.com"),
        ("compute.None.", "compute.None"),
    ],
)
def test_a_message_goes_where_the_topic_says(conf: cfg.ConfigOpts, driver: RecordingDriver, topic: str, address: str) -> None:
    message = {"method": "echo", "args": {"value": 42}}
    impl_zmq.call(conf, {"user": "u"}, topic, message)
    impl_zmq.cast(conf, {"user": "u"}, topic, message)
    request = Request({"user": "u"}, message, "echo", {"value": 42}, "1.0", None)
    assert driver.calls == [(address, request, 7.0)]
    assert driver.casts == [(address, request, 9.0, False)]


def test_a_fanout_goes_to_all_and_is_never_called(conf: cfg.ConfigOpts, driver: RecordingDriver) -> None:
    impl_zmq.fanout_cast(conf, None, "compute", {"method": "a"}, timeout=2)
    impl_zmq.fanout_cast(conf, None, "fanout~compute", {"method": "a"}, unknown="ignored")
    impl_zmq.cast(conf, None, "fanout~compute", {"method": "a"})
    assert [(address, ttl) for address, _request, ttl, _notification in driver.casts] == [
        ("fanout~compute", 2.0),
        ("fanout~compute", 9.0),
        ("fanout~compute", 9.0),
    ]
    with pytest.raises(TopicError, match="fanout of topic 'compute' can't be directed to server 'machine1'"):
        impl_zmq.fanout_cast(conf, None, "compute.machine1", {"method": "a"})
    with pytest.raises(TopicError, match="topic 'fanout~compute' is a fanout, which can't be called"):
        impl_zmq.call(conf, None, "fanout~compute", {"method": "a"})


def test_a_notification_has_dashes_for_dots_and_needs_no_method(conf: cfg.ConfigOpts, driver: RecordingDriver) -> None:
    impl_zmq.notify(conf, None, "notifications.info", {"event_type": "create"}, True)
    assert driver.casts == [("notifications-info", Request({}, {"event_type": "create"}, None, {}, "1.0", None), 3600.0, True)]


def test_call_returns_the_last_value_and_multicall_all(conf: cfg.ConfigOpts, driver: RecordingDriver) -> None:
    for values, last in [([1, 2, 3], 3), ([None], None), ([], None), ([[1, 2]], [1, 2])]:
        driver.answer = encode_values(values)
        assert impl_zmq.call(conf, None, "test", {"method": "a"}) == last
        assert impl_zmq.multicall(conf, None, "test", {"method": "a"}) == values


def test_a_timeout_of_the_caller_goes_before_the_option(conf: cfg.ConfigOpts, driver: RecordingDriver) -> None:
    impl_zmq.multicall(conf, None, "test", {"method": "a"}, 1, True)
    impl_zmq.call(conf, None, "test", {"method": "a"}, timeout=0.5, envelope=True)
    impl_zmq.cast(conf, None, "test", {"method": "a"}, 2.5)
    assert [call[2] for call in driver.calls] == [1.0, 0.5]
    assert driver.casts[0][2] == 2.5


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "5", True])
def test_a_timeout_that_is_no_time_is_refused(conf: cfg.ConfigOpts, driver: RecordingDriver, timeout: Any) -> None:
    for function in (impl_zmq.call, impl_zmq.cast):
        with pytest.raises(ValueError, match="timeout must be a positive number of seconds"):
            function(conf, None, "test", {"method": "a"}, timeout)
    assert (driver.calls, driver.casts) == ([], [])


def test_nothing_is_sent_of_what_cannot_be_sent(conf: cfg.ConfigOpts, driver: RecordingDriver) -> None:
    message = {"method": "a", "args": {"instance": {"disks": [object()]}}}
    for function in (impl_zmq.call, impl_zmq.multicall, impl_zmq.cast, impl_zmq.fanout_cast, impl_zmq.notify):
        with pytest.raises(TypeError, match=r"^args\['instance'\]\['disks'\]\[0\] is of type object, which JSON can't carry$"):
            function(conf, None, "test", message)
        with pytest.raises(TopicError, match="contains '/'"):
            function(conf, None, "a/b", {"method": "a"})
    assert (driver.calls, driver.casts) == ([], [])


def test_no_answer_is_a_timeout_that_says_what_and_why(conf: cfg.ConfigOpts, driver: RecordingDriver) -> None:
    driver.answer = NotAnswered("MatchMaker ring knows no host")
    with pytest.raises(Timeout, match=r"^no answer to method 'echo' on topic 'compute\.m1' within 0\.5 s: MatchMaker ring knows no host$") as caught:
        impl_zmq.call(conf, None, "compute.m1", {"method": "echo"}, 0.5)
    assert (caught.value.topic, caught.value.method, caught.value.seconds) == ("compute.m1", "echo", 0.5)


def test_a_message_that_is_refused_is_not_sent(conf: cfg.ConfigOpts, driver: RecordingDriver) -> None:
    driver.answer = NotAccepted("too large")
    for function in (impl_zmq.call, impl_zmq.cast):
        with pytest.raises(NotSent, match=r"^not sent: method 'echo' for topic 'compute': too large$"):
            function(conf, None, "compute", {"method": "echo"})
    with pytest.raises(NotSent, match=r"^not sent: message for topic 'notifications': too large$"):
        impl_zmq.notify(conf, None, "notifications", {})


def test_a_failure_is_raised_by_its_class_if_the_option_allows(conf: cfg.ConfigOpts, driver: RecordingDriver) -> None:
    driver.answer = encode_failure(Failure("ValueError", "builtins", "42", ["42"], traceback="Traceback"))
    with pytest.raises(ValueError, match=r"^42\nTraceback$"):
        impl_zmq.call(conf, None, "test", {"method": "a"})
    conf.set_override("allowed_rpc_exception_modules", [])
    with pytest.raises(RemoteError) as caught:
        impl_zmq.multicall(conf, None, "test", {"method": "a"})
    assert (caught.value.exc_type, caught.value.value, caught.value.traceback) == ("ValueError", "42", "Traceback")


def test_options_are_registered_where_they_are_needed(driver: RecordingDriver) -> None:
    conf = cfg.ConfigOpts()
    conf([])
    impl_zmq.cast(conf, None, "test", {"method": "a"})
    assert driver.casts[0][2] == 30.0
    impl_zmq.register_opts(conf)
    impl_zmq.register_opts(conf)


def test_a_ping_asks_the_consumer_who_it_is(conf: cfg.ConfigOpts, driver: RecordingDriver) -> None:
    driver.answer = encode_values([{"host": "m1", "pid": 7}])
    assert impl_zmq.ping(conf, "compute.m1", 2.0) == {"host": "m1", "pid": 7}
    assert driver.calls[0][1].method == "-ping"


@pytest.fixture
def connection(conf: cfg.ConfigOpts, driver: RecordingDriver) -> Iterator[impl_zmq.Connection]:
    with impl_zmq.create_connection(conf, new=False) as made:
        yield made


def subscribed(driver: RecordingDriver) -> list[list[str]]:
    return [subscription.addresses for subscription in driver.subscriptions]


def test_the_three_consumers_of_a_service(connection: impl_zmq.Connection, driver: RecordingDriver) -> None:
    connection.create_consumer("compute", object())
    connection.create_consumer(f"compute.{HOST}", object())
    connection.create_consumer("compute", object(), fanout=True)
    assert subscribed(driver) == []
    connection.consume_in_thread()
    assert subscribed(driver) == [["compute", f"compute.{HOST}"], ["fanout~compute"]]
    connection.consume_in_thread()
    assert len(driver.subscriptions) == 2


@pytest.mark.parametrize(
    ("topic", "fanout", "addresses"),
    [
        (f"compute.{HOST}", False, ["compute", f"compute.{HOST}"]),
        ("compute.None", False, ["compute", f"compute.{HOST}"]),
        ("volume.control1@lvm", False, ["volume.control1@lvm"]),
        ("compute.other", False, ["compute.other"]),
        ("fanout~compute", False, ["fanout~compute"]),
        (f"compute.{HOST}", True, ["fanout~compute"]),
    ],
)
def test_what_a_topic_of_a_consumer_means(
    connection: impl_zmq.Connection, driver: RecordingDriver, topic: str, fanout: bool, addresses: list[str]
) -> None:
    connection.create_consumer(topic, object(), fanout)
    connection.consume_in_thread()
    assert subscribed(driver) == [addresses]


def test_a_consumer_may_be_added_later(connection: impl_zmq.Connection, driver: RecordingDriver) -> None:
    connection.create_consumer("compute", object())
    connection.consume_in_thread()
    connection.create_consumer("compute.other", object())
    connection.consume_in_thread()
    assert subscribed(driver) == [["compute", f"compute.{HOST}"], ["compute.other"]]


def test_a_bad_topic_is_refused_when_the_consumer_is_created(connection: impl_zmq.Connection) -> None:
    with pytest.raises(TopicError):
        connection.create_consumer("../compute", object())


def test_close_ends_the_consumers_and_wait(connection: impl_zmq.Connection, driver: RecordingDriver) -> None:
    connection.create_consumer("compute", object())
    connection.consume_in_thread()
    waiting = threading.Thread(target=connection.wait)
    waiting.start()
    assert waiting.is_alive()
    connection.close()
    waiting.join(30)
    assert not waiting.is_alive()
    assert [subscription.closed for subscription in driver.subscriptions] == [True]
    connection.wait()
    connection.close()


def test_a_closed_connection_is_not_used_again(connection: impl_zmq.Connection, driver: RecordingDriver) -> None:
    connection.create_consumer("compute", object())
    connection.close()
    for use in (lambda: connection.create_consumer("compute", object()), connection.consume_in_thread, connection.__enter__):
        with pytest.raises(InvalidRPCConnectionReuse, match="the connection was closed"):
            use()
    assert driver.subscriptions == []


def test_close_in_the_midst_of_consume_in_thread_leaves_no_consumer(connection: impl_zmq.Connection, driver: RecordingDriver) -> None:
    """As a signal's handler does it, which runs in the thread that it interrupts."""
    recorded = driver.subscribe

    def interrupted(addresses: Iterable[Address], handler: object) -> RecordedSubscription:
        connection.close()
        return recorded(addresses, handler)

    driver.subscribe = interrupted  # type: ignore[method-assign]
    connection.create_consumer("compute", object())
    connection.create_consumer("volume", object())
    connection.consume_in_thread()
    assert [(subscription.addresses[0], subscription.closed) for subscription in driver.subscriptions] == [("compute", True)]


def test_cleanup_makes_the_next_use_connect_anew(conf: cfg.ConfigOpts) -> None:
    first = process_connection(conf)
    assert process_connection(conf) is first
    impl_zmq.cleanup()
    assert process_connection(conf) is not first
    impl_zmq.cleanup()
    impl_zmq.cleanup()
