# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The driver's core: what a service's process has said to its receiver, and what it has heard. Events in, effects out.

The process keeps each message that it sends until it knows what became of it, so that a receiver may die at any time; it remembers what it has
accepted, and tells a receiver that was started anew. No sockets, clocks or threads: time comes in as `now`, in seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..deadlines import Deadlines
from ..envelope import Envelope, MessageId, Pattern
from ..protocol import (
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
from ..seen import Seen
from ..topics import Address
from .effects import Answer, ConsumptionKnown, Effect, HandOver, Note, Overheard, Reported, Say, Settled, Transmit

ACCEPTED_DELAY = 0.004
"""Seconds for which acceptances and credit are collected, so that many travel as one message."""
ACCEPTED_BATCH = 128
LATE = 60.0
"""How many seconds longer than a message may live it is remembered that it was accepted."""
TAP_ROOM = 2000
"""Copies that may be on their way to this process, which is given more room when half of it is used up."""
GRACE_BEATS = 6
"""For so many heartbeats after a message's time the receiver may still say what became of it."""


@dataclass(slots=True)
class Unsettled:
    """A message that has not come to its end. With `sent`, a receiver has it, or had it when it died."""

    envelope: Envelope
    body: bytes
    deadline: float
    sent: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the process is. `window` is how many requests it takes at a time, `heartbeat` is in seconds."""

    host: str
    origin: str
    name: str
    pid: int
    window: int
    heartbeat: float = 1.0


class Session:
    """All that a process's driver knows and decides."""

    def __init__(self, identity: Identity, now: float) -> None:
        self._me = identity
        self._effects: list[Effect] = []
        self._connected = False
        self._ready = False
        self.welcomes = 0
        """How often a receiver has taken this process in."""
        self._why_not = ""
        self._last_number = 0
        self._unsettled: dict[int, Unsettled] = {}
        self._deadlines: Deadlines[int] = Deadlines()
        self._seen = Seen()
        self._to_accept: list[MessageId] = []
        self._to_credit = 0
        self._running = 0
        self._flush_at: float | None = None
        self._speaks = False
        self._revision = 0
        self._addresses: tuple[Address, ...] = ()
        self._tapped: tuple[Address, ...] = ()
        self._copies = 0
        self._questions: dict[int, Inspect] = {}
        self._ping_at = now
        self._heard_at = now
        self._on: dict[type, Callable[[Any, float], None]] = {
            Parcel: self._parcel,
            Accepted: self._accepted,
            Assigned: self._assigned,
            Held: self._held,
            Returned: self._returned,
            Welcome: self._welcomed,
            WhoAreYou: lambda _message, _now: self._greet(),
            Consuming: lambda message, _now: self._effects.append(ConsumptionKnown(message.revision)),
            Report: self._reported,
            Copy: self._copied,
            Ping: lambda message, _now: self._transmit(Pong(message.stamp)),
            Bye: self._dismissed,
        }

    # --- effects ---------------------------------------------------------------------------------------------------------------------------

    def take_effects(self, now: float) -> list[Effect]:
        """Return what is to be done, in order, and forget it. What was collected goes with anything else that is said to the receiver."""
        if self._flush_at is not None and (self._speaks or now >= self._flush_at):
            self._flush()
        self._speaks = False
        effects, self._effects = self._effects, []
        return effects

    def next_wake(self) -> float:
        """Return when `tick` must be called at the latest."""
        soonest = min(self._ping_at, self._deadlines.next_due())
        return soonest if self._flush_at is None else min(soonest, self._flush_at)

    def _flush(self) -> None:
        self._flush_at = None
        if not self._ready:
            return
        if self._to_accept:
            self._transmit(Accepted(tuple(self._to_accept)))
            self._to_accept.clear()
        if self._to_credit:
            self._transmit(Credit(self._to_credit))
            self._to_credit = 0

    def _transmit(self, message: Message) -> None:
        self._speaks = True
        self._effects.append(Transmit(message))

    # --- the connection ----------------------------------------------------------------------------------------------------------------------

    def connected(self, now: float) -> None:
        """There is a connection to the receiver, and nothing was said on it yet."""
        self._connected = True
        self._heard_at = now
        self._greet()

    def _greet(self) -> None:
        self._ready = False
        self._to_accept.clear()
        self._to_credit = 0
        me = self._me
        taken = tuple((origin, settled, tuple(numbers)) for origin, settled, numbers in self._seen.summary())
        self._transmit(Hello("service", me.host, me.origin, me.name, me.pid, max(0, me.window - self._running), taken))

    def disconnected(self, why: str) -> None:
        """The connection is gone, with all that was not sent on it."""
        if self._ready:
            self._effects.append(Say(logging.WARNING, f"lost the receiver ({why}); what has not come to its end is sent again when it is back"))
        self._connected = self._ready = False
        self._why_not = why

    @property
    def ready(self) -> bool:
        """Whether the receiver is there and knows this process."""
        return self._ready

    def receive(self, message: Message, now: float) -> None:
        """The receiver said something."""
        self._heard_at = now
        on = self._on.get(type(message))
        if on is not None:
            on(message, now)

    def _accepted(self, accepted: Accepted, _now: float) -> None:
        for message in accepted.messages:
            if message.origin == self._me.origin:
                self._settle(message.number, "")

    def _assigned(self, assigned: Assigned, _now: float) -> None:
        unsettled = self._unsettled_of(assigned.message)
        if unsettled is not None:
            unsettled.envelope.host = assigned.host

    def _held(self, held: Held, _now: float) -> None:
        unsettled = self._unsettled_of(held.message)
        if unsettled is not None:
            self._note(held.message.number, unsettled, held.text)

    def _reported(self, report: Report, _now: float) -> None:
        if self._questions.pop(report.token, None) is not None:
            self._effects.append(Reported(report.token, report.answer))

    def _dismissed(self, _bye: Bye, _now: float) -> None:
        self._ready = False
        self._why_not = "the receiver does not serve this process (see its log), or is shutting down"

    def _unsettled_of(self, message: MessageId) -> Unsettled | None:
        return self._unsettled.get(message.number) if message.origin == self._me.origin else None

    def _note(self, number: int, unsettled: Unsettled, text: str) -> None:
        unsettled.note = text
        self._effects.append(Note(number, text))

    def _welcomed(self, _welcome: Welcome, now: float) -> None:
        if self._ready:
            return
        self._ready = True
        self.welcomes += 1
        self._transmit(Consume(self._revision, self._addresses))
        if self._tapped:
            self._send_tap(TAP_ROOM)
        for number, unsettled in self._unsettled.items():
            if unsettled.sent:
                unsettled.envelope.attempt += 1
            self._send(number, unsettled, now)
        for question in self._questions.values():
            self._transmit(question)
        if self._to_accept or self._to_credit:
            self._flush_soon(now)

    # --- sending -----------------------------------------------------------------------------------------------------------------------------

    def submit(self, address: Address, body: bytes, pattern: Pattern, deadline: float, now: float, answers: Envelope | None = None) -> int:
        """Send a message, and return its number. `answers` is the call that a reply belongs to."""
        self._last_number = number = self._last_number + 1
        envelope = Envelope(MessageId(self._me.origin, number), pattern, address, self._me.host, deadline - now)
        if answers is not None:
            envelope.host = answers.sender
            envelope.answers = answers.id
        unsettled = self._unsettled[number] = Unsettled(envelope, body, deadline)
        self._deadlines.set(number, deadline)
        if self._ready:
            self._send(number, unsettled, now)
        return number

    def _send(self, number: int, unsettled: Unsettled, now: float) -> None:
        envelope = unsettled.envelope
        envelope.ttl = max(0.0, unsettled.deadline - now)
        envelope.settled = next(iter(self._unsettled))
        unsettled.sent = True
        self._transmit(Parcel(envelope, unsettled.body))

    def abandon(self, number: int) -> None:
        """Nobody waits for the answer to that call any more."""
        self._settle(number, "abandoned")

    def _settle(self, number: int, failure: str) -> None:
        unsettled = self._unsettled.pop(number, None)
        if unsettled is None:
            return
        self._deadlines.discard(number)
        self._effects.append(Settled(number, failure))

    def _returned(self, returned: Returned, _now: float) -> None:
        unsettled = self._unsettled_of(returned.message)
        if unsettled is None:
            return
        text = returned.text or returned.reason
        self._fail(returned.message.number, unsettled, text)

    def _fail(self, number: int, unsettled: Unsettled, why: str) -> None:
        if unsettled.envelope.pattern is Pattern.CALL:
            self._note(number, unsettled, why)
        else:
            self._effects.append(Say(logging.ERROR, f"{unsettled.envelope} was not handed over: {why}"))
        self._settle(number, why)

    @property
    def unsettled(self) -> int:
        """Return how many messages have not come to their end."""
        return len(self._unsettled)

    # --- consuming ---------------------------------------------------------------------------------------------------------------------------

    def consume(self, addresses: Iterable[Address]) -> int:
        """Consume `addresses` from now on, and nothing else. Return the revision, which comes back when the receiver knows."""
        self._revision += 1
        self._addresses = tuple(addresses)
        if self._ready:
            self._transmit(Consume(self._revision, self._addresses))
        return self._revision

    def tap(self, addresses: Iterable[Address]) -> None:
        """Hear copies of what consumers on this host get for `addresses` from now on, and of nothing else."""
        more = TAP_ROOM if not self._tapped else 0
        self._tapped = tuple(addresses)
        if self._ready:
            self._send_tap(more)

    def _send_tap(self, more: int) -> None:
        if more == TAP_ROOM:
            self._copies = 0
        self._transmit(Tap(self._tapped, more))

    def _copied(self, copy: Copy, _now: float) -> None:
        self._copies += 1
        if self._copies >= TAP_ROOM // 2 and self._tapped:
            more, self._copies = self._copies, 0
            self._send_tap(more)
        if copy.address in self._tapped:
            self._effects.append(Overheard(copy))

    def _parcel(self, parcel: Parcel, now: float) -> None:
        envelope = parcel.envelope
        deadline = now + envelope.ttl
        self._seen.note_settled(envelope.id.origin, envelope.settled, deadline + LATE)
        again = envelope.id in self._seen
        self._seen.add(envelope.id)
        self._to_accept.append(envelope.id)
        self._flush_soon(now)
        if envelope.pattern is Pattern.REPLY:
            answers = envelope.answers
            if answers is not None and answers.origin == self._me.origin and not again:
                self._effects.append(Answer(answers.number, parcel.body))
                self._settle(answers.number, "")
        elif again:
            self._to_credit += 1
        else:
            self._running += 1
            self._effects.append(HandOver(parcel, deadline))

    def worked_off(self, count: int, now: float) -> None:
        """The consumers have finished `count` messages, and can take as many more."""
        self._running -= count
        self._to_credit += count
        self._flush_soon(now)

    def _flush_soon(self, now: float) -> None:
        if len(self._to_accept) >= ACCEPTED_BATCH or self._to_credit >= max(1, self._me.window // 2):
            self._flush_at = now
        elif self._flush_at is None:
            self._flush_at = now + ACCEPTED_DELAY

    # --- questions and time --------------------------------------------------------------------------------------------------------------------

    def ask(self, token: int, question: str, argument: str) -> None:
        """Ask the receiver about itself."""
        self._questions[token] = Inspect(token, question, argument)
        if self._ready:
            self._transmit(self._questions[token])

    def ask_no_more(self, token: int) -> None:
        """Nobody waits for the answer to that question any more."""
        self._questions.pop(token, None)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if now >= self._ping_at:
            self._ping_at = now + self._me.heartbeat
            if self._connected:
                self._transmit(Ping(int(now * 1e6)))
            self._seen.forget(now)
        if now < self._deadlines.next_due():
            return
        for number in self._deadlines.due(now):
            self._time_is_over(number, now)

    def _time_is_over(self, number: int, now: float) -> None:
        unsettled = self._unsettled[number]
        late = now - unsettled.deadline
        grace = GRACE_BEATS * self._me.heartbeat
        if unsettled.sent and self._ready and late < grace:
            self._deadlines.set(number, unsettled.deadline + grace)
            return
        self._fail(number, unsettled, self.why_late(now, unsettled.note))

    def why_late(self, now: float, note: str) -> str:
        """Return what is known of why a message has not come to its end; `note` is what was heard of it."""
        if not self._ready:
            return self._why_not or "the receiver has not answered yet"
        silence = now - self._heard_at
        if silence > 3 * self._me.heartbeat:
            return f"the receiver has been silent for {silence:.1f} s"
        return note or "no consumer has taken it: all are busy, or one does not answer"

    def farewell(self) -> None:
        """Say goodbye: the process takes and sends nothing more."""
        self._flush()
        if self._ready:
            self._transmit(Bye())
        self._ready = False
