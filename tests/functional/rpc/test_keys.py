# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""CURVE between real receivers: who gets in, who does not, and keys that change under way."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq
from brokerless.rpc.bundle import unbundled
from brokerless.rpc.driver.connection import Connection, Incoming
from brokerless.rpc.envelope import Envelope, MessageId, Pattern
from brokerless.rpc.protocol import Accepted, Bye, Hello, Message, Parcel, ProtocolError, Welcome, decode, encode, new_incarnation
from brokerless.rpc.receiver.gatekeeper import new_key_pair
from brokerless.rpc.receiver.keys import KeyPair
from brokerless.rpc.topics import parse_topic
from receiver_keys import KeyedReceiver, keyed_hosts, publish
from receiver_process import PATIENCE, Receiver, run_program, short_directory, wait_until

RING = {"compute": ["compute1"], "scheduler": ["control1"]}
COMPUTE1, CONTROL1 = parse_topic("compute.compute1"), parse_topic("scheduler.control1")


class Consumer:
    """Takes down the bodies that it is given, and answers with them."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def __call__(self, incoming: Incoming) -> None:
        self.bodies.append(incoming.body)
        incoming.reply(incoming.body)


class Service:
    """A process on a receiver's host, with a consumer for its directed topic."""

    def __init__(self, receiver: Receiver, topic: str) -> None:
        # one thread, so that what is handed over in order is taken down in order
        self.connection = Connection(str(receiver.ipc_directory), receiver.host, pool_size=1, heartbeat=0.2)
        self.consumer = Consumer()
        self.connection.subscribe([parse_topic(topic)], self.consumer)

    def status(self) -> dict[str, Any]:
        """What the receiver says of itself; it may just be restarting."""
        return self.connection.inspect("status", timeout=PATIENCE)

    def keys(self) -> dict[str, object]:
        """What the receiver says of its keys."""
        found: dict[str, object] = self.status()["curve"]
        return found

    def refused(self) -> int:
        """How many connections and messages the receiver has refused for their keys."""
        return int(self.status()["counters"].get("refused_connections", 0))

    def peer(self, host: str) -> str:
        """How the receiver says that another host is."""
        return next((str(peer["state"]) for peer in self.status()["peers"] if peer["host"] == host), "unknown")


class Pair:
    """Two hosts with keys, and a service on each."""

    def __init__(self, receivers: list[KeyedReceiver]) -> None:
        self.control, self.compute = receivers
        self.on_control, self.on_compute = Service(self.control, "scheduler.control1"), Service(self.compute, "compute.compute1")

    def call(self, body: bytes) -> bytes:
        """Call compute1 from control1."""
        return self.on_control.connection.call(COMPUTE1, body, PATIENCE)

    def close(self) -> None:
        for service in (self.on_control, self.on_compute):
            service.connection.close(timeout=2.0)


@contextlib.contextmanager
def two_hosts(**options: object) -> Iterator[Pair]:
    with keyed_hosts(["control1", "compute1"], RING, **options) as receivers:
        pair = Pair(receivers)
        try:
            yield pair
        finally:
            pair.close()


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """One for all tests that leave the keys of the two hosts as they are."""
    with two_hosts() as pair:
        yield pair


@pytest.fixture
def forgotten(pair: Pair) -> Iterator[None]:
    """Forgets a further host that the test let in, and what was consumed."""
    pair.on_compute.consumer.bodies.clear()
    yield
    (pair.compute.hosts_directory / "compute7.pub").unlink(missing_ok=True)
    wait_until(lambda: pair.on_compute.keys()["hosts"] == 2, "the further host is forgotten")


class Intruder:
    """Speaks a receiver's protocol with compute1's receiver, as `host`, over a socket of its own, with the keys that it is given, or none."""

    numbers = itertools.count(1)

    def __init__(self, receiver: KeyedReceiver, host: str, own: KeyPair | None, server_key: str = "") -> None:
        self.host = host
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        if own is not None:
            self.socket.curve_publickey, self.socket.curve_secretkey = own.public.encode(), own.secret.encode()
            self.socket.curve_serverkey = (server_key or receiver.own.current.public).encode()
        self.socket.connect(f"tcp://{receiver.address}:{receiver.port}")
        self.origin = new_incarnation(os.urandom(8))

    def send(self, message: Message) -> None:
        self.socket.send_multipart(encode(message))

    def greet(self) -> None:
        self.send(Hello("receiver", self.host, new_incarnation(os.urandom(8))))

    def cast(self, body: bytes) -> None:
        """Send a message for the consumer of compute1."""
        envelope = Envelope(MessageId(self.origin, next(self.numbers)), Pattern.CAST, COMPUTE1, self.host, PATIENCE, host="compute1")
        self.send(Parcel(envelope, body))

    def hears(self, kind: type[Message], patience: float = PATIENCE) -> bool:
        """Whether a message of that kind comes in time."""
        while self.socket.poll(int(patience * 1000)):
            with contextlib.suppress(ProtocolError):
                if any(isinstance(decode(frames), kind) for frames in unbundled(self.socket.recv_multipart())):
                    return True
        return False

    def __enter__(self) -> Intruder:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()
        self.context.term()


