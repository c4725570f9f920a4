# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What a message costs the receiver that sends it, by how many hosts there are: the real core, with the other hosts made up in the same process."""

from __future__ import annotations

import time

from brokerless.rpc.envelope import Envelope, MessageId, Pattern
from brokerless.rpc.protocol import Accepted, Hello, Message, Parcel, Ping, Pong, Welcome, decode, encode
from brokerless.rpc.receiver.core import CoreSettings, ReceiverCore
from brokerless.rpc.receiver.effects import Dial, ToClient, ToPeer
from brokerless.rpc.topics import Address
from world import Ring, Settings

SECONDS = 1.5
"""For so long messages are sent as fast as the core takes them, while its clock, and with it its heartbeats, goes on as everywhere."""
UNDER_WAY = 100
SERVICE = b"service"
ORIGIN = "a" * 16


class Sending:
    """A receiver's core with one service that sends a directed message to each host in turn; every host takes it and says so."""

    def __init__(self, hosts: int) -> None:
        """Connect to so many other hosts."""
        self._others = [f"host{number}" for number in range(hosts)]
        now = time.monotonic()
        self._core = ReceiverCore(CoreSettings("sender", "0" * 16), Ring(Settings("sender"), {"compute": self._others}), now)
        self._addresses = [Address("compute", server=host) for host in self._others]
        self._core.from_client(SERVICE, Hello("service", "sender", ORIGIN), now)
        self._number = 0
        self._ended = 0
        while any(peer["state"] != "up" for peer in self._core.status(now)["peers"]):
            self._carry_out(now)

    def seconds_for_a_message(self) -> float:
        """Send for a while; return the processor's time for one message, in which all that goes on beside it has its part."""
        end = time.monotonic() + SECONDS
        began, first = time.process_time(), self._number
        while (now := time.monotonic()) < end:
            for _message in range(UNDER_WAY):
                self._number += 1
                address = self._addresses[self._number % len(self._addresses)]
                envelope = Envelope(MessageId(ORIGIN, self._number), Pattern.CAST, address, "sender", 30.0, settled=self._ended + 1)
                self._core.from_client(SERVICE, _travelled(Parcel(envelope, b"x" * 300)), now)
            self._carry_out(now)
            self._core.tick(now)
            self._carry_out(now + 1.0)
        return (time.process_time() - began) / (self._number - first)

    def _carry_out(self, now: float) -> None:
        while effects := self._core.take_effects(now):
            for effect in effects:
                if isinstance(effect, Dial):
                    self._core.peer_connected(effect.host, "127.0.0.1:9500", now)
                elif isinstance(effect, ToPeer):
                    answer = self._answer(effect.host, _travelled(effect.message))
                    if answer is not None:
                        self._core.from_peer(effect.host, _travelled(answer), now)
                elif isinstance(effect, ToClient):
                    message = _travelled(effect.message)
                    if isinstance(message, Accepted):
                        self._ended += len(message.messages)

    @staticmethod
    def _answer(host: str, message: Message) -> Message | None:
        if isinstance(message, Parcel):
            return Accepted((message.envelope.id,))
        if isinstance(message, Hello):
            return Welcome(host, "b" * 16)
        if isinstance(message, Ping):
            return Pong(message.stamp)
        return None


def simulated(hosts: int) -> float:
    """Return the processor's seconds that a message costs a receiver among so many others."""
    return Sending(hosts).seconds_for_a_message()


def _travelled(message: Message) -> Message:
    return decode(encode(message))
