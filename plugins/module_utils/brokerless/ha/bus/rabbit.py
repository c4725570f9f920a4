# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Hear the agents' heartbeats on the cloud's RabbitMQ, taking nothing from anybody: a queue of our own gets a copy of each.

A topic exchange copies a message into every queue that is bound for it. Ours is exclusive (nobody else reads it, and it ends with our
connection), ends also if nobody reads it for `queue_expire` seconds, and is bounded in messages, bytes and their age, the oldest being dropped:
whatever becomes of us, the broker carries no burden. The exchange is Neutron's. We only look whether it is there, so that it does not matter how
it was declared (durable or not), nor of what kind the servers' queues are.

Neutron's agents report with the routing key `q-reports-plugin`, before the Liberty release `q-plugin`.
"""

from __future__ import annotations

import logging
import re
import socket
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...soft_import import soft_import
from ..broker_thread import BrokerThread, SessionFailed
from .base import Tell
from .echo import Echoes
from .oslo_message import NotOsloMessage, decode_oslo_message, heard, may_be_report

if TYPE_CHECKING:
    import amqp
    from amqp import exceptions as amqp_exceptions
else:
    amqp = soft_import("amqp", "kombu")
    amqp_exceptions = soft_import("amqp.exceptions", "kombu")

LOG = logging.getLogger("rpcdaemon.bus")
ROUTING_KEYS = ("q-reports-plugin", "q-plugin")
_ACKNOWLEDGE_AFTER = 64


@dataclass(frozen=True, slots=True)
class RabbitSettings:
    """What to listen to, and how. Times are in seconds.

    `urls` are kombu's, as `broker_urls` makes them. `overhear` tells every message that passes, not heartbeats only. An echo is sent each
    `echo_every`, and one that is `deaf_after` late makes us connect anew; turns that are `stall` apart mean that this process stood still.
    """

    urls: tuple[str, ...]
    exchange: str = "neutron"
    routing_keys: tuple[str, ...] = ROUTING_KEYS
    overhear: bool = False
    queue_prefix: str = "rpcdaemon"
    queue_expire: float = 60.0
    max_messages: int = 20_000
    max_bytes: int = 64 << 20
    prefetch: int = 256
    heartbeat: float = 10.0
    echo_every: float = 2.0
    deaf_after: float = 10.0
    stall: float = 5.0


class RabbitBus:
    """A source of heartbeats: RabbitMQ. `close` before it is dropped."""

    def __init__(self, settings: RabbitSettings, tell: Tell) -> None:
        """Nothing is connected yet. `tell` gets each event, in a thread of the bus."""
        self._listening = _Listening(settings, tell)
        self._thread = BrokerThread("rpcdaemon-bus", settings.urls, settings.heartbeat, self._listening, LOG)

    @property
    def queue(self) -> str:
        """The name of our queue, of which each connection has a new one; empty before the first."""
        return self._listening.queue

    def start(self) -> None:
        """Begin to listen, in the background, for as long as it takes."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening; nothing is told any more."""
        self._thread.close()


class _Listening:
    """What is done on a connection: our queue is made, bound and read, and echoes are sent through it."""

    def __init__(self, settings: RabbitSettings, tell: Tell) -> None:
        self._settings = settings
        self._tell = tell
        self._source = f"RabbitMQ, exchange {settings.exchange}"
        self._echoes = Echoes(self._source, every=settings.echo_every, deaf_after=settings.deaf_after, stall=settings.stall)
        self._channel: Any = None
        self.queue = ""
        self._waiting: int | None = None
        self._read = 0
        self._last_tag: int | None = None
        self._cancelled = False

    def opened(self, channel: Any, now: float) -> None:
        settings = self._settings
        self.queue = f"{settings.queue_prefix}_{socket.gethostname()}_{uuid.uuid4().hex}"
        self._channel, self._waiting, self._read, self._last_tag, self._cancelled = channel, None, 0, None, False
        try:
            channel.exchange_declare(settings.exchange, "topic", passive=True)
        except amqp_exceptions.NotFound:
            raise SessionFailed(f"there is no exchange {settings.exchange!r}; waiting until a service of Neutron makes it") from None
        lifetime = int(settings.queue_expire * 1000)
        limits = {
            "x-queue-type": "classic",
            "x-expires": lifetime,
            "x-message-ttl": lifetime,
            "x-max-length": settings.max_messages,
            "x-max-length-bytes": settings.max_bytes,
            "x-overflow": "drop-head",
        }
        channel.queue_declare(self.queue, durable=False, exclusive=True, auto_delete=True, arguments=limits)
        # the key by which echoes go: nobody else is bound for it
        for key in (*settings.routing_keys, self.queue):
            channel.queue_bind(self.queue, settings.exchange, key)
        channel.basic_qos(0, settings.prefetch, False)
        channel.basic_consume(self.queue, callback=self._came, on_cancel=self._on_cancel)
        self._echoes.opened(now)

    def turn(self, now: float) -> None:
        self._tell_all(self._echoes.turn(now))
        if self._cancelled:
            raise SessionFailed("our queue was deleted, by an operator or as the node that kept it went away")
        if trouble := self._echoes.trouble(now):
            raise SessionFailed(trouble)
        number = self._echoes.due(now)
        if self._last_tag is not None and (self._read >= _ACKNOWLEDGE_AFTER or number is not None):
            self._channel.basic_ack(self._last_tag, multiple=True)
            self._read, self._last_tag = 0, None
        if number is not None:
            self._waiting = self._channel.queue_declare(self.queue, passive=True).message_count
            self._channel.basic_publish(amqp.Message(str(number)), exchange=self._settings.exchange, routing_key=self.queue)

    def leaving(self, now: float) -> None:
        """The queue ends with the connection."""

    def closed(self, reason: str, now: float) -> None:
        self._tell_all(self._echoes.closed(reason, now))

    def _on_cancel(self, _consumer: str) -> None:
        self._cancelled = True

    def _came(self, received: Any) -> None:
        """Take one message. Nothing is sent here, and nothing that is wrong with the message can do harm."""
        self._read += 1
        self._last_tag = received.delivery_info["delivery_tag"]
        now = time.monotonic()
        exchange, key = str(received.delivery_info["exchange"]), str(received.delivery_info["routing_key"])
        body = received.body if isinstance(received.body, bytes) else str(received.body).encode("utf-8", "replace")
        if key == self.queue:
            if re.fullmatch(rb"\d{1,15}", body):
                self._tell_all(self._echoes.came(int(body), now, self._waiting))
            return
        if not (self._settings.overhear or may_be_report(body)):
            return
        try:
            self._tell(heard(now, exchange, key, decode_oslo_message(body)))
        except NotOsloMessage as error:
            LOG.debug("a message on exchange %s, routing key %s, is not read: %s", exchange, key, error)

    def _tell_all(self, events: Any) -> None:
        for event in events:
            self._tell(event)
