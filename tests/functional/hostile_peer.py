# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A host that sends a receiver whatever it likes, over TCP or, as a service's process would, over the UNIX socket."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import zmq
from brokerless.rpc.bundle import unbundled
from brokerless.rpc.envelope import Envelope, MessageId, Pattern
from brokerless.rpc.protocol import Hello, Message, Parcel, Welcome, decode, encode
from brokerless.rpc.topics import Address
from receiver_process import Receiver

ORIGIN = "e" * 16
GRACE_MS = 30_000


class HostilePeer:
    """A connection to a receiver, of a receiver (`tcp`) or of a service (`ipc`)."""

    def __init__(self, receiver: Receiver, *, ipc: bool = False, greet: bool = True, origin: str = ORIGIN) -> None:
        """Connect, and with `greet` say who is there, and wait for the welcome."""
        self.receiver = receiver
        self.ipc = ipc
        self.origin = origin
        self._received: deque[Message] = deque()
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, GRACE_MS)
        self.socket.setsockopt(zmq.RCVTIMEO, GRACE_MS)
        self.socket.setsockopt(zmq.SNDTIMEO, GRACE_MS)
        self.socket.connect(f"ipc://{receiver.ipc_directory / 'receiver.sock'}" if ipc else f"tcp://{receiver.address}:{receiver.port}")
        if greet:
            self.send(Hello("service" if ipc else "receiver", receiver.host if ipc else "evilhost", origin, "evil", 1, 0))
            assert isinstance(self.receive(), Welcome)

    def send(self, message: Message) -> None:
        """Send a message of the protocol."""
        self.send_frames(encode(message))

    def send_frames(self, frames: Sequence[bytes]) -> None:
        """Send whatever it is."""
        self.socket.send_multipart(list(frames))

    def parcel(self, number: int, address: Address, ttl: float = 60.0, body: bytes = b"") -> None:
        """Send a cast to be delivered by the receiver itself."""
        envelope = Envelope(MessageId(self.origin, number), Pattern.CAST, address, "evilhost", ttl, host=self.receiver.host)
        self.send(Parcel(envelope, body))

    def receive(self) -> Message:
        """Return the next message that the receiver sends."""
        while not self._received:
            self._received.extend(map(decode, unbundled(self.socket.recv_multipart())))
        return self._received.popleft()

    def close(self) -> None:
        """Send what is not sent yet, and disconnect."""
        self.socket.close()
        self._context.term()

    def __enter__(self) -> HostilePeer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
