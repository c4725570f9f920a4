# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The envelope: all that a receiver knows of a message. The body is opaque to it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from .topics import Address

MAX_HOPS = 4
"""How many receivers a message may pass through: sender's, brokers', target's. More means that brokers name each other."""


class Pattern(enum.IntEnum):
    """What a message is to the process that gets it."""

    CAST = 1
    CALL = 2
    REPLY = 3
    NOTIFICATION = 4


class MessageId(NamedTuple):
    """Names a message for good: the process that sent it (16 hexadecimal digits) and its number there, counted from 1."""

    origin: str
    number: int

    def __str__(self) -> str:
        return f"{self.origin}/{self.number}"


@dataclass(slots=True)
class Envelope:
    """A message without its body.

    `host` is the host that the message was assigned to, empty while no receiver has routed it. `sender` is the host it comes from. `ttl` is in
    seconds, what was left of it when the envelope was written; hosts' clocks need not agree.

    Two numbers of the sending process make delivery exact at little cost. Every message of it below `settled` has come to its end and will
    never be sent again, so a receiver need only remember what it took from there on. `after` (0 for none), which the
    sender's receiver writes, is the message that must have been accepted before this one, which keeps a directed topic in order when links break.

    A reply carries in `answers` the call it belongs to. `attempt` counts from 0; above it, an earlier copy may have arrived.
    """

    id: MessageId
    pattern: Pattern
    address: Address
    sender: str
    ttl: float
    host: str = ""
    settled: int = 0
    after: int = 0
    answers: MessageId | None = None
    hops: int = 0
    attempt: int = 0

    def rewritten(self, host: str, ttl: float, settled: int, after: int, hops: int, attempt: int) -> Envelope:
        """Return the envelope with what changes on its way. `dataclasses.replace` takes six times as long, and each receiver does this twice."""
        return Envelope(self.id, self.pattern, self.address, self.sender, ttl, host, settled, after, self.answers, hops, attempt)

    def __str__(self) -> str:
        return f"{self.pattern.name.lower()} {self.id} for {self.address}"
