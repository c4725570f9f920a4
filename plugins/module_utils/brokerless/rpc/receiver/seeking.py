# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Messages for bare topics for which a broker is asked which host shall have them. No clock: time comes in as `now`, in seconds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from ..envelope import MessageId
from ..protocol import Seek
from ..topics import Address
from .outgoing import Outgoing

SEEK_PAUSE = 0.5
"""Seconds until a broker that knew no host for a bare topic is asked again."""


@dataclass(slots=True)
class _Seekers:
    """Messages for one topic, about all of which one broker is asked."""

    broker: str
    waiting: OrderedDict[MessageId, Outgoing] = field(default_factory=OrderedDict)
    paused_until: float = 0.0


class Seeking:
    """Whom the brokers are asked about, and when they are asked again."""

    def __init__(self, ask: Callable[[str, Seek], None]) -> None:
        """`ask` sends a question to a broker."""
        self._ask = ask
        self._seekers: dict[Address, _Seekers] = {}

    def begin(self, outgoing: Outgoing, broker: str, now: float, *, is_up: bool) -> None:
        """Ask `broker` which host shall have a message: at once if it is up and nothing makes it wait."""
        envelope = outgoing.parcel.envelope
        seekers = self._seekers.setdefault(envelope.address, _Seekers(broker))
        seekers.waiting[envelope.id] = outgoing
        if is_up and now >= seekers.paused_until:
            self._ask(broker, Seek(envelope.id, envelope.address))

    def end(self, outgoing: Outgoing) -> bool:
        """Ask no more about a message; return whether it was asked about."""
        envelope = outgoing.parcel.envelope
        seekers = self._seekers.get(envelope.address)
        if seekers is None or seekers.waiting.pop(envelope.id, None) is None:
            return False
        if not seekers.waiting:
            del self._seekers[envelope.address]
        return True

    def found_one(self, address: Address) -> None:
        """The broker named a host for a message for `address`: what waits because it knew none need not wait longer."""
        seekers = self._seekers.get(address)
        if seekers is not None and seekers.paused_until:
            self._ask_again(address, seekers)

    def found_none(self, outgoing: Outgoing, now: float) -> bool:
        """The broker knows no host for a message now, and is asked again later; return whether it was asked about it."""
        envelope = outgoing.parcel.envelope
        seekers = self._seekers.get(envelope.address)
        if seekers is None or envelope.id not in seekers.waiting:
            return False
        if not seekers.paused_until:
            seekers.paused_until = now + SEEK_PAUSE
        return True

    def broker_up(self, broker: str) -> None:
        """Ask a broker that can be asked now."""
        for address, seekers in self._seekers.items():
            if seekers.broker == broker:
                self._ask_again(address, seekers)

    def without(self, broker: str) -> list[Outgoing]:
        """Ask `broker` no more; return the messages that it was asked about."""
        addresses = [address for address, seekers in self._seekers.items() if seekers.broker == broker]
        return [outgoing for address in addresses for outgoing in self._seekers.pop(address).waiting.values()]

    def tick(self, now: float) -> None:
        """Ask again where it was waited for long enough."""
        for address, seekers in self._seekers.items():
            if seekers.paused_until and now >= seekers.paused_until:
                self._ask_again(address, seekers)

    def _ask_again(self, address: Address, seekers: _Seekers) -> None:
        seekers.paused_until = 0.0
        for message in seekers.waiting:
            self._ask(seekers.broker, Seek(message, address))
