# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Messages of the protocol drawn from a fuzzer's bytes: well-formed, few different names and small numbers, so that they meet each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from brokerless.rpc import protocol
from brokerless.rpc.envelope import Envelope, MessageId, Pattern
from brokerless.rpc.protocol import Message
from brokerless.rpc.topics import Address

ME = "here"
HOSTS = (ME, "there", "evil", "127.0.0.1", "::1")
ORIGINS = tuple(digit * 16 for digit in "abcd")
ADDRESSES = (
    Address("compute"),
    Address("compute", server=ME),
    Address("compute", server="there"),
    Address("compute", server="evil"),
    Address("compute", fanout=True),
    Address("unknown"),
    *(Address("zmq_replies", server=origin) for origin in ORIGINS),
    Address("compute", exchange="nova", namespace="cell1"),
)
NUMBERS = (0, 1, 2, 3, 4, 5, 100, 1 << 24, (1 << 63) - 1)
T = TypeVar("T")


class Draw:
    """Takes values from bytes, one byte for each choice; what follows their end is as if it were zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._data)

    def byte(self) -> int:
        """Return a number from 0 to 255."""
        self._position += 1
        return self._data[self._position - 1] if self._position <= len(self._data) else 0

    def one_of(self, choices: Sequence[T]) -> T:
        """Return one of the choices."""
        return choices[self.byte() % len(choices)]

    def some(self, make: Callable[[], T], most: int) -> tuple[T, ...]:
        """Return up to `most` values."""
        return tuple(make() for _turn in range(self.byte() % (most + 1)))

    def number(self, most: int = (1 << 63) - 1) -> int:
        """Return a number up to `most`, mostly a small one."""
        return min(most, self.one_of(NUMBERS))

    def host(self) -> str:
        """Return a host's name."""
        return self.one_of(HOSTS)

    def origin(self) -> str:
        """Return the id of a process."""
        return self.one_of(ORIGINS)

    def address(self) -> Address:
        """Return an address."""
        return self.one_of(ADDRESSES)

    def message_id(self) -> MessageId:
        """Return the id of a message."""
        return MessageId(self.origin(), max(1, self.number()))

    def envelope(self) -> Envelope:
        """Return an envelope."""
        pattern = self.one_of(tuple(Pattern))
        return Envelope(
            self.message_id(),
            pattern,
            self.address(),
            self.host(),
            self.one_of((30.0, 0.0, 0.001, 0.57, 3600.0, protocol.MAX_TTL)),
            self.one_of((ME, "", "there", "evil")),
            self.number(),
            self.number(),
            self.message_id() if pattern is Pattern.REPLY else None,
            self.byte() % 6,
            self.number(),
        )

    def message(self) -> Message:
        """Return a message of any kind."""
        kind = self.one_of(_KINDS)
        return DRAWN[kind](self)


def _taken(draw: Draw) -> tuple[str, int, tuple[int, ...]]:
    return draw.origin(), draw.number(), draw.some(lambda: max(1, draw.number()), 4)


DRAWN: dict[type, Callable[[Draw], Message]] = {
    protocol.Hello: lambda draw: protocol.Hello(
        draw.one_of(("service", "receiver")),
        draw.host(),
        draw.origin(),
        draw.one_of(("", "name")),
        draw.byte(),
        draw.number(1 << 24),
        draw.some(lambda: _taken(draw), 3),
    ),
    protocol.Welcome: lambda draw: protocol.Welcome(draw.host(), draw.origin()),
    protocol.WhoAreYou: lambda _draw: protocol.WhoAreYou(),
    protocol.Consume: lambda draw: protocol.Consume(draw.number(), draw.some(draw.address, 5)),
    protocol.Consuming: lambda draw: protocol.Consuming(draw.number()),
    protocol.Parcel: lambda draw: protocol.Parcel(draw.envelope(), b"body" * (draw.byte() % 3)),
    protocol.Accepted: lambda draw: protocol.Accepted(draw.some(draw.message_id, 4)),
    protocol.Returned: lambda draw: protocol.Returned(draw.message_id(), draw.one_of(sorted(protocol.REASONS)), draw.one_of(("", "text"))),
    protocol.Held: lambda draw: protocol.Held(draw.message_id(), "text"),
    protocol.Assigned: lambda draw: protocol.Assigned(draw.message_id(), draw.host()),
    protocol.Credit: lambda draw: protocol.Credit(draw.number(1 << 24)),
    protocol.Ping: lambda draw: protocol.Ping(draw.number()),
    protocol.Pong: lambda draw: protocol.Pong(draw.number()),
    protocol.Bye: lambda _draw: protocol.Bye(),
    protocol.Inspect: lambda draw: protocol.Inspect(draw.number(), draw.one_of(("status", "route", "other")), draw.one_of(("", "compute", "a/b"))),
    protocol.Report: lambda draw: protocol.Report(draw.number(), draw.one_of(("", "{}", "not JSON"))),
    protocol.Announce: lambda draw: protocol.Announce(draw.some(draw.address, 5), bool(draw.byte() % 2)),
    protocol.Tap: lambda draw: protocol.Tap(draw.some(draw.address, 5), draw.number(1 << 24)),
    protocol.Copy: lambda draw: protocol.Copy(draw.address(), draw.host(), draw.number(), b"body" * (draw.byte() % 3)),
    protocol.Seek: lambda draw: protocol.Seek(draw.message_id(), draw.address()),
}
_KINDS = tuple(DRAWN)
