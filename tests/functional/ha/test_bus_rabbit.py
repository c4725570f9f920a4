# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Listening to a real RabbitMQ: copies only, bounded, and for ever."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import kombu
import pytest
from amqp.exceptions import NotFound, ResourceLocked
from brokerless.ha.broker_urls import broker_urls
from brokerless.ha.bus.base import Event, HeardReport, HearingBegan, HearingInterrupted, Lag, Overheard
from brokerless.ha.bus.rabbit import RabbitBus, RabbitSettings
from rabbitmq_server import RabbitmqServer
from receiver_process import free_port, wait_until
from replica_process import Listener
from server_process import ADDRESS
from worker_process import Worker

QUICK = {"echo_every": 0.2, "heartbeat": 2.0}
KEY = "q-reports-plugin"


class Cloud:
    """An exchange as Neutron declares it, and the server's queue on it."""

    def __init__(self, broker: RabbitmqServer) -> None:
        self.broker = broker
        self.name = f"neutron-{uuid.uuid4().hex[:8]}"
        self.channel: Any = None

    def declare(self, durable: bool = False, server_queue: str = "") -> None:
        self.channel.exchange_declare(self.name, "topic", durable=durable, auto_delete=False)
        if server_queue:
            arguments = {"x-queue-type": server_queue}
            self.channel.queue_declare(f"{self.name}-server", durable=server_queue == "quorum", auto_delete=False, arguments=arguments)
            self.channel.queue_bind(f"{self.name}-server", self.name, KEY)

    def publish(self, body: bytes | str, key: str = KEY) -> None:
        kombu.Producer(self.channel).publish(body, exchange=self.name, routing_key=key, content_type="application/json", content_encoding="utf-8")

    def report(self, host: str, key: str = KEY) -> None:
        """Report as an agent does."""
        state = {"host": host, "agent_type": "L3 agent", "binary": "neutron-l3-agent", "configurations": {}}
        inner = {"method": "report_state", "args": {"agent_state": {"agent_state": state}, "time": "2026-11-21T09:33:30"}, "_context_x": "secret"}
        self.publish(json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(inner)}), key)

    def server_got(self) -> list[str]:
        """What waits in the server's queue, taken out of it."""
        got = []
        while message := self.channel.basic_get(f"{self.name}-server", no_ack=True):
            got.append(json.loads(json.loads(message.body)["oslo.message"])["args"]["agent_state"]["agent_state"]["host"])
        return got

    def settings(self, **more: Any) -> dict[str, Any]:
        return {"urls": broker_urls(self.broker.url), "exchange": self.name, "queue_prefix": self.name, **QUICK, **more}


class Heard:
    """A source, and what it told."""

    def __init__(self, settings: dict[str, Any], tell: Callable[[Event], None] | None = None) -> None:
        self.events: list[Event] = []
        self.bus = RabbitBus(RabbitSettings(**settings), tell or self.events.append)

    def of(self, kind: type) -> list[Any]:
        return [event for event in list(self.events) if isinstance(event, kind)]

    @property
    def hosts(self) -> list[str]:
        return [event.host for event in self.of(HeardReport)]

    @property
    def hears(self) -> bool:
        states = [event for event in list(self.events) if isinstance(event, HearingBegan | HearingInterrupted)]
        return bool(states) and isinstance(states[-1], HearingBegan)

    def until_it_hears(self) -> None:
        wait_until(lambda: self.hears, "the bus is heard", 60.0)


@contextlib.contextmanager
def listening(settings: dict[str, Any]) -> Iterator[Heard]:
    heard = Heard(settings)
    heard.bus.start()
    try:
        yield heard
    finally:
        heard.bus.close()


def is_there(broker: RabbitmqServer, queue: str) -> bool:
    """Tell whether a queue exists; who asks for another's exclusive one is told that it is locked."""
    with kombu.Connection(broker.url) as connection:
        try:
            connection.default_channel.queue_declare(queue, passive=True)
        except ResourceLocked:
            return True
        except NotFound:
            return False
    raise AssertionError(f"queue {queue} is open to everybody")


@pytest.fixture
def cloud(broker: RabbitmqServer) -> Iterator[Cloud]:
    cloud = Cloud(broker)
    with kombu.Connection(broker.url) as connection:
        cloud.channel = connection.default_channel
        yield cloud


@pytest.mark.parametrize(("durable", "server_queue"), [(False, "classic"), (True, "quorum")])
def test_everybody_gets_every_report(cloud: Cloud, durable: bool, server_queue: str) -> None:
    cloud.declare(durable, server_queue)
    with listening(cloud.settings()) as first, listening(cloud.settings()) as second:
        first.until_it_hears()
        second.until_it_hears()
        sent = [f"net{number}" for number in range(300)]
        for host in sent:
            cloud.report(host)
        for heard in (first, second):
            wait_until(lambda heard=heard: len(heard.hosts) == len(sent), "all reports are heard")
            assert heard.hosts == sent
            assert heard.of(HearingInterrupted) == []
    assert cloud.server_got() == sent


