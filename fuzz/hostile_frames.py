# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Strangers at the door of a real receiver: frames of every hostile kind, over TCP and over the UNIX socket, before and after they said who they are.

`make besiege FRAMES=1000000` by hand; `make test` does a share of it. Afterwards the receiver must serve calls as before, and have no file and
no connection more, no thread but the few that look up names, and its memory within a bound.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "functional")]

from brokerless.rpc import impl_zmq, protocol  # noqa: E402 - beside this file, wherever we were started
from brokerless.rpc.context import RpcContext  # noqa: E402
from brokerless.rpc.driver.connection import Connection  # noqa: E402
from brokerless.rpc.envelope import Envelope, MessageId, Pattern  # noqa: E402
from brokerless.rpc.protocol import Message, Parcel, encode  # noqa: E402
from brokerless.rpc.receiver.name_lookup import LOOKUP_THREADS  # noqa: E402
from brokerless.rpc.topics import Address  # noqa: E402
from drawn import Draw  # noqa: E402
from hostile_peer import HostilePeer  # noqa: E402
from receiver_process import Receiver, free_port, short_directory, wait_until  # noqa: E402

MEMORY_MB = 250
"""By how much the receiver's memory may have grown in the end. Its tables hold what strangers may fill, and no more."""
SEEN_AGAIN = 2000
"""After so many frames a stranger looks whether the receiver still answers."""
CONSUME_ADDRESSES = 100_000


@dataclass(frozen=True)
class Traces:
    """What a receiver has of the machine."""

    files: tuple[str, ...]
    threads: int
    descriptors: int
    memory_mb: float


def traces(receiver: Receiver) -> Traces:
    """Look at a receiver's process."""
    process = Path(f"/proc/{receiver.pid}")
    pages = int((process / "statm").read_text().split()[1])
    files = tuple(sorted(str(path.relative_to(receiver.directory)) for path in receiver.directory.rglob("*") if path.name != "n"))
    return Traces(files, len(list((process / "task").iterdir())), len(list((process / "fd").iterdir())), pages * os.sysconf("SC_PAGESIZE") / 1e6)


class Stranger:
    """Sends hostile frames from a source of chance."""

    def __init__(self, receiver: Receiver, seed: int) -> None:
        self.receiver = receiver
        self.chance = random.Random(seed)
        self.sent = 0

    def origin(self) -> str:
        """Return an id of a process that nobody has heard of."""
        return f"{self.chance.getrandbits(64):016x}"

    def name(self) -> str:
        """Return a name that nobody has heard of."""
        return f"evil{self.chance.getrandbits(40):x}"

    def random_bytes(self) -> list[bytes]:
        """Noise."""
        return [self.chance.randbytes(self.chance.randint(0, 200)) for _turn in range(self.chance.randint(1, 4))]

    def drawn(self) -> list[bytes]:
        """A well-formed message of any kind."""
        return encode(Draw(self.chance.randbytes(60)).message())

    def mutated(self) -> list[bytes]:
        """A message with a few bytes changed, or cut off, or with a claim to be huge."""
        header, *rest = self.drawn()
        changed = bytearray(header)
        for _turn in range(self.chance.randint(1, 4)):
            changed[self.chance.randrange(len(changed))] = self.chance.getrandbits(8)
        how = self.chance.randrange(4)
        if how == 0:
            return [bytes(changed[: self.chance.randrange(len(changed) + 1)]), *rest]
        if how == 1:
            return [bytes(changed) + b"\xdd\xff\xff\xff\xff" * self.chance.randint(1, 50), *rest]
        return [bytes(changed), *rest]

    def parcel(self) -> list[bytes]:
        """A cast from a process that nobody knows, for a topic that nobody consumes, here, elsewhere, or wherever it is."""
        here = self.receiver.host
        name = self.name()
        address = self.chance.choice(
            (
                Address(name),
                Address(name, server=here),
                Address("compute", server=name),
                Address(name, fanout=True),
                Address("compute", server="127.9.9.9"),
            )
        )
        pattern = self.chance.choice((Pattern.CAST, Pattern.CALL, Pattern.NOTIFICATION))
        number = self.chance.randint(1, 1 << 40)
        host = self.chance.choice((here, "", name))
        envelope = Envelope(MessageId(self.origin(), number), pattern, address, name, protocol.MAX_TTL, host, self.chance.choice((0, number)))
        return encode(Parcel(envelope, b"x" * self.chance.randrange(300)))

    def claim(self) -> list[bytes]:
        """A well-formed lie."""
        ids = tuple(MessageId(self.origin(), self.chance.randint(1, 1 << 40)) for _turn in range(self.chance.randint(1, 20)))
        lies: tuple[Message, ...] = (
            protocol.Accepted(ids),
            protocol.Returned(ids[0], protocol.FULL, "lie"),
            protocol.Held(ids[0], "lie"),
            protocol.Credit(1 << 24),
            protocol.Ping(self.chance.getrandbits(60)),
            protocol.Welcome(self.name(), self.origin()),
            protocol.Assigned(ids[0], self.name()),
            protocol.WhoAreYou(),
            protocol.Tap((Address(self.name()), Address("compute")), 1 << 24),
            protocol.Copy(Address("compute"), self.name(), 1 << 40, b"lie"),
        )
        return encode(self.chance.choice(lies))

    def hello(self) -> list[bytes]:
        """Somebody new, who took this and that already."""
        role = self.chance.choice(("service", "receiver"))
        host = self.chance.choice((self.receiver.host, self.name()))
        taken = tuple((self.origin(), self.chance.getrandbits(20), (1 << 30, 1 << 31)) for _turn in range(self.chance.randrange(4)))
        return encode(protocol.Hello(role, host, self.origin(), self.name(), 1, 1 << 24, taken))

    def consume(self) -> list[bytes]:
        """A few addresses to consume, some of them others' mailboxes."""
        addresses = tuple(
            self.chance.choice((Address(self.name()), Address(self.name(), fanout=True), Address("zmq_replies", server=self.origin())))
            for _turn in range(self.chance.randrange(20))
        )
        return encode(protocol.Consume(self.chance.getrandbits(20), addresses))


