# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Hear the agents' heartbeats at the brokerless receiver of this host: copies of what its consumers get, who lose nothing by it.

What is heard passes at this host only. Where reports for a bare topic take turns among the servers of several hosts, each of them gets a part, so
that an agent is heard here that many times more seldom, which the judge must be told by its settings.

Echoes here are questions that the receiver answers, on the same connection and in the same order as the copies.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from ...rpc.driver.connection import Connection, NotAnswered
from ...rpc.driver.workers import worker_of
from ...rpc.errors import MalformedBody, UnsupportedRpcEnvelopeVersion
from ...rpc.json_bodies import decode_request
from ...rpc.protocol import Copy
from ...rpc.topics import parse_address
from .base import Event, Tell
from .echo import Echoes
from .oslo_message import heard

LOG = logging.getLogger("rpcdaemon.bus")


@dataclass(frozen=True, slots=True)
class TapSettings:
    """Which receiver, on this host, and what of it. Times are in seconds.

    `host` is the receiver's rpc_zmq_host, `ipc_dir` its rpc_zmq_ipc_dir, `workers` its rpc_zmq_receiver_workers. An echo is sent each `echo_every`,
    and a receiver that has not answered for `deaf_after` is deaf to us.
    """

    ipc_dir: str
    host: str
    topic: str = "q-reports-plugin"
    workers: int = 1
    echo_every: float = 2.0
    deaf_after: float = 10.0


class TapBus:
    """A source of heartbeats: the receiver of this host. `close` before it is dropped."""

    def __init__(self, settings: TapSettings, tell: Tell) -> None:
        """Nothing is connected yet. `tell` gets each event, in threads of the bus, one at a time. Raises `TopicError` for what is no topic."""
        self._settings = settings
        self._address = parse_address(settings.topic)
        self._tell = tell
        self._telling = threading.RLock()
        source = f"receiver of {settings.host}, topic {self._address}"
        stall = 2 * settings.deaf_after + settings.echo_every
        self._echoes = Echoes(source, every=settings.echo_every, deaf_after=settings.deaf_after, stall=stall)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rpcdaemon-tap", daemon=True)

    def start(self) -> None:
        """Begin to listen, in the background; a receiver that is not there is waited for."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening; nothing is told any more."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(2 * self._settings.deaf_after)

    def _run(self) -> None:
        settings = self._settings
        connection = Connection(settings.ipc_dir, settings.host, pool_size=1, worker=worker_of(self._address, settings.workers))
        connection.tap([self._address], self._came)
        welcomes = 0
        while not self._closing.is_set():
            if connection.welcomes != welcomes:
                with self._telling:
                    if welcomes:
                        self._tell_all(self._echoes.closed("the receiver was away", time.monotonic()))
                    self._echoes.opened(time.monotonic())
                welcomes = connection.welcomes
            self._listen_once(connection, welcomes)
            self._closing.wait(settings.echo_every)
        connection.close(0.0)

    def _listen_once(self, connection: Connection, welcomes: int) -> None:
        """Send an echo, and tell what it proves."""
        with self._telling:
            self._tell_all(self._echoes.turn(time.monotonic()))
            number = self._echoes.due(time.monotonic())
        try:
            connection.inspect("route", self._settings.topic, self._settings.deaf_after if welcomes else self._settings.echo_every)
        except NotAnswered as error:
            with self._telling:
                self._tell_all(self._echoes.closed(str(error), time.monotonic()))
            return
        if number is not None and welcomes and connection.welcomes == welcomes:
            with self._telling:
                self._tell_all(self._echoes.came(number, time.monotonic()))

    def _came(self, copy: Copy) -> None:
        now = time.monotonic()
        with self._telling:
            if copy.lost:
                self._tell_all(self._echoes.missed(f"{copy.lost} messages were missed: more came in than we read", now))
            try:
                message = decode_request(copy.body).message
            except (MalformedBody, UnsupportedRpcEnvelopeVersion) as error:
                LOG.debug("a message for %s from %s is not read: %s", copy.address, copy.sender, error)
                return
            public = {key: value for key, value in message.items() if not key.startswith("_")}
            self._tell_all([heard(now, copy.address.exchange, str(copy.address), public)])

    def _tell_all(self, events: list[Event]) -> None:
        for event in events:
            if not self._closing.is_set():
                self._tell(event)