def assert_only_the_caller_was_heard(pair: Pair) -> None:
    """A call that comes after whatever the intruder sent arrives, and nothing else did."""
    before = len(pair.on_compute.consumer.bodies)
    assert pair.call(b"the caller") == b"the caller"
    assert pair.on_compute.consumer.bodies[before:] == [b"the caller"]
    assert b"intruder" not in pair.on_compute.consumer.bodies


def test_calls_work_both_ways_and_nothing_of_them_travels_in_the_clear(pair: Pair) -> None:
    assert pair.call(b"there") == b"there"
    assert pair.on_compute.connection.call(CONTROL1, b"and back", PATIENCE) == b"and back"
    for service, receiver in ((pair.on_control, pair.control), (pair.on_compute, pair.compute)):
        keys = service.keys()
        assert keys["public_key"] == receiver.own.current.public
        assert (keys["hosts"], keys["error"]) == (2, "")
        assert receiver.own.current.secret not in str(keys) + receiver.log


@pytest.mark.usefixtures("forgotten")
def test_who_has_the_key_of_a_host_is_that_host(pair: Pair) -> None:
    """That the intruders of the tests below would get through, if they had the key."""
    with Intruder(pair.compute, "control1", pair.control.own.current) as friend:
        friend.greet()
        assert friend.hears(Welcome)
        friend.cast(b"friend")
        assert friend.hears(Accepted)
    wait_until(lambda: pair.on_compute.consumer.bodies == [b"friend"], "the consumer has it")


@pytest.mark.parametrize("server_key_known", [True, False])
def test_an_unknown_key_or_a_wrong_one_of_the_server_gets_nowhere(pair: Pair, server_key_known: bool) -> None:
    stranger = new_key_pair()
    server_key = "" if server_key_known else new_key_pair().public
    own = stranger if server_key_known else pair.control.own.current
    before = pair.on_compute.refused()
    with Intruder(pair.compute, "control1", own, server_key) as intruder:
        intruder.greet()
        intruder.cast(b"intruder")
        wait_until(lambda: pair.on_compute.refused() > before, "the connection is refused")
        assert_only_the_caller_was_heard(pair)
        assert not intruder.socket.poll(0)
    said = stranger.public if server_key_known else "it expects another public key of this host"
    assert said in pair.compute.log
    if server_key_known:
        assert "refused a connection from 127.0.0.1 with public key" in pair.compute.log


def test_a_socket_without_curve_gets_nowhere(pair: Pair) -> None:
    with Intruder(pair.compute, "control1", None) as intruder:
        intruder.greet()
        intruder.cast(b"intruder")
        # which side notices first decides how much the receiver learns
        wait_until(lambda: re.search(r"refused a connection: it .*does not use CURVE", pair.compute.log), "the connection is refused")
        assert_only_the_caller_was_heard(pair)
        assert not intruder.socket.poll(0)


def test_raw_bytes_get_nowhere(pair: Pair) -> None:
    """A ZMTP greeting of each mechanism, with the protocol's frames right behind it as if the handshake were over."""
    bodies = [encode(Hello("receiver", "control1", new_incarnation(os.urandom(8))))]
    frames = b"".join(bytes([0, len(frame)]) + frame for frame in bodies[0])
    ready = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
    for mechanism in (b"NULL", b"CURVE", b"PLAIN"):
        with socket.create_connection((pair.compute.address, pair.compute.port), timeout=PATIENCE) as raw:
            raw.sendall(b"\xff\0\0\0\0\0\0\0\1\x7f\3\1" + mechanism.ljust(20, b"\0") + bytes(32) + ready + frames * 20)
            with contextlib.suppress(ConnectionResetError):
                while raw.recv(4096):
                    pass
    assert_only_the_caller_was_heard(pair)


@pytest.mark.usefixtures("forgotten")
def test_a_host_cannot_speak_for_another(pair: Pair) -> None:
    spoofer = new_key_pair()
    pair.compute.allow("compute7", spoofer.public)
    wait_until(lambda: pair.on_compute.keys()["hosts"] == 3, "the new host is known")
    with Intruder(pair.compute, "control1", spoofer) as intruder:
        intruder.greet()
        intruder.cast(b"intruder")
        wait_until(lambda: "calls itself control1: its public key is the one of host compute7" in pair.compute.log, "the name is refused")
        assert_only_the_caller_was_heard(pair)
        # under its own name it is welcome
        intruder.host = "compute7"
        intruder.greet()
        assert intruder.hears(Welcome)