def floods(stranger: Stranger, frames: int) -> Iterator[tuple[str, int]]:
    """Send about so many frames of every kind; yield what was sent, and how many."""
    receiver = stranger.receiver
    kinds: tuple[Callable[[], list[bytes]], ...] = (
        stranger.random_bytes,
        stranger.mutated,
        stranger.drawn,
        stranger.parcel,
        stranger.claim,
        stranger.hello,
        stranger.consume,
    )
    share = frames // (len(kinds) * 4)
    for ipc in (False, True):
        for greet in (False, True):
            for kind in kinds:
                flood(stranger, kind, share, ipc=ipc, greet=greet)
                yield f"{kind.__name__}, {'unix' if ipc else 'tcp'}, {'after' if greet else 'before'} Hello", share
    connections = min(2000, max(20, frames // 500))
    raw_bytes(stranger, connections)
    yield "connections with raw bytes", connections
    passers_by(stranger, connections)
    yield "connections that say Hello and go", connections
    with HostilePeer(receiver, ipc=True, origin=stranger.origin()) as peer:
        peer.send(protocol.Consume(1, tuple(Address(stranger.name()) for _turn in range(CONSUME_ADDRESSES))))
        answers(peer)
    yield f"Consume of {CONSUME_ADDRESSES:,} addresses", 1
    for ipc in (False, True):
        pings = frames // 20
        deaf(stranger, pings, ipc=ipc)
        yield f"Ping of somebody who never listens, {'unix' if ipc else 'tcp'}", pings


def flood(stranger: Stranger, kind: Callable[[], list[bytes]], count: int, *, ipc: bool, greet: bool) -> None:
    """Send frames of a kind over one connection, and read what comes back."""
    with HostilePeer(stranger.receiver, ipc=ipc, greet=greet, origin=stranger.origin()) as peer:
        for number in range(1, count + 1):
            peer.send_frames(kind())
            stranger.sent += 1
            while peer.socket.poll(0):
                peer.socket.recv_multipart()
            if number % SEEN_AGAIN == 0:
                answers(peer)
        answers(peer)


def answers(peer: HostilePeer) -> None:
    """See that the receiver is through with what was sent, and answers."""
    stamp = random.getrandbits(60)
    host = peer.receiver.host
    peer.send(protocol.Hello("service" if peer.ipc else "receiver", host if peer.ipc else "evilhost", peer.origin, "evil", 1, 0))
    peer.send(protocol.Ping(stamp))
    while peer.receive() != protocol.Pong(stamp):
        pass


def raw_bytes(stranger: Stranger, connections: int) -> None:
    """Speak ZMTP (RFC 23) badly: noise, half a greeting, and a good one with frames and commands that claim to be huge behind it."""
    chance = stranger.chance
    greeting = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
    ready = b"\x04\x26\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"
    tails = (
        b"\x02" + (1 << 62).to_bytes(8, "big"),
        b"\x06" + ((1 << 64) - 1).to_bytes(8, "big"),
        b"\x03" + (1 << 40).to_bytes(8, "big") + b"x" * 1000,
        b"\x04\xff" + b"y" * 255,
        b"\x01\x00" * 500,
    )
    for turn in range(connections):
        noise = chance.randbytes(chance.randint(1, 500))
        texts = (noise, greeting[: chance.randrange(64)], greeting + noise, greeting + ready + chance.choice(tails) + noise)
        with socket.create_connection((stranger.receiver.address, stranger.receiver.port), timeout=30) as raw:
            raw.sendall(texts[turn % len(texts)])
        stranger.sent += 1


def passers_by(stranger: Stranger, connections: int) -> None:
    """Connect, say who is there, under ever new names, and go without a word."""
    for turn in range(connections):
        with HostilePeer(stranger.receiver, ipc=bool(turn % 2), greet=False, origin=stranger.origin()) as peer:
            peer.send_frames(stranger.hello())
        stranger.sent += 1


def deaf(stranger: Stranger, pings: int, *, ipc: bool) -> None:
    """Ask and ask, and read no answer; libzmq reads a thousand of them for us."""
    with HostilePeer(stranger.receiver, ipc=ipc, origin=stranger.origin()) as peer:
        frames = encode(protocol.Ping(1))
        for _turn in range(pings):
            peer.send_frames(frames)
        stranger.sent += pings


class Compute:
    """What good processes call."""

    RPC_API_VERSION = "1.0"

    def echo(self, context: RpcContext, value: int) -> int:
        """Return the value."""
        return value


def served(receiver: Receiver, count: int) -> None:
    """Make calls, which must be answered."""
    for value in range(count):
        assert impl_zmq.call(receiver.conf, None, f"compute.{receiver.host}", {"method": "echo", "args": {"value": value}}, 30) == value


def besiege(frames: int, seed: int, say: Callable[[str], None]) -> tuple[Traces, Traces]:
    """Send about so many hostile frames to a receiver that serves calls; return its traces before and after. Fails if it does not serve any more."""
    with short_directory() as directory, Receiver(directory, port=free_port(["127.0.0.1"]), rpc_zmq_heartbeat_interval=1.0) as receiver:
        consumer = impl_zmq.create_connection(receiver.conf)
        try:
            consumer.create_consumer("compute", Compute())
            consumer.consume_in_thread()
            served(receiver, 20)
            before = traces(receiver)
            stranger = Stranger(receiver, seed)
            for what, count in floods(stranger, frames):
                served(receiver, 3)
                now = traces(receiver)
                say(
                    f"{stranger.sent:9,} sent; {now.memory_mb:6.0f} MB, {now.descriptors} descriptors, {now.threads} threads after {count:,} x {what}"
                )
            wait_until(lambda: traces(receiver).descriptors <= before.descriptors + LOOKUP_THREADS, "the strangers' connections are closed")
            served(receiver, 20)
            connection = Connection(str(receiver.ipc_directory), receiver.host)
            status = connection.inspect("status", timeout=30.0)
            connection.close(timeout=2.0)
            say(f"counted: {status['counters']}; hit: {status['bounds']}")
            assert "Traceback" not in receiver.log, receiver.log[-3000:]
            lines = receiver.log.count("\n")
            assert lines < 2000 + frames // 10, f"{lines} lines in the log"
            return before, traces(receiver)
        finally:
            impl_zmq.cleanup()


def main() -> int:
    """Besiege a receiver with FRAMES frames, from the chance of SEED."""
    began = time.monotonic()
    frames, seed = int(os.environ.get("FRAMES", "1000000")), int(os.environ.get("SEED", "1"))
    before, after = besiege(frames, seed, lambda text: sys.stdout.write(text + "\n") and sys.stdout.flush())
    sys.stdout.write(f"before: {before}\nafter:  {after}\n{time.monotonic() - began:.0f} s\n")
    same = before.files == after.files and after.threads <= before.threads + LOOKUP_THREADS
    return 0 if same and after.memory_mb - before.memory_mb < MEMORY_MB else 1


if __name__ == "__main__":
    sys.exit(main())
