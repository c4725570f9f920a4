# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The driver's core, event by event."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import pytest
from brokerless.rpc import protocol
from brokerless.rpc.driver.effects import Answer, ConsumptionKnown, Effect, HandOver, Note, Overheard, Reported, Settled, Transmit
from brokerless.rpc.driver.session import GRACE_BEATS, TAP_ROOM, Identity, Session
from brokerless.rpc.envelope import Envelope, MessageId, Pattern
from brokerless.rpc.protocol import (
    Accepted,
    Assigned,
    Bye,
    Consume,
    Consuming,
    Copy,
    Credit,
    Held,
    Hello,
    Inspect,
    Message,
    Parcel,
    Ping,
    Pong,
    Report,
    Returned,
    Tap,
    Welcome,
    WhoAreYou,
)
from brokerless.rpc.topics import parse_topic

ME = "a" * 16
OTHER = "b" * 16
E = TypeVar("E", bound=Effect)
M = TypeVar("M", bound=Message)


@dataclass
class Bench:
    """A session, and what it wanted done."""

    now: float = 100.0
    effects: list[Effect] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.session = Session(Identity("control1", ME, "nova-api", 7, window=10), self.now)

    def welcome(self) -> None:
        self.session.connected(self.now)
        self.hear(Welcome("control1", "c" * 16))

    def hear(self, *messages: Message) -> None:
        for message in messages:
            self.session.receive(message, self.now)
        self.collect()

    def collect(self) -> None:
        self.effects += self.session.take_effects(self.now)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.session.tick(self.now)
        self.collect()

    def cast(self, topic: str = "compute", ttl: float = 30.0) -> int:
        number = self.session.submit(parse_topic(topic), b"body", Pattern.CAST, self.now + ttl, self.now)
        self.collect()
        return number

    def call(self, topic: str = "compute") -> int:
        number = self.session.submit(parse_topic(topic), b"body", Pattern.CALL, self.now + 30.0, self.now)
        self.collect()
        return number

    def request(self, number: int, settled: int = 0) -> Parcel:
        envelope = Envelope(MessageId(OTHER, number), Pattern.CALL, parse_topic("compute"), "compute1", 30.0, "control1", settled=settled)
        return Parcel(envelope, b"request")

    def of(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def sent(self, kind: type[M]) -> list[M]:
        return [effect.message for effect in self.of(Transmit) if isinstance(effect.message, kind)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def welcomed() -> Bench:
    bench = Bench()
    bench.welcome()
    return bench


def mine(number: int) -> MessageId:
    return MessageId(ME, number)


def test_it_says_who_it_is_before_anything_else(bench: Bench) -> None:
    bench.cast()
    bench.session.consume([parse_topic("compute")])
    bench.session.connected(bench.now)
    bench.collect()
    assert bench.sent(Hello) == [Hello("service", "control1", ME, "nova-api", 7, 10)]
    assert bench.sent(Parcel) == []
    bench.hear(Welcome("control1", "c" * 16))
    assert [type(message) for message in bench.sent(Message.__args__)] == [Hello, Consume, Parcel]  # type: ignore[attr-defined]


def test_what_was_sent_is_kept_until_its_end_and_sent_again_to_a_new_receiver(welcomed: Bench) -> None:
    first, second = welcomed.cast(), welcomed.cast()
    welcomed.hear(Accepted((mine(first),)))
    welcomed.session.disconnected("killed")
    third = welcomed.cast()
    welcomed.effects.clear()
    welcomed.welcome()
    again = [(parcel.envelope.id.number, parcel.envelope.attempt) for parcel in welcomed.sent(Parcel)]
    assert again == [(second, 1), (third, 0)]


def test_a_message_goes_again_to_the_host_that_it_was_assigned_to(welcomed: Bench) -> None:
    number = welcomed.cast()
    welcomed.hear(Assigned(mine(number), "compute2"))
    welcomed.session.disconnected("killed")
    welcomed.effects.clear()
    welcomed.welcome()
    assert [parcel.envelope.host for parcel in welcomed.sent(Parcel)] == ["compute2"]


def test_each_message_says_which_are_settled(welcomed: Bench) -> None:
    for topic in ("compute.compute1", "compute", "compute.compute1"):
        welcomed.cast(topic)
    welcomed.hear(Accepted((mine(2),)))
    welcomed.cast("compute.compute1")
    welcomed.hear(Accepted((mine(1), mine(3))))
    welcomed.cast("compute.compute1")
    assert [parcel.envelope.settled for parcel in welcomed.sent(Parcel)] == [1, 1, 1, 1, 4]


def test_a_request_is_handed_over_once_and_acknowledged_each_time(welcomed: Bench) -> None:
    welcomed.hear(welcomed.request(1), welcomed.request(1))
    welcomed.pass_time(0.01)
    assert len(welcomed.of(HandOver)) == 1
    assert welcomed.sent(Accepted) == [Accepted((MessageId(OTHER, 1), MessageId(OTHER, 1)))]
    assert welcomed.sent(Credit) == [Credit(1)]


def test_acknowledgements_travel_together(welcomed: Bench) -> None:
    for number in range(1, 6):
        welcomed.hear(welcomed.request(number))
    assert welcomed.sent(Accepted) == []
    welcomed.pass_time(0.01)
    assert [len(accepted.messages) for accepted in welcomed.sent(Accepted)] == [5]


def test_a_new_receiver_is_told_what_was_taken_and_what_room_is_left(welcomed: Bench) -> None:
    welcomed.hear(welcomed.request(4, settled=3), welcomed.request(6, settled=3))
    welcomed.session.worked_off(1, welcomed.now)
    welcomed.session.disconnected("killed")
    welcomed.effects.clear()
    welcomed.session.connected(welcomed.now)
    welcomed.collect()
    hello = welcomed.sent(Hello)[0]
    assert hello.taken == ((OTHER, 3, (4, 6)),)
    assert hello.window == 9


def test_credit_comes_back_when_work_is_done(welcomed: Bench) -> None:
    welcomed.hear(welcomed.request(1))
    welcomed.pass_time(0.01)
    assert welcomed.sent(Credit) == []
    welcomed.session.worked_off(1, welcomed.now)
    welcomed.pass_time(0.01)
    assert welcomed.sent(Credit) == [Credit(1)]


def test_an_answer_ends_its_call(welcomed: Bench) -> None:
    number = welcomed.call()
    reply = Envelope(MessageId(OTHER, 9), Pattern.REPLY, parse_topic(f"zmq_replies.{ME}"), "compute1", 9.0, "control1", answers=mine(number))
    welcomed.hear(Parcel(reply, b"answer"), Parcel(reply, b"answer"))
    assert welcomed.of(Answer) == [Answer(number, b"answer")]
    assert welcomed.session.unsettled == 0


def test_what_is_heard_of_a_call_is_noted(welcomed: Bench) -> None:
    number = welcomed.call()
    welcomed.hear(Held(mine(number), "compute1 is down"))
    assert welcomed.of(Note) == [Note(number, "compute1 is down")]
    assert welcomed.session.unsettled == 1


def test_what_is_returned_has_failed(welcomed: Bench) -> None:
    number = welcomed.cast()
    welcomed.hear(Returned(mine(number), protocol.EXPIRED, "compute1 is down"))
    assert welcomed.of(Settled) == [Settled(number, "compute1 is down")]


def test_without_a_receiver_a_cast_fails_when_its_time_is_over(bench: Bench) -> None:
    number = bench.cast(ttl=2.0)
    bench.pass_time(1.9)
    assert bench.of(Settled) == []
    bench.pass_time(0.3)
    assert bench.of(Settled) == [Settled(number, "the receiver has not answered yet")]


def test_with_a_receiver_a_cast_waits_for_its_verdict(welcomed: Bench) -> None:
    number = welcomed.cast(ttl=2.0)
    welcomed.pass_time(2.2)
    assert welcomed.of(Settled) == []
    welcomed.pass_time(GRACE_BEATS + 0.3)
    assert [settled.number for settled in welcomed.of(Settled)] == [number]


def test_it_greets_again_when_the_receiver_does_not_know_it(welcomed: Bench) -> None:
    welcomed.effects.clear()
    welcomed.hear(WhoAreYou())
    assert len(welcomed.sent(Hello)) == 1
    assert not welcomed.session.ready


def test_it_answers_heartbeats_and_sends_its_own(welcomed: Bench) -> None:
    welcomed.hear(Ping(5))
    assert welcomed.sent(Pong) == [Pong(5)]
    welcomed.pass_time(1.1)
    assert len(welcomed.sent(Ping)) == 1


def test_a_silent_receiver_is_the_reason_for_what_is_late(welcomed: Bench) -> None:
    assert welcomed.session.why_late(welcomed.now, "note") == "note"
    assert "silent for 5.0 s" in welcomed.session.why_late(welcomed.now + 5.0, "note")


def test_questions_are_asked_again_of_a_new_receiver_and_answered_once(bench: Bench) -> None:
    bench.session.ask(1, "status", "")
    bench.welcome()
    assert bench.sent(Inspect) == [Inspect(1, "status")]
    bench.hear(Report(1, "{}"), Report(1, "{}"))
    assert bench.of(Reported) == [Reported(1, "{}")]


def test_consumption_is_known_by_its_revision(welcomed: Bench) -> None:
    assert welcomed.session.consume([parse_topic("compute")]) == 1
    welcomed.hear(Consuming(1))
    assert welcomed.of(ConsumptionKnown) == [ConsumptionKnown(1)]


def test_after_goodbye_nothing_is_sent(welcomed: Bench) -> None:
    welcomed.session.farewell()
    welcomed.collect()
    assert welcomed.sent(Bye) == [Bye()]
    welcomed.cast()
    assert welcomed.sent(Parcel) == []


def test_others_messages_are_none_of_its_business(welcomed: Bench) -> None:
    number = welcomed.cast()
    stranger = MessageId(OTHER, number)
    welcomed.hear(Accepted((stranger,)), Returned(stranger, protocol.FULL), Held(stranger, "x"), Assigned(stranger, "h"))
    assert welcomed.session.unsettled == 1


def test_credit_that_comes_free_while_the_receiver_greets_is_not_lost(welcomed: Bench) -> None:
    message = MessageId(OTHER, 1)
    welcomed.hear(Parcel(Envelope(message, Pattern.CAST, parse_topic("compute"), "compute1", 30.0), b""))
    welcomed.session.disconnected("killed")
    welcomed.session.connected(welcomed.now)
    welcomed.session.worked_off(1, welcomed.now)
    welcomed.pass_time(0.01)
    welcomed.effects.clear()
    welcomed.hear(Welcome("control1", "d" * 16))
    welcomed.pass_time(0.01)
    assert welcomed.sent(Credit) == [Credit(1)]


def test_what_is_tapped_is_overheard_and_room_is_given_in_time() -> None:
    bench = Bench()
    topic = parse_topic("q-reports-plugin")
    bench.session.tap([topic])
    bench.welcome()
    assert [effect.message for effect in bench.effects if isinstance(effect, Transmit) and isinstance(effect.message, Tap)] == [
        Tap((topic,), TAP_ROOM)
    ]
    bench.effects.clear()
    copy = Copy(topic, "net1", 0, b"report")
    bench.hear(*[copy] * TAP_ROOM)
    assert [effect.copy for effect in bench.effects if isinstance(effect, Overheard)] == [copy] * TAP_ROOM
    room = [effect.message for effect in bench.effects if isinstance(effect, Transmit) and isinstance(effect.message, Tap)]
    assert room == [Tap((topic,), TAP_ROOM // 2)] * 2
    bench.effects.clear()
    bench.hear(Copy(parse_topic("other"), "net1", 0, b"report"))
    bench.session.tap([])
    bench.hear(copy)
    assert not [effect for effect in bench.effects if isinstance(effect, Overheard)]
    assert [effect.message for effect in bench.effects if isinstance(effect, Transmit)] == [Tap((), 0)]


def test_a_receiver_that_was_started_anew_is_told_what_is_tapped() -> None:
    bench = Bench()
    topic = parse_topic("q-reports-plugin")
    bench.welcome()
    bench.session.tap([topic])
    bench.session.disconnected("gone")
    bench.effects.clear()
    bench.welcome()
    assert Transmit(Tap((topic,), TAP_ROOM)) in bench.effects