def test_a_host_without_a_key_is_down_and_the_missing_file_is_named() -> None:
    with two_hosts(rpc_cast_timeout=5) as pair:
        (pair.control.hosts_directory / "compute1.pub").unlink()
        (pair.compute.hosts_directory / "control1.pub").unlink()
        missing = f"there is no public key of it: {pair.control.hosts_directory}/compute1.pub is missing"
        wait_until(lambda: missing in pair.on_control.peer("compute1"), "the missing file is named")
        wait_until(lambda: pair.on_compute.keys()["hosts"] == 1, "compute1 has forgotten control1")
        publish(pair.compute, [pair.control])
        refused = "it refuses our public key"
        wait_until(lambda: refused in pair.on_control.peer("compute1"), "the refusal is named")
        publish(pair.control, [pair.compute])
        assert pair.call(b"again") == b"again"


def test_a_receiver_without_curve_is_told_what_is_wrong() -> None:
    with keyed_hosts(["control1", "compute1"], RING, rpc_zmq_curve=False) as (_control, compute):
        compute.stop()
        compute.config_file.write_text(compute.config_file.read_text().replace("rpc_zmq_curve = False", "rpc_zmq_curve = True"))
        compute.start()
        wait_until(lambda: re.search(r"refused a connection: it .*does not use CURVE", compute.log), "compute1 says what is wrong")
        wait_until(lambda: re.search(r"host control1 is down: it .*does not use CURVE", compute.log), "it says where")
        assert "host control1 is up" not in compute.log.rpartition("; ready")[2]


@pytest.mark.usefixtures("forgotten")
def test_who_lost_its_place_in_the_list_is_cut_off_at_once(pair: Pair) -> None:
    """Also the connection that it has."""
    former = new_key_pair()
    pair.compute.allow("compute7", former.public)
    wait_until(lambda: pair.on_compute.keys()["hosts"] == 3, "the new host is known")
    with Intruder(pair.compute, "compute7", former) as intruder:
        intruder.greet()
        assert intruder.hears(Welcome)
        intruder.cast(b"friend")
        assert intruder.hears(Accepted)
        wait_until(lambda: pair.on_compute.consumer.bodies == [b"friend"], "the consumer has it")
        before = pair.on_compute.refused()
        (pair.compute.hosts_directory / "compute7.pub").unlink()
        assert intruder.hears(Bye)
        for _turn in range(100):
            intruder.cast(b"intruder")
        intruder.greet()
        wait_until(lambda: pair.on_compute.refused() >= before + 100, "what the old connection sends is refused")
        assert_only_the_caller_was_heard(pair)
        assert not intruder.socket.poll(0)
    before = pair.on_compute.refused()
    with Intruder(pair.compute, "compute7", former) as intruder:
        intruder.greet()
        intruder.cast(b"intruder")
        wait_until(lambda: pair.on_compute.refused() > before, "a new connection is refused")
        assert_only_the_caller_was_heard(pair)
    assert pair.compute.log.count("this key is not the host's any more") == 1


def test_a_broken_list_changes_nothing_and_is_reported() -> None:
    with two_hosts() as pair:
        broken = pair.compute.hosts_directory / "compute7.pub"
        broken.write_text("# a comment\nnot a key\n", encoding="utf-8")
        fault = f"public keys {broken}, line 2: a key has 40 characters, and this has 3"
        wait_until(lambda: pair.on_compute.keys()["error"] == fault, "the fault is in status")
        assert f"{fault}; the public keys that were read before stay in use" in pair.compute.log
        (pair.compute.hosts_directory / "control1.pub").unlink()
        pair.compute.signal(signal.SIGHUP)
        wait_until(lambda: "SIGHUP: reading the public keys anew" in pair.compute.log, "they are read on SIGHUP")
        assert pair.call(b"still in") == b"still in"
        broken.unlink()
        wait_until(lambda: pair.on_compute.keys()["hosts"] == 1, "the good list is read")
        assert pair.on_compute.keys()["error"] == ""


