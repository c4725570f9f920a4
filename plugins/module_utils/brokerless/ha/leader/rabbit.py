# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Replicas agree on a leader through a queue of the RabbitMQ that they listen to: nothing else is needed, and who can't hear does not lead.

`token` decides; here are the connection and the clocks. The queue is durable and, unless the operator says otherwise, a quorum queue, of which
the parts of a divided cluster can't both deliver. It is declared with all its properties, never opened as it is: with a queue of another
kind, where the broker would deliver to several at a time, there is no leader at all.
"""

from __future__ import annotations

import logging
import socket
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...soft_import import soft_import
from ..broker_thread import BrokerThread, SessionFailed
from .by_lease import ByLease
from .lease import DEFAULT_LEASE, Lease
from .token import Action, Publish, TokenHolder

if TYPE_CHECKING:
    import amqp
    from amqp import exceptions as amqp_exceptions
else:
    amqp = soft_import("amqp", "kombu")
    amqp_exceptions = soft_import("amqp.exceptions", "kombu")

LOG = logging.getLogger("rpcdaemon.leader")
UNUSED_MILLISECONDS = 7 * 24 * 3600 * 1000
"""After so long without a replica the broker deletes the queue."""
_PREFETCH = 50


@dataclass(frozen=True, slots=True)
class RabbitLeaderSettings:
    """Where the queue is. All replicas must have the same `urls` (of one cluster), `queue`, `queue_type` and `lease`, which is in seconds.

    `queue_type` is "quorum", or "classic" for a broker without quorum queues; a divided cluster may then have two leaders. `heartbeat` is in
    seconds: a leader that is frozen or cut off is replaced after about two of them, and a lease.
    """

    urls: tuple[str, ...]
    queue: str = "rpcdaemon.leader"
    queue_type: str = "quorum"
    lease: float = DEFAULT_LEASE
    heartbeat: float = 4.0


class RabbitLeadership(ByLease):
    """Leadership by a queue of RabbitMQ."""

    def __init__(self, settings: RabbitLeaderSettings) -> None:
        """Nothing is connected yet."""
        self._lease = Lease(settings.lease)
        holder = TokenHolder(f"{socket.gethostname()}/{uuid.uuid4().hex}", self._lease)
        self._thread = BrokerThread("rpcdaemon-leader", settings.urls, settings.heartbeat, _Standing(settings, holder), LOG)

    def start(self) -> None:
        """Begin to stand for leader, in the background; without a broker there is none."""
        self._thread.start()

    def close(self) -> None:
        """Let the next replica lead at once if the broker can be told. No write may be going on any more."""
        self._thread.close()
        self._lease.lose("this daemon is stopped")


class _Standing:
    """What is done on a connection: the queue is consumed, and tokens are sent."""

    def __init__(self, settings: RabbitLeaderSettings, holder: TokenHolder) -> None:
        self._settings = settings
        self._holder = holder
        self._channel: Any = None
        self._consumer = ""
        self._came: list[Any] = []
        self._cancelled = False
        self._term: int | None = None

    def opened(self, channel: Any, now: float) -> None:
        settings = self._settings
        self._channel, self._cancelled = channel, False
        self._came.clear()
        arguments = {"x-queue-type": settings.queue_type, "x-single-active-consumer": True, "x-expires": UNUSED_MILLISECONDS}
        try:
            channel.queue_declare(settings.queue, durable=True, auto_delete=False, arguments=arguments)
        except amqp_exceptions.PreconditionFailed as error:
            raise SessionFailed(
                f"queue {settings.queue} is not as this replica wants it ({error.reply_text}): give all replicas one leader_queue_type, "
                "then delete the queue; until then nobody leads"
            ) from None
        except TimeoutError:
            raise SessionFailed(
                f"queue {settings.queue} does not answer, so that nobody leads; if that lasts while the cluster is well, delete it "
                f"(rabbitmqctl delete_queue {settings.queue}) and it is made anew"
            ) from None
        channel.basic_qos(0, _PREFETCH, False)
        self._consumer = channel.basic_consume(settings.queue, callback=self._came.append, on_cancel=self._on_cancel)
        self._holder.opened(now)

    def turn(self, now: float) -> None:
        came, self._came[:] = self._came[:], []
        wall = time.time()
        for received in came:
            info = received.delivery_info
            self._do(self._holder.came(info["delivery_tag"], received.body, info["redelivered"], now, wall))
        self._do(self._holder.turn(now, wall))
        if self._cancelled:
            raise SessionFailed(f"queue {self._settings.queue} was deleted, by an operator or as the node that kept it went away")
        self._note_change()

    def leaving(self, now: float) -> None:
        self._channel.basic_cancel(self._consumer)
        self._do(self._holder.resign(now))
        self._note_change()

    def closed(self, reason: str, now: float) -> None:
        self._holder.closed(reason)
        self._note_change()

    def _on_cancel(self, _consumer: str) -> None:
        self._cancelled = True

    def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Publish):
                message = amqp.Message(action.token.encode(), delivery_mode=2, content_type="application/json")
                self._channel.basic_publish(message, exchange="", routing_key=self._settings.queue)
            else:
                self._channel.basic_ack(action.tag)

    def _note_change(self) -> None:
        """Log it when a term began or ended."""
        lease = self._holder.lease
        if lease.term == self._term:
            return
        if self._term is not None and lease.term is None:
            LOG.warning("this replica leads no more: %s", lease.lost)
        elif lease.term is not None:
            LOG.info("this replica leads, in term %d; it may write when no earlier leader can any more, in %g s at most", lease.term, lease.seconds)
        self._term = lease.term
