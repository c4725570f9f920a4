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
TTL = 20.0


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

    def check_at_the_end(self, died: set[int]) -> None:
        """Each message has come to its end, and what was said of it is true."""
        came = Counter(request.body for service in self.everyone for request in service.requests)
        for (_host, number), (sender, topic, body) in self.sent.items():
            assert number in sender.settled, f"no word of {body!r} to {topic}"
            if sender.settled[number] == "" and not topic.startswith("fanout~"):
                assert came[body] == 1, f"{body!r} to {topic} was said to be handed over"
            elif not died:
                assert topic.startswith("fanout~") or came[body] == 1, f"{body!r} to {topic} failed though no service died: {sender.settled[number]}"


@pytest.mark.parametrize("seed", range(40))
def test_promises_hold_under_faults(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a schedule that can be replayed
    world = World(TOPICS, HOSTS)
    for host in HOSTS[1:]:
        for _ in range(chance.choice([1, 1, 2])):
            world.start_service(host, ["compute", f"compute.{host}", "fanout~compute"], window=chance.choice([1, 4, 64]))
    control = world.start_service("control1", ["scheduler", "scheduler.control1"])
    world.advance(4.0)
    ledger = Ledger(world, [control, *(service for service in world.services if service.host == "compute1")][:2])
    down: dict[str, float] = {}
    mended: dict[tuple[str, str], float] = {}
    for _ in range(150):
        for _ in range(chance.randrange(4)):
            ledger.cast(chance)
        for _ in range(chance.randrange(30)):
            if world.under_way():
                world.carry_one()
        fault = chance.random()
        if fault < 0.06 and len(down) < 2:
            host = chance.choice([host for host in HOSTS if host not in down])
            world.kill_receiver(host)
            down[host] = world.now + chance.uniform(0.1, 5.0)
        elif fault < 0.12:
            pair = tuple(chance.sample(HOSTS, 2))
            world.cut_link(pair[0], pair[1])
            mended[(pair[0], pair[1])] = world.now + chance.uniform(0.1, 5.0)
        elif fault < 0.2:
            stalled = chance.choice(world.services)
            stalled.takes = False
            stalled.works = chance.random() < 0.8
        for service in world.services:
            if not service.takes and chance.random() < 0.3:
                service.read_inbox()
        for host, when in list(down.items()):
            if when <= world.now:
                del down[host]
                world.start_receiver(host)
        for link, when in list(mended.items()):
            if when <= world.now:
                del mended[link]
                world.mend_link(*link)
        if chance.random() < 0.5:
            world.advance(chance.uniform(0.05, 0.4))
        ledger.check_while_running()
    for service in world.services:
        service.works = True
        unfinished = len(service.requests) - service.worked
        service.read_inbox()
        service.finish(unfinished)
    for host in down:
        world.start_receiver(host)
    for link in mended:
        world.mend_link(*link)
    world.advance(TTL + 15.0)
    ledger.check_while_running()
    ledger.check_at_the_end(died=set())
