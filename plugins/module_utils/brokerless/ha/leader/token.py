# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Who leads, agreed on by a queue of which the broker gives the messages to one consumer at a time (`x-single-active-consumer`).

All replicas consume that queue, and each puts tokens into it: messages that carry its name and a number. Whoever gets a token of its own back was
the active consumer after it had sent it, so that it leads by a confirmation that was asked for at that moment (see `lease`). The others get nothing
until the active one's channel ends. However many tokens there are, and whoever made the first, the broker has one active consumer.

A leader's tokens carry its term, and the last one that came back is left unacknowledged: when the leader ends in any way the broker gives it to
the next one, which so learns the term that it must exceed. A leader that is asked to end stops consuming first and then leaves a token that says
so: then the next one need not wait. No token is unacknowledged for longer than it takes the next to come back, so that no time limit of the
broker on that strikes.

No clock, no socket: time comes in, and what is to be done comes out, in order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from .lease import Lease

FORMAT = 1
RENEWALS = 10
"""How often a lease is confirmed while it lasts."""
MAX_TERM = 1 << 40
_MAX_TOKEN_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Token:
    """What is in the queue. `by` names a replica's process, `term` is 0 if it does not lead, `resigned` says that this was its last word."""

    by: str
    number: int
    term: int = 0
    resigned: bool = False

    def encode(self) -> str:
        """Return the body of its message."""
        return json.dumps({"format": FORMAT, "by": self.by, "number": self.number, "term": self.term, "resigned": self.resigned})


def decode_token(body: bytes | str) -> Token | None:
    """Read the body of a message; None if it is no token."""
    try:
        told = json.loads(body) if len(body) <= _MAX_TOKEN_BYTES else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        return None
    by, number, term = (told.get(key) for key in ("by", "number", "term"))
    if not isinstance(by, str) or number.__class__ is not int or term.__class__ is not int or not 0 <= term <= MAX_TERM:
        return None
    return Token(by, number, term, told.get("resigned") is True)


@dataclass(frozen=True, slots=True)
class Publish:
    """Put a token into the queue."""

    token: Token


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Acknowledge a delivery."""

    tag: int


Action: TypeAlias = "Publish | Acknowledge"


@dataclass(frozen=True, slots=True)
class _Sent:
    """When a token was sent, by both clocks, and the term in it."""

    at: float
    wall: float
    term: int


class TokenHolder:
    """One replica. Whatever a method returns is to be done, in that order, on the connection that is open."""

    def __init__(self, name: str, lease: Lease) -> None:
        """`name` must be of this process alone."""
        self._name = name
        self.lease = lease
        self._number = 0
        self._sent: dict[int, _Sent] = {}
        self._kept: list[int] = []
        """Deliveries that are not acknowledged yet: a leader's tokens, which another replica must get if we end."""
        self._next = 0.0
        self._last = 0.0
        self._seen_term = 0
        self._resigned_term = 0

    def opened(self, now: float) -> None:
        """The queue is consumed on a new connection: what was sent or came on an earlier one proves nothing any more."""
        self._sent.clear()
        self._kept.clear()
        self._resigned_term = 0
        self._next = now

    def closed(self, reason: str) -> None:
        """The connection is gone, and with it the place as active consumer."""
        self._sent.clear()
        self._kept.clear()
        self.lease.lose(reason)

    def turn(self, now: float, wall: float) -> Iterator[Action]:
        """Do what is due: a token each tenth of a lease."""
        self.lease.expire(now, wall)
        if now >= self._next:
            yield self._send(now, wall)

    def resign(self, now: float) -> Iterator[Action]:
        """Write no more, and say so. To be done when the queue is no longer consumed, and no write of ours is going on."""
        term, waits = self.lease.term, self.lease.waits(now)
        if term is not None:
            self.lease.lose("this daemon is stopped")
            # who still waits for a predecessor's lease can't speak for it
            if not waits:
                self._number += 1
                yield Publish(Token(self._name, self._number, term, resigned=True))

    def came(self, tag: int, body: bytes | str, redelivered: bool, now: float, wall: float) -> Iterator[Action]:
        """Take a delivery, which only the active consumer gets. Whatever has come before has been taken already, in order."""
        self.lease.expire(now, wall)
        token = decode_token(body)
        sent = self._sent.pop(token.number, None) if token and token.by == self._name else None
        if token is None:
            yield Acknowledge(tag)
        elif sent:
            yield from self._own(tag, sent, now, wall)
        else:
            yield from self._other(tag, token, redelivered, now)

    def _own(self, tag: int, sent: _Sent, now: float, wall: float) -> Iterator[Action]:
        """We were the active consumer after the token was sent, so we lead; with its term in it the next leader will learn of ours."""
        fresh = max(now - sent.at, wall - sent.wall) <= self.lease.seconds / 2
        if self.lease.term is None and fresh:
            self.lease.begin(sent.at, sent.wall, self._seen_term, now, wall)
            yield self._send(now, wall)
        if self.lease.term is None or sent.term != self.lease.term:
            yield Acknowledge(tag)
            return
        self.lease.confirm(sent.at, sent.wall, now, wall)
        yield from (Acknowledge(kept) for kept in self._kept)
        self._kept = [tag]
        if 0 < self._seen_term <= self._resigned_term:
            self._resigned_term = 0
            self.lease.write_from(now)

    def _other(self, tag: int, token: Token, redelivered: bool, now: float) -> Iterator[Action]:
        """Learn from a token of another replica, or one that we sent long ago."""
        self._seen_term = max(self._seen_term, token.term)
        if token.resigned and not redelivered:
            self._resigned_term = max(self._resigned_term, token.term)
        if self.lease.term is not None and token.term > self.lease.term:
            self.lease.lose(f"another replica leads in term {token.term}")
        if token.term:
            self._kept.append(tag)
        else:
            yield Acknowledge(tag)
        if self.lease.term is None:
            # who sent it has gone, so it may be our turn: the next token tells
            self._next = min(self._next, self._last + self.lease.seconds / RENEWALS / 5)

    def _send(self, now: float, wall: float) -> Publish:
        self._sent = {number: sent for number, sent in self._sent.items() if now - sent.at < self.lease.seconds}
        self._last = now
        self._next = now + self.lease.seconds / RENEWALS
        self._number += 1
        term = self.lease.term or 0
        self._sent[self._number] = _Sent(now, wall, term)
        return Publish(Token(self._name, self._number, term))
