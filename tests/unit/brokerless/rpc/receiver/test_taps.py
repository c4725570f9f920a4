# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Who listens gets copies, and nobody else gets anything else than without it."""

from __future__ import annotations

import random

import pytest
from brokerless.rpc.envelope import Envelope, MessageId, Pattern
from brokerless.rpc.matchmaker.base import Settings
from brokerless.rpc.protocol import Accepted, Bye, Consume, Copy, Credit, Hello, Parcel, Tap
from brokerless.rpc.receiver.core import CoreSettings, ReceiverCore
from brokerless.rpc.receiver.effects import Effect, Say, ToClient
from brokerless.rpc.receiver.taps import MAX_ROOM, MAX_TAPPED
from brokerless.rpc.topics import REPLIES_TOPIC, Address
from world import Ring

TOPIC = Address("q-reports-plugin")
FANOUT = Address("q-reports-plugin", fanout=True)
SENDER, CONSUMER, LISTENER = "a" * 16, "b" * 16, "c" * 16


class Bench:
    """A receiver with a sender and a consumer, and perhaps somebody who listens."""

    def __init__(self, window: int = 100) -> None:
        self.now = 1000.0
        self.core = ReceiverCore(CoreSettings("control1", "f" * 16, backlog=20), Ring(Settings("control1"), {TOPIC.topic: ["control1"]}), self.now)
        self.number = 0
        self.effects: list[Effect] = []
        self.join(b"sender", SENDER, 0)
        self.join(b"consumer", CONSUMER, window, TOPIC, FANOUT)
        self.now += 10.0
        self.collect()
        self.effects.clear()

    def join(self, key: bytes, origin: str, window: int, *addresses: Address) -> None:
        self.core.from_client(key, Hello("service", "control1", origin, key.decode(), 1, window), self.now)
        self.core.from_client(key, Consume(1, addresses), self.now)

    def listen(self, room: int, *addresses: Address) -> None:
        self.join(b"listener", LISTENER, 0)
        self.core.from_client(b"listener", Tap(addresses, room), self.now)
        self.collect()
        self.effects.clear()

    def collect(self) -> None:
        self.effects += self.core.take_effects(self.now)

    def send(self, address: Address = TOPIC, body: bytes = b"report", number: int = 0) -> None:
        self.number = number or self.number + 1
        envelope = Envelope(MessageId(SENDER, self.number), Pattern.CAST, address, "control1", 30.0)
        self.core.from_client(b"sender", Parcel(envelope, body), self.now)
        self.collect()

    def copies(self) -> list[Copy]:
        return [effect.message for effect in self.effects if isinstance(effect, ToClient) and isinstance(effect.message, Copy)]

    def handed(self) -> list[Parcel]:
        return [effect.message for effect in self.effects if isinstance(effect, ToClient) and isinstance(effect.message, Parcel)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("address", [TOPIC, FANOUT])
def test_a_copy_comes_after_the_message_that_its_consumer_gets(bench: Bench, address: Address) -> None:
    bench.listen(5, TOPIC, FANOUT)
    bench.send(address, b"report")
    assert [parcel.body for parcel in bench.handed()] == [b"report"]
    assert bench.copies() == [Copy(address, "control1", 0, b"report")]
    kinds = [type(effect.message) for effect in bench.effects if isinstance(effect, ToClient)]
    assert kinds.index(Parcel) < kinds.index(Copy)


def test_what_waits_for_a_consumer_is_copied_at_once_and_only_once() -> None:
    bench = Bench(window=0)
    bench.listen(5, TOPIC)
    bench.send()
    bench.send(number=1)  # its sender asks again
    assert len(bench.copies()) == 1
    bench.core.from_client(b"consumer", Credit(1), bench.now)
    bench.collect()
    assert len(bench.handed()) == 1
    assert len(bench.copies()) == 1


def test_what_nobody_consumes_is_not_copied(bench: Bench) -> None:
    bench.listen(5, Address("unknown"), Address("q-plugin", server="control1"))
    bench.send(Address("unknown"))
    assert bench.copies() == []


def test_who_is_slow_misses_copies_and_is_told_how_many(bench: Bench) -> None:
    bench.listen(2, TOPIC)
    for _turn in range(10):
        bench.send()
    assert [copy.lost for copy in bench.copies()] == [0, 0]
    bench.core.from_client(b"listener", Tap((TOPIC,), 1), bench.now)
    bench.send()
    bench.send()
    assert [copy.lost for copy in bench.copies()] == [0, 0, 8]
    assert len(bench.handed()) == 12
    counters = bench.core.figures()["counters"]
    assert (counters["tap_copies"], counters["tap_lost"]) == (3, 9)


def test_room_is_bounded(bench: Bench) -> None:
    bench.listen(1 << 24, TOPIC)
    bench.core.from_client(b"listener", Tap((TOPIC,), 1 << 24), bench.now)
    (listener,) = bench.core._taps._listeners.values()
    assert listener.room == MAX_ROOM


@pytest.mark.parametrize("end", ["nothing", "bye", "gone", "again"])
def test_who_listens_no_more_gets_nothing(bench: Bench, end: str) -> None:
    bench.listen(5, TOPIC)
    if end == "nothing":
        bench.core.from_client(b"listener", Tap((), 0), bench.now)
    elif end == "bye":
        bench.core.from_client(b"listener", Bye(), bench.now)
    elif end == "gone":
        bench.core.client_gone(b"listener", bench.now)
    else:
        bench.join(b"listener", LISTENER, 0)
    bench.send()
    assert bench.copies() == []
    assert bench.core._taps._listeners == {}


@pytest.mark.parametrize("addresses", [(Address(REPLIES_TOPIC, server=CONSUMER),), tuple(Address(f"t{number}") for number in range(MAX_TAPPED + 1))])
def test_answers_of_others_and_too_much_are_refused(bench: Bench, addresses: tuple[Address, ...]) -> None:
    bench.join(b"listener", LISTENER, 0)
    bench.core.from_client(b"listener", Tap(addresses, 5), bench.now)
    bench.collect()
    assert any(isinstance(effect, Say) and "refused a message of service" in effect.text for effect in bench.effects)
    assert bench.core._taps._listeners == {}


@pytest.mark.parametrize("seed", range(20))
def test_nobody_gets_anything_else_because_somebody_listens(seed: int) -> None:
    """The same story with a listener and without one: all effects but the copies are the same, in the same order."""

    def story(*, tapped: bool) -> list[str]:
        chance = random.Random(seed)
        bench = Bench(window=chance.choice((0, 3)))
        bench.join(b"listener", LISTENER, 0)
        taken: list[MessageId] = []
        for _step in range(150):
            step = chance.choice(("send", "send", "again", "accept", "credit", "tap", "time", "leave", "come"))
            address = chance.choice((TOPIC, FANOUT, Address("unknown")))
            room = chance.choice((0, 1, 50))
            if step == "send":
                bench.send(address, b"x" * chance.randrange(5))
            elif step == "again" and bench.number:
                bench.send(address, number=bench.number)
            elif step == "accept":
                taken += [parcel.envelope.id for parcel in bench.handed()]
                bench.core.from_client(b"consumer", Accepted(tuple(taken)), bench.now)
            elif step == "credit":
                bench.core.from_client(b"consumer", Credit(2), bench.now)
            elif step == "tap":
                if tapped:
                    bench.core.from_client(b"listener", Tap((TOPIC, FANOUT), room), bench.now)
            elif step == "leave":
                bench.core.client_gone(b"consumer", bench.now)
            elif step == "come":
                bench.join(b"consumer", CONSUMER, 3, TOPIC, FANOUT)
            else:
                bench.now += 0.7
                bench.core.tick(bench.now)
            bench.collect()
        assert bool(bench.copies()) is tapped
        return [repr(effect) for effect in bench.effects if not (isinstance(effect, ToClient) and isinstance(effect.message, Copy))]

    assert story(tapped=True) == story(tapped=False)