class Stream:
    """Casts numbers from control1 to compute1, and back, until it is stopped."""

    def __init__(self, pair: Pair) -> None:
        self.sent = {b"there": 0, b"back": 0}
        self._pair = pair
        self._going_on = threading.Event()
        self._threads = [
            threading.Thread(target=self._cast, args=(pair.on_control.connection.cast, COMPUTE1, b"there")),
            threading.Thread(target=self._cast, args=(pair.on_compute.connection.cast, CONTROL1, b"back")),
        ]

    def _cast(self, cast: Callable[..., None], address: object, name: bytes) -> None:
        while not self._going_on.wait(0.002):
            cast(address, b"%d" % self.sent[name], PATIENCE)
            self.sent[name] += 1

    def __enter__(self) -> Stream:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._going_on.set()
        for thread in self._threads:
            thread.join()

    def assert_complete(self) -> None:
        """Each number arrived, once and in order."""
        for consumer, name in ((self._pair.on_compute.consumer, b"there"), (self._pair.on_control.consumer, b"back")):
            wait_until(lambda consumer=consumer, name=name: len(consumer.bodies) >= self.sent[name], "all casts arrived")
            assert consumer.bodies == [b"%d" % number for number in range(self.sent[name])]


def test_keys_are_rotated_under_a_stream_of_casts_and_the_old_ones_are_out() -> None:
    with two_hosts() as pair:
        rotate_under_a_stream(pair)


def rotate_under_a_stream(pair: Pair) -> None:
    hosts, services = [pair.control, pair.compute], [pair.on_control, pair.on_compute]
    stolen = pair.control.own.current

    def everyone_knows(host: str, count: int) -> bool:
        directories = [other.hosts_directory / f"{host}.pub" for other in hosts]
        written = all(len(path.read_text().split()) == count for path in directories)
        return written and len({service.keys()["fingerprint"] for service in services}) == 1

    assert pair.call(b"0") == b"0"
    pair.on_compute.consumer.bodies.clear()
    with Stream(pair) as stream:
        for receiver in hosts:
            before = services[0].keys()["fingerprint"]
            receiver.write_own(receiver.own.prepared(new_key_pair()))
            publish(receiver, hosts)
            wait_until(lambda before=before: all(one.keys()["fingerprint"] != before for one in services), "the next key is known")
            assert everyone_knows(receiver.host, 2)
        for receiver in hosts:
            receiver.write_own(receiver.own.rotated())
            receiver.stop()
            receiver.start()
            other, name = (services[1], "control1") if receiver is pair.control else (services[0], "compute1")
            wait_until(lambda other=other, name=name: other.peer(name) == "up", f"{name} is up with its new key")
        with Intruder(pair.compute, "control1", stolen) as thief:
            thief.greet()
            assert thief.hears(Welcome), "both keys are good for a while"
            for receiver in hosts:
                before = services[0].keys()["fingerprint"]
                receiver.write_own(receiver.own.settled())
                publish(receiver, hosts)
                wait_until(lambda before=before: all(one.keys()["fingerprint"] != before for one in services), "the old key is forgotten")
                assert everyone_knows(receiver.host, 1)
            assert thief.hears(Bye)
            sent = dict(stream.sent)
            wait_until(lambda: all(stream.sent[name] > sent[name] + 50 for name in sent), "the stream goes on")
            thief.cast(b"intruder")
            wait_until(lambda: f"public key {stolen.public}: this key is not the host's any more" in pair.compute.log, "it is refused")
    stream.assert_complete()
    assert pair.control.own.current != stolen
    before = pair.on_compute.refused()
    with Intruder(pair.compute, "control1", stolen) as thief:
        thief.greet()
        thief.cast(b"intruder")
        wait_until(lambda: pair.on_compute.refused() > before, "the old key is refused")
        assert_only_the_caller_was_heard(pair)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda receiver: receiver.secret_file.unlink(), "curve.secret: can't be read: No such file or directory"),
        (lambda receiver: receiver.secret_file.chmod(0o644), "curve.secret: has mode 0644, and may have 0600 or 0640"),
        (lambda receiver: receiver.secret_file.write_text("public = x\n"), "curve.secret, line 1: public: a key has 40 characters, and this has 1"),
        (lambda receiver: receiver.hosts_directory.rmdir(), "curve_hosts of the hosts' public keys can't be read: No such file or directory"),
        (lambda receiver: receiver.allow("compute1", "x"), "compute1.pub, line 1: a key has 40 characters, and this has 1"),
        (
            lambda receiver: receiver.write_own(type(receiver.own)(KeyPair(new_key_pair().public, receiver.own.current.secret))),
            "public does not belong",
        ),
    ],
)
def test_bad_keys_end_the_start_with_one_line(spoil: Callable[[KeyedReceiver], object], fault: str) -> None:
    with short_directory() as directory:
        receiver = KeyedReceiver(directory)
        secret = receiver.own.current.secret
        spoil(receiver)
        for arguments in ([], ["--check"]):
            result = run_program("receiver", "--config-file", receiver.config_file, *arguments)
            assert result.returncode == 1
            assert result.stderr.startswith("brokerless-receiver: ")
            assert result.stderr.count("\n") == 1
            assert fault in result.stderr
            assert secret not in result.stderr
