# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What is promised of messages, with real receivers that are stopped and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from brokerless.rpc.driver.connection import Connection, Incoming, NotAccepted, NotAnswered
from brokerless.rpc.topics import Address, parse_topic
from receiver_process import Receiver, hosts, runtime_environment, wait_until

RING = {"compute": ["compute1", "compute2"]}
COMPUTE1 = parse_topic("compute.compute1")
TTL = 60.0


class Consumer:
    """Takes down what it is given, and answers with the name of its host and the body."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.bodies: list[bytes] = []

    def __call__(self, incoming: Incoming) -> None:
        self.bodies.append(incoming.body)
        incoming.reply(self.connection.host.encode() + b" " + incoming.body)

    def serve(self, *topics: str) -> Consumer:
        self.connection.subscribe([parse_topic(topic) for topic in topics], self)
        return self


@contextmanager
def connected(receiver: Receiver, **settings: int) -> Iterator[Connection]:
    connection = Connection(str(receiver.ipc_directory), receiver.host, heartbeat=0.2, **settings)
    try:
        yield connection
    finally:
        connection.close(timeout=2.0)


class Cloud:
    """Three hosts, a sender on one and a consumer on each of the others."""

    def __init__(self, stack: ExitStack) -> None:
        self.control, self.compute1, self.compute2 = stack.enter_context(hosts(["control1", "compute1", "compute2"], RING))
        self.sender = stack.enter_context(connected(self.control))
        self.consumers = [
            Consumer(stack.enter_context(connected(receiver))).serve("compute", f"compute.{receiver.host}", "fanout~compute")
            for receiver in (self.compute1, self.compute2)
        ]
        for host in ("compute1", "compute2"):
            self.sender.call(parse_topic(f"compute.{host}"), b"are you there", 30.0)
            wait_until(lambda host=host: self._is_up(host), f"{host} is up")
        for consumer in self.consumers:
            consumer.bodies.clear()

    def _is_up(self, host: str) -> bool:
        return any(known["host"] == host and known["state"] == "up" for known in self.sender.inspect("route", "compute")["hosts"])


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with ExitStack() as stack:
        yield Cloud(stack)


def numbered(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


def test_calls_go_round_and_fanouts_reach_all(cloud: Cloud) -> None:
    answers = [cloud.sender.call(Address("compute"), b"x", 30.0).split()[0] for _turn in range(6)]
    assert sorted(answers[:2]) == [b"compute1", b"compute2"]
    assert answers == answers[:2] * 3
    cloud.sender.cast(Address("compute", fanout=True), b"to all", TTL)
    for consumer in cloud.consumers:
        wait_until(lambda consumer=consumer: b"to all" in consumer.bodies, "the fanout arrived")
    assert cloud.sender.settle(30.0) == 0


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("whose", ["control", "compute1"])
def test_no_cast_is_lost_doubled_or_out_of_order_when_a_receiver_goes_and_comes(cloud: Cloud, whose: str, end: str) -> None:
    receiver: Receiver = getattr(cloud, whose)
    bodies = numbered(600)
    for number, body in enumerate(bodies):
        cloud.sender.cast(COMPUTE1, body, TTL)
        if number == 200:
            getattr(receiver, end)()
        if number == 400:
            receiver.start()
    assert cloud.sender.settle(TTL) == 0
    taken = cloud.consumers[0].bodies
    assert len(taken) == len(bodies)
    assert set(taken) == set(bodies)


def test_a_directed_topic_keeps_its_order(cloud: Cloud) -> None:
    with connected(cloud.compute1, pool_size=1) as connection:
        consumer = Consumer(connection).serve("volume.compute1")
        for number, body in enumerate(numbered(300)):
            cloud.sender.cast(parse_topic("volume.compute1"), body, TTL)
            if number == 100:
                cloud.compute1.kill()
                cloud.compute1.start()
        assert cloud.sender.settle(TTL) == 0
        wait_until(lambda: len(consumer.bodies) == 300, "all were worked off")
        assert consumer.bodies == numbered(300)


def test_bare_calls_go_on_when_a_host_dies(cloud: Cloud) -> None:
    cloud.compute1.kill()
    wait_until(lambda: not cloud._is_up("compute1"), "the death is noticed")
    answers = {cloud.sender.call(Address("compute"), b"x", 30.0) for _turn in range(10)}
    assert answers == {b"compute2 x"}


def test_without_a_receiver_a_call_times_out_and_says_so_and_works_when_it_is_back(cloud: Cloud) -> None:
    cloud.control.stop()
    with pytest.raises(NotAnswered, match=r"there is no receiver at .*receiver\.sock: is brokerless-receiver running"):
        cloud.sender.call(COMPUTE1, b"x", 0.5)
    cloud.control.start()
    assert cloud.sender.call(COMPUTE1, b"x", 30.0) == b"compute1 x"


def test_a_frozen_receiver_is_named_as_the_reason(cloud: Cloud) -> None:
    cloud.control.signal(signal.SIGSTOP)
    try:
        with pytest.raises(NotAnswered, match="has been silent for"):
            cloud.sender.call(COMPUTE1, b"x", 2.0)
    finally:
        cloud.control.signal(signal.SIGCONT)
    assert cloud.sender.call(COMPUTE1, b"x", 30.0) == b"compute1 x"


def test_unknown_topics_are_explained(cloud: Cloud) -> None:
    with pytest.raises(NotAnswered, match=r"MatchMaker fanout-ring \(.*ring\.json\) has no host for topic 'nonsense'"):
        cloud.sender.call(Address("nonsense"), b"x", 0.5)
    with pytest.raises(NotAnswered, match="has no host for topic 'volume'"):
        cloud.sender.call(Address("volume"), b"x", 0.5)


def test_what_is_too_large_is_refused_at_the_sender(cloud: Cloud) -> None:
    with connected(cloud.control, max_message=2000) as small, pytest.raises(NotAccepted, match="2001 bytes"):
        small.cast(COMPUTE1, b"x" * 2001, TTL)


def test_a_full_backlog_makes_the_sender_wait(cloud: Cloud) -> None:
    with connected(cloud.control, backlog=3) as small:
        address = parse_topic("nobody.compute1")
        for body in numbered(3):
            small.cast(address, body, 1.0)
        with pytest.raises(NotAccepted, match=r"the backlog of nobody\.compute1 was full"):
            small.cast(address, b"one too many", 0.2)
        small.cast(COMPUTE1, b"others are not concerned", TTL)
        wait_until(lambda: b"others are not concerned" in cloud.consumers[0].bodies, "another topic goes on")


def test_the_thread_pool_is_the_bound(cloud: Cloud) -> None:
    with connected(cloud.compute1, pool_size=3) as connection:
        lock, gate = threading.Lock(), threading.Event()
        working, most, done = 0, 0, 0

        def work(_incoming: Incoming) -> None:
            nonlocal working, most, done
            with lock:
                working += 1
                most = max(most, working)
            gate.wait(30)
            with lock:
                working -= 1
                done += 1

        connection.subscribe([parse_topic("volume.compute1")], work)
        for body in numbered(30):
            cloud.sender.cast(parse_topic("volume.compute1"), body, TTL)
        wait_until(lambda: working == 3, "the pool is full")
        gate.set()
        wait_until(lambda: done == 30, "all is worked off")
        assert most == 3


def test_a_failing_consumer_goes_on(cloud: Cloud) -> None:
    seen: list[bytes] = []

    def fail(incoming: Incoming) -> None:
        seen.append(incoming.body)
        raise RuntimeError("no luck")

    with connected(cloud.compute1) as connection:
        connection.subscribe([parse_topic("volume.compute1")], fail)
        for body in numbered(5):
            cloud.sender.cast(parse_topic("volume.compute1"), body, TTL)
        wait_until(lambda: len(seen) == 5, "all were tried")


def test_a_closed_subscription_gets_no_more(cloud: Cloud) -> None:
    with connected(cloud.compute1) as connection:
        consumer = Consumer(connection)
        subscription = connection.subscribe([parse_topic("volume.compute1")], consumer)
        cloud.sender.cast(parse_topic("volume.compute1"), b"first", TTL)
        wait_until(lambda: consumer.bodies == [b"first"], "the first arrived")
        subscription.close()
        with pytest.raises(NotAnswered, match=r"has no consumer of volume\.compute1"):
            cloud.sender.call(parse_topic("volume.compute1"), b"second", 0.5)
        assert consumer.bodies == [b"first"]


def test_a_request_that_is_worked_on_when_its_process_ends_is_still_answered(cloud: Cloud) -> None:
    started, gate = threading.Event(), threading.Event()
    answers: list[bytes] = []

    def work(incoming: Incoming) -> None:
        started.set()
        gate.wait(30)
        incoming.reply(b"done")

    with connected(cloud.compute1) as connection:
        connection.subscribe([parse_topic("volume.compute1")], work)
        caller = threading.Thread(target=lambda: answers.append(cloud.sender.call(parse_topic("volume.compute1"), b"x", 30.0)))
        caller.start()
        assert started.wait(30)
        closing = threading.Thread(target=connection.close, args=(30.0,))
        closing.start()
        wait_until(lambda: consumers_of(cloud.compute1, "volume.compute1", cloud.consumers[0].connection) == 0, "it consumes no more")
        gate.set()
        caller.join(30)
        closing.join(30)
    assert answers == [b"done"]


FORKING = """
import os, sys
from brokerless.rpc import impl_zmq
from brokerless.rpc.options import load_options
from brokerless.rpc.driver.connection import process_connection
from brokerless.rpc.topics import parse_topic

