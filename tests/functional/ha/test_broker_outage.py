# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A RabbitMQ that is away at the start, and one that goes and comes: nothing ends, nobody leads without it, and all goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import kombu
import pytest
from brokerless.ha.broker_urls import broker_urls
from brokerless.ha.bus.base import Event, HearingBegan, HearingInterrupted
from brokerless.ha.bus.rabbit import RabbitBus, RabbitSettings
from brokerless.ha.leader.rabbit import RabbitLeaderSettings, RabbitLeadership
from rabbitmq_server import RabbitmqServer
from receiver_process import wait_until


class Daemon:
    """What a daemon has of the bus: ears, and a place among the replicas."""

    def __init__(self, url: str) -> None:
        self.events: list[Event] = []
        self.bus = RabbitBus(RabbitSettings(broker_urls(url), exchange="durable-exchange", echo_every=0.2), self.events.append)
        self.leadership = RabbitLeadership(RabbitLeaderSettings(broker_urls(url), queue="outage", lease=2.0, heartbeat=1.0))
        self.bus.start()
        self.leadership.start()

    def states(self) -> list[type]:
        return [type(event) for event in list(self.events) if isinstance(event, HearingBegan | HearingInterrupted)]

    def close(self) -> None:
        self.bus.close()
        self.leadership.close()


@pytest.fixture
def daemons() -> Iterator[list[Daemon]]:
    daemons: list[Daemon] = []
    yield daemons
    for daemon in daemons:
        daemon.close()


def test_an_outage_and_an_absence_at_the_start(broker: RabbitmqServer, daemons: list[Daemon]) -> None:
    with kombu.Connection(broker.url) as connection:
        connection.default_channel.exchange_declare("durable-exchange", "topic", durable=True, auto_delete=False)
    daemons.append(Daemon(broker.url))
    wait_until(lambda: daemons[0].states() == [HearingBegan] and daemons[0].leadership.term, "the first hears and leads")
    # a queue that was made a moment ago may be lost with a broker that is killed
    wait_until(lambda: daemons[0].leadership.may_write(time.monotonic(), 0.5), "the first may write")
    before = daemons[0].leadership.term
    assert before is not None
    broker.kill()
    try:
        wait_until(lambda: daemons[0].states() == [HearingBegan, HearingInterrupted], "the first knows that it does not hear")
        wait_until(lambda: daemons[0].leadership.lost, "nobody leads")
        daemons.append(Daemon(broker.url))
        wait_until(lambda: daemons[1].states() == [HearingInterrupted], "the second says that it can't hear")
    finally:
        broker.start()
    wait_until(lambda: all(daemon.states()[-1] is HearingBegan for daemon in daemons), "both hear", 60.0)
    wait_until(lambda: sum(daemon.leadership.term is not None for daemon in daemons) == 1, "one leads")
    assert max(daemon.leadership.term or 0 for daemon in daemons) > before
