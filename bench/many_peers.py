# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What a message costs a real receiver by how many other receivers it is connected to; those are sockets of one process that speak the protocol."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import zmq
from brokerless.rpc import impl_zmq
from brokerless.rpc.bundle import bundled, unbundled
from brokerless.rpc.driver.connection import process_connection
from brokerless.rpc.options import load_options
from brokerless.rpc.protocol import Accepted, Hello, Message, Parcel, Ping, Pong, Welcome, decode, encode
from measures import cpu_seconds
from receiver_process import Receiver, free_port, short_directory, wait_until
from worker_process import Worker

SECONDS = 3.0
UP = "up"


class Peers:
    """The other hosts' receivers. Each listens on its own address and connects to the real one; each takes every message and says so at once."""

    def __init__(self, addresses: dict[str, str], port: int, real: str) -> None:
        """Be the receivers of those hosts."""
        self._addresses = addresses
        self._port = port
        self._real = real
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        context = zmq.Context()
        poller = zmq.Poller()
        hosts: dict[zmq.Socket[bytes], str] = {}
        links: list[zmq.Socket[bytes]] = []
        for number, (host, address) in enumerate(self._addresses.items()):
            listening = context.socket(zmq.ROUTER)
            listening.bind(f"tcp://{address}:{self._port}")
            hosts[listening] = host
            poller.register(listening, zmq.POLLIN)
            link = context.socket(zmq.DEALER)
            link.connect(f"tcp://{self._real}:{self._port}")
            link.send_multipart(encode(Hello("receiver", host, f"{number:016x}")))
            links.append(link)
            poller.register(link, zmq.POLLIN)
        ping_at = time.monotonic()
        while True:
            for readable, _event in poller.poll(100):
                host = hosts.get(readable, "")
                with contextlib.suppress(zmq.Again):
                    while True:
                        frames = readable.recv_multipart(zmq.NOBLOCK)
                        if host:
                            _answer(readable, host, frames)
            if time.monotonic() >= ping_at:
                ping_at = time.monotonic() + 1.0
                for link in links:
                    link.send_multipart(encode(Ping(1)))


def _answer(listening: zmq.Socket[bytes], host: str, frames: list[bytes]) -> None:
    key, *rest = frames
    messages = list(map(decode, unbundled(rest)))
    answers: list[Message] = []
    taken = tuple(message.envelope.id for message in messages if isinstance(message, Parcel))
    if taken:
        answers.append(Accepted(taken))
    for message in messages:
        if isinstance(message, Hello):
            answers.append(Welcome(host, f"{hash(host) & (1 << 63) - 1:016x}"))
        elif isinstance(message, Ping):
            answers.append(Pong(message.stamp))
    for bundle in bundled(map(encode, answers)):
        listening.send_multipart([key, *bundle])


class Casting:
    """A service that casts to each host in turn."""

    def __init__(self, config_file: str) -> None:
        self._conf = load_options([config_file])

    def peers_up(self) -> int:
        """Return how many of the other hosts are up."""
        return sum(peer["state"] == UP for peer in process_connection(self._conf).inspect("status")["peers"])

    def cast(self, hosts: list[str], seconds: float) -> int:
        """Cast to directed topics for a while, and return when all were taken, with how many there were."""
        message: dict[str, Any] = {"method": "take", "args": {"value": "x" * 300}}
        end = time.monotonic() + seconds
        count = 0
        while time.monotonic() < end:
            impl_zmq.cast(self._conf, {}, f"compute.{hosts[count % len(hosts)]}", message)
            count += 1
        left = process_connection(self._conf).settle(30.0)
        assert left == 0, f"{left} messages were not taken"
        return count


def with_real_connections(hosts: int) -> float:
    """Return the processor's seconds that a message costs a receiver that is connected to so many others, both ways."""
    addresses = {f"host{number}": f"127.0.{2 + number // 200}.{1 + number % 200}" for number in range(hosts)}
    port = free_port(["127.0.1.1", *addresses.values()])
    known = ",".join(f"{host}:{address}" for host, address in addresses.items())
    with short_directory() as directory, contextlib.ExitStack() as running:
        running.enter_context(Worker(Peers, addresses, port, "127.0.1.1"))
        receiver = _receiver(directory, port, addresses, known)
        running.enter_context(receiver)
        service = running.enter_context(Worker(Casting, str(receiver.config_file)))
        wait_until(lambda: service.ask("peers_up") == hosts, f"{hosts} peers are up")
        service.ask("cast", list(addresses), 0.5)
        before = cpu_seconds(receiver.pid)
        count = service.ask("cast", list(addresses), SECONDS)
        return (cpu_seconds(receiver.pid) - before) / int(count)


def _receiver(directory: Path, port: int, addresses: dict[str, str], known: str) -> Receiver:
    ring = {"compute": list(addresses)}
    return Receiver(directory, "real", "127.0.1.1", port, ring, rpc_zmq_host_addresses=known, rpc_zmq_heartbeat_interval=1.0)