def test_old_and_new_agents_are_heard_and_nothing_harms(cloud: Cloud) -> None:
    cloud.declare()
    with listening(cloud.settings()) as heard:
        heard.until_it_hears()
        cloud.report("new")
        for noise in (
            "{",
            "[]",
            b"\xff\x00 report_state",
            '{"oslo.version": "2.0", "oslo.message": "report_state"}',
            "report_state",
            "[" * 50_000 + "report_state",
        ):
            cloud.publish(noise)
        cloud.report("elsewhere", "q-l3-plugin")
        cloud.report("old", "q-plugin")
        wait_until(lambda: "old" in heard.hosts, "the last report is heard")
        assert heard.hosts == ["new", "old"]
        assert heard.of(HearingInterrupted) == []
        assert "secret" not in repr(heard.events)
        wait_until(lambda: heard.of(Lag)[-1].waiting == 0, "nothing waits")


def test_everything_is_overheard_on_demand(cloud: Cloud) -> None:
    cloud.declare()
    with listening(cloud.settings(overhear=True, routing_keys=("#",))) as heard:
        heard.until_it_hears()
        cloud.publish(
            json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps({"event_type": "router.create.end", "payload": {}})}), "notifications.info"
        )
        cloud.report("net1")
        wait_until(lambda: heard.hosts == ["net1"], "the report is heard")
        assert [(event.routing_key, event.method) for event in heard.of(Overheard)] == [
            ("notifications.info", "router.create.end"),
            (KEY, "report_state"),
        ]


def test_an_exchange_that_is_missing_is_waited_for(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    with listening(cloud.settings()) as heard:
        wait_until(lambda: heard.of(HearingInterrupted), "it is said that nothing is heard")
        (interrupted,) = heard.of(HearingInterrupted)
        assert interrupted.since is None
        assert interrupted.reason == f"there is no exchange '{cloud.name}'; waiting until a service of Neutron makes it"
        cloud.declare()
        heard.until_it_hears()
        cloud.report("net1")
        wait_until(lambda: heard.hosts == ["net1"], "the report is heard")
    assert sum("there is no exchange" in record.getMessage() for record in caplog.records) == 1


def test_an_exchange_that_is_made_anew_is_noticed(cloud: Cloud) -> None:
    """The connection stays well, and nothing would ever be heard any more."""
    cloud.declare()
    with listening(cloud.settings(deaf_after=1.0)) as heard:
        heard.until_it_hears()
        cloud.channel.exchange_delete(cloud.name)
        cloud.declare(durable=True)
        wait_until(lambda: heard.of(HearingInterrupted), "it is noticed")
        heard.until_it_hears()
        cloud.report("net1")
        wait_until(lambda: heard.hosts == ["net1"], "the report is heard")


def test_a_queue_ends_with_its_listener(cloud: Cloud, broker: RabbitmqServer) -> None:
    cloud.declare()
    with Worker(Listener, cloud.settings(queue_expire=5)) as worker:
        wait_until(lambda: HearingBegan in worker.ask("states"), "the bus is heard")
        queue = worker.ask("queue")
        assert is_there(broker, queue)
        os.kill(worker.pid, signal.SIGKILL)
        wait_until(lambda: not is_there(broker, queue), "its queue is gone")


def test_a_listener_that_stands_still_costs_little_and_knows(cloud: Cloud) -> None:
    cloud.declare()
    with Worker(Listener, cloud.settings(max_messages=50, prefetch=20, heartbeat=60.0, deaf_after=60.0, stall=1.0)) as worker:
        wait_until(lambda: HearingBegan in worker.ask("states"), "the bus is heard")
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            for number in range(1000):
                cloud.report(f"net{number}")
            with listening(cloud.settings()) as another:
                another.until_it_hears()  # so that all of them have been routed
                wait_until(lambda: len(another.of(Lag)) > 6, "longer than a turn may take")
        finally:
            os.kill(worker.pid, signal.SIGCONT)
        wait_until(lambda: worker.ask("states")[-2:] == [HearingInterrupted, HearingBegan], "it hears again, and knows that it did not")
        assert 0 < worker.ask("heartbeats") < 100, "the broker kept more for it than it was told to"


def test_the_next_of_several_brokers_is_taken(cloud: Cloud, broker: RabbitmqServer) -> None:
    cloud.declare()
    urls = broker_urls(f"{ADDRESS}:{free_port([ADDRESS])},{ADDRESS}:{broker.port}")
    with listening(cloud.settings(urls=urls)) as heard:
        heard.until_it_hears()
        (interrupted,) = heard.of(HearingInterrupted)
        assert "can't be reached" in interrupted.reason


def test_a_wrong_password_is_named_and_not_shown(cloud: Cloud, broker: RabbitmqServer, caplog: pytest.LogCaptureFixture) -> None:
    with listening(cloud.settings(urls=broker_urls(f"guest:wr0ng@{ADDRESS}:{broker.port}"))) as heard:
        wait_until(lambda: heard.of(HearingInterrupted), "the refusal is told")
        assert "refuses us" in heard.of(HearingInterrupted)[0].reason
    assert "wr0ng" not in caplog.text + repr(heard.events)