conf = load_options([sys.argv[1]])
def ask(who):
    print(who, process_connection(conf).call(parse_topic("compute.compute1"), who.encode(), 30.0).decode(), flush=True)
ask("before")
child = os.fork()
if child == 0:
    ask("child")
    os._exit(0)
os.waitpid(child, 0)
ask("parent")
"""


def test_a_connection_that_was_used_before_a_fork_works_in_parent_and_child(cloud: Cloud) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FORKING, str(cloud.control.config_file)],
        capture_output=True,
        text=True,
        timeout=60,
        env=runtime_environment(),
        check=False,
    )
    assert result.stdout.splitlines() == ["before compute1 before", "child compute1 child", "parent compute1 parent"], result.stderr
    assert result.returncode == 0


CONSUMING = """
import os, sys, time
from brokerless.rpc.options import load_options
from brokerless.rpc.driver.connection import process_connection
from brokerless.rpc.topics import parse_topic

connection = process_connection(load_options([sys.argv[1]]))
connection.subscribe([parse_topic("compute")], lambda incoming: incoming.reply(b"ghost"))
print("ready", flush=True)
time.sleep(600)
"""


def test_a_killed_consumer_leaves_no_ghost(cloud: Cloud) -> None:
    command = [sys.executable, "-c", CONSUMING, str(cloud.compute1.config_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=runtime_environment()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        answers = {cloud.sender.call(Address("compute"), b"x", 30.0) for _turn in range(8)}
        assert b"ghost" in answers
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    wait_until(lambda: consumers_of(cloud.compute1, "compute", cloud.consumers[0].connection) == 1, "the receiver notices")
    assert {cloud.sender.call(Address("compute"), b"x", 30.0) for _turn in range(6)} == {b"compute1 x", b"compute2 x"}


def consumers_of(receiver: Receiver, address: str, connection: Connection) -> int:
    assert connection.host == receiver.host
    return sum(consumer["address"] == address for consumer in connection.inspect("status")["consumers"])


ENDING = """
import sys
from brokerless.rpc.options import load_options
from brokerless.rpc.driver.connection import process_connection
from brokerless.rpc.topics import parse_topic

connection = process_connection(load_options([sys.argv[1]]))
for number in range(200):
    connection.cast(parse_topic("compute.compute1"), str(number).encode(), 30.0)
"""


def test_a_process_that_ends_right_after_its_casts_loses_none(cloud: Cloud) -> None:
    subprocess.run([sys.executable, "-c", ENDING, str(cloud.control.config_file)], timeout=60, env=runtime_environment(), check=True)
    wait_until(lambda: len(cloud.consumers[0].bodies) == 200, "all arrived")
    assert sorted(cloud.consumers[0].bodies) == sorted(numbered(200))
