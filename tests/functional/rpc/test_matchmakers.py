# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The MatchMakers that learn what is consumed where, with real receivers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from brokerless.rpc.driver.connection import Connection, Incoming, NotAnswered
from brokerless.rpc.topics import parse_topic
from receiver_process import Receiver, hosts, wait_until

NAMES = ["control1", "compute1", "compute2"]
RING = {"hosts": NAMES}
KINDS = {
    "mesh": {"rpc_zmq_matchmaker": "mesh"},
    "broker": {"rpc_zmq_matchmaker": "broker", "rpc_zmq_broker_ip": "compute2"},
    "broker by its address": {"rpc_zmq_matchmaker": "MatchMakerBroker", "rpc_zmq_broker_ip": "127.0.1.3"},
    "scheduler": {"rpc_zmq_matchmaker": "scheduler", "rpc_zmq_broker_ip": "compute2"},
    "scheduler by its address": {"rpc_zmq_matchmaker": "MatchMakerTopicScheduler", "rpc_zmq_broker_ip": "127.0.1.3"},
}
TTL = 60.0


class Consumer:
    """Takes down what it is given, and answers with its name."""

    def __init__(self, connection: Connection, name: str, *topics: str) -> None:
        self.name = name
        self.bodies: list[bytes] = []
        self.subscription = connection.subscribe([parse_topic(topic) for topic in topics], self)

    def __call__(self, incoming: Incoming) -> None:
        self.bodies.append(incoming.body)
        incoming.reply(self.name.encode())


@contextmanager
def connected(receiver: Receiver) -> Iterator[Connection]:
    connection = Connection(str(receiver.ipc_directory), receiver.host, heartbeat=0.2)
    try:
        yield connection
    finally:
        connection.close(timeout=2.0)


class Cloud:
    """Three hosts that have no table of topics, and a connection to each."""

    def __init__(self, stack: ExitStack, options: dict[str, str]) -> None:
        self.receivers = dict(zip(NAMES, stack.enter_context(hosts(NAMES, RING, **options)), strict=True))
        self.at = {name: stack.enter_context(connected(receiver)) for name, receiver in self.receivers.items()}

    def ask(self, source: str, topic: str, count: int = 1) -> list[str]:
        return [self.at[source].call(parse_topic(topic), b"who", TTL).decode() for _turn in range(count)]


@pytest.fixture(params=KINDS)
def cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    with ExitStack() as stack:
        yield Cloud(stack, KINDS[request.param])


def test_consumers_are_found_used_in_turn_and_missed_when_they_go(cloud: Cloud) -> None:
    one, two = (Consumer(cloud.at[host], host, "volume", f"volume.{host}", "fanout~volume") for host in ("compute1", "compute2"))
    for source in NAMES:
        wait_until(lambda source=source: set(cloud.ask(source, "volume", 2)) == {"compute1", "compute2"}, f"both are known at {source}")
        assert Counter(cloud.ask(source, "volume", 8)) == {"compute1": 4, "compute2": 4}
        assert cloud.ask(source, "volume.compute2") == ["compute2"]
    for source in NAMES:
        cloud.at[source].cast(parse_topic("fanout~volume"), source.encode(), TTL)
    for consumer in (one, two):
        wait_until(lambda consumer=consumer: set(NAMES) <= {body.decode() for body in consumer.bodies}, f"{consumer.name} got all fanouts")
        assert len([body for body in consumer.bodies if body != b"who"]) == len(NAMES)
    one.subscription.close()
    assert set(cloud.ask("control1", "volume", 6)) == {"compute2"}


def test_a_message_waits_for_the_first_consumer(cloud: Cloud) -> None:
    connection = cloud.at["control1"]
    for number in range(5):
        connection.cast(parse_topic("volume"), str(number).encode(), TTL)
    with pytest.raises(NotAnswered, match=r"volume|broker"):
        connection.call(parse_topic("volume"), b"who", 1.5)
    consumer = Consumer(cloud.at["compute1"], "compute1", "volume")
    assert connection.settle(TTL) == 0
    assert sorted(consumer.bodies) == [b"0", b"1", b"2", b"3", b"4"]


def test_a_receiver_that_was_killed_is_known_again(cloud: Cloud) -> None:
    consumer = Consumer(cloud.at["compute1"], "compute1", "volume", "fanout~volume")
    assert cloud.ask("control1", "volume") == ["compute1"]
    for victim in ("compute1", "control1", "compute2"):
        cloud.receivers[victim].kill()
        cloud.receivers[victim].start()
        cloud.at["control1"].cast(parse_topic("fanout~volume"), victim.encode(), TTL)
        assert cloud.ask("control1", "volume") == ["compute1"]
    assert cloud.at["control1"].settle(TTL) == 0
    assert [body for body in consumer.bodies if body != b"who"] == [b"compute1", b"control1", b"compute2"]


def test_in_a_mesh_a_server_need_not_be_a_host() -> None:
    with ExitStack() as stack:
        cloud = Cloud(stack, KINDS["mesh"])
        Consumer(cloud.at["compute1"], "agent", "volume.agent-7")
        assert cloud.ask("control1", "volume.agent-7") == ["agent"]
        assert cloud.ask("compute1", "volume.agent-7") == ["agent"]
