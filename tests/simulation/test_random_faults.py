# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A few hosts under a seeded schedule of faults: whatever happens, nothing is handed over twice, out of order, or lost without a word."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from world import Service, World

HOSTS = ["control1", "compute1", "compute2", "compute3"]
TOPICS = {"compute": ["compute1", "compute2", "compute3"], "scheduler": ["control1"]}
TTL = 200.0


class Ledger:
    """What was sent, to be compared with what came."""

    def __init__(self, world: World, senders: list[Service]) -> None:
        self.world = world
        self.senders = senders
        self.everyone = list(world.services)
        self.sent: dict[tuple[str, int], tuple[Service, str, bytes]] = {}

    def cast(self, random_source: random.Random) -> None:
        sender = random_source.choice(self.senders)
        topic = random_source.choice(["compute", "compute", "compute.compute1", "compute.compute2", "scheduler", "fanout~compute"])
        body = f"{sender.host}-{len(self.sent)}".encode()
        number = sender.cast(topic, body, TTL)
        self.sent[(sender.host, number)] = (sender, topic, body)

    def check_while_running(self) -> None:
        """What must hold at every moment."""
        bare = Counter(request.body for service in self.everyone for request in service.requests if not request.envelope.address.fanout)
        twice = [body for body, count in bare.items() if count > 1]
        assert not twice, f"handed over twice: {twice}"
        for service in self.everyone:
            bodies = Counter(service.bodies())
            assert max(bodies.values(), default=1) == 1, f"handed over twice to one process: {bodies.most_common(3)}"
            directed: dict[str, int] = {}
            for request in service.requests:
                if request.envelope.address.server:
                    origin = request.envelope.id.origin
                    assert directed.get(origin, 0) < request.number, f"out of order at {service.host}: {request}"
                    directed[origin] = request.number

    def check_at_the_end(self) -> None:
        """Each message has come to its end, and as no service died, that end is a good one."""
        came = Counter(request.body for service in self.everyone for request in service.requests)
        for (_host, number), (sender, topic, body) in self.sent.items():
            assert number in sender.settled, f"no word of {body!r} to {topic}"
            if not topic.startswith("fanout~"):
                assert came[body] == 1, f"{body!r} to {topic} did not come: {sender.settled[number]}"


class Schedule:
    """Deaths, cuts and stalls, each decided by the seed, and each mended after a while."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = World(TOPICS, HOSTS)
        for host in HOSTS[1:]:
            for _turn in range(self.chance.choice([1, 1, 2])):
                self.world.start_service(host, ["compute", f"compute.{host}", "fanout~compute"], window=self.chance.choice([1, 4, 64]))
        control = self.world.start_service("control1", ["scheduler", "scheduler.control1"])
        self.world.advance(4.0)
        sender = next(service for service in self.world.services if service.host == "compute1")
        self.ledger = Ledger(self.world, [control, sender])
        self._down: dict[str, float] = {}
        self._cut: dict[tuple[str, str], float] = {}

    def step(self) -> None:
        """Send some, carry some, break something, mend something, let some time pass."""
        for _turn in range(self.chance.randrange(4)):
            self.ledger.cast(self.chance)
        for _turn in range(min(self.chance.randrange(30), self.world.under_way())):
            if self.world.under_way():
                self.world.carry_one()
        self._break_something()
        self._mend(self.world.now)
        if self.chance.random() < 0.5:
            self.world.advance(self.chance.uniform(0.05, 0.4))

    def _break_something(self) -> None:
        fault = self.chance.random()
        mended_at = self.world.now + self.chance.uniform(0.1, 5.0)
        if fault < 0.06 and len(self._down) < 2:
            host = self.chance.choice([host for host in HOSTS if host not in self._down])
            self.world.kill_receiver(host)
            self._down[host] = mended_at
        elif fault < 0.12:
            first, second = self.chance.sample(HOSTS, 2)
            self.world.cut_link(first, second)
            self._cut[(first, second)] = mended_at
        elif fault < 0.2:
            stalled = self.chance.choice(self.world.services)
            stalled.takes = False
            stalled.works = self.chance.random() < 0.8

    def _mend(self, now: float) -> None:
        for service in self.world.services:
            if not service.takes and self.chance.random() < 0.3:
                service.read_inbox()
        for host in [host for host, when in self._down.items() if when <= now]:
            del self._down[host]
            self.world.start_receiver(host)
        for link in [link for link, when in self._cut.items() if when <= now]:
            del self._cut[link]
            self.world.mend_link(*link)

    def mend_everything(self) -> None:
        """Let all be well, for as long as it takes to bring every message to its end."""
        for service in self.world.services:
            service.works = True
            unfinished = len(service.requests) - service.worked
            service.read_inbox()
            service.finish(unfinished)
        self._mend(float("inf"))
        deadline = self.world.now + TTL + 15.0
        while any(service.session.unsettled for service in self.world.services) and self.world.now < deadline:
            self.world.advance(1.0)


@pytest.mark.parametrize("seed", range(40))
def test_promises_hold_under_faults(seed: int) -> None:
    schedule = Schedule(seed)
    for _turn in range(150):
        schedule.step()
        schedule.ledger.check_while_running()
    schedule.mend_everything()
    schedule.ledger.check_while_running()
    schedule.ledger.check_at_the_end()
