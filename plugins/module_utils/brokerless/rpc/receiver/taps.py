# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Copies of what passes, for processes of this host that want to listen and take nothing.

A copy is made when a message has been taken in for a consumer here, and never instead of anything: it has no verdict, is not kept, not sent again,
and takes up no credit of a consumer. Who is slow to make room misses copies, and is told how many. No sockets, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from ..protocol import Copy, Parcel, Tap
from ..topics import REPLIES_TOPIC, Address

MAX_TAPPED = 100
"""The most addresses that a process may tap."""
MAX_ROOM = 10_000
"""The most copies that may be on their way to a process."""


@dataclass(slots=True)
class _Listener:
    addresses: frozenset[Address]
    room: int
    lost: int = 0


class Taps:
    """Who listens to what."""

    def __init__(self, send: Callable[[bytes, Copy], None]) -> None:
        """`send` brings a copy to the client of that key."""
        self._send = send
        self._listeners: dict[bytes, _Listener] = {}
        self.copies = 0
        self.lost = 0

    @staticmethod
    def why_not(addresses: Collection[Address]) -> str:
        """Return why nobody may tap `addresses`; empty if one may."""
        if len(addresses) > MAX_TAPPED:
            return f"it wants to tap {len(addresses)} addresses; at most {MAX_TAPPED} are allowed"
        private = next((address for address in addresses if address.topic == REPLIES_TOPIC), None)
        return f"{private} is where a process gets its answers" if private else ""

    def tap(self, client: bytes, tap: Tap) -> None:
        """Let a client listen to the addresses of `tap` and nothing else, and get that many more copies."""
        before = self._listeners.get(client)
        if not tap.addresses:
            self.leave(client)
        elif before is None:
            self._listeners[client] = _Listener(frozenset(tap.addresses), min(tap.count, MAX_ROOM))
        else:
            before.addresses = frozenset(tap.addresses)
            before.room = min(before.room + tap.count, MAX_ROOM)

    def leave(self, client: bytes) -> None:
        """The client has gone, or listens no more."""
        self._listeners.pop(client, None)

    def passed(self, parcel: Parcel) -> None:
        """A message was taken in for a consumer."""
        address = parcel.envelope.address
        for client, listener in self._listeners.items():
            if address not in listener.addresses:
                continue
            if listener.room:
                listener.room -= 1
                lost, listener.lost = listener.lost, 0
                self.copies += 1
                self._send(client, Copy(address, parcel.envelope.sender, lost, parcel.body))
            else:
                listener.lost += 1
                self.lost += 1
