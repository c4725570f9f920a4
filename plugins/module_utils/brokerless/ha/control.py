# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""How an operator's command reaches the leader, from whatever host: a queue of RabbitMQ that only the leader reads, and a queue for the answer.

A command is a JSON object, `{"command": "drain", …}`, and so is the answer, with `error` if it was not understood or could not be done.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..soft_import import soft_import
from .broker_thread import BrokerThread

if TYPE_CHECKING:
    import amqp
    import kombu
    from amqp import exceptions as amqp_exceptions
else:
    amqp = soft_import("amqp", "kombu")
    amqp_exceptions = soft_import("amqp.exceptions", "kombu")
    kombu = soft_import("kombu", "kombu")

LOG = logging.getLogger("rpcdaemon.control")
QUEUE = "rpcdaemon.commands"
EXPIRES_MS = 60_000
COMMAND_LIVES_MS = 15_000
MAX_COMMAND_BYTES = 64 << 10

Reply = Callable[[Mapping[str, Any]], None]
OnCommand = Callable[[Mapping[str, Any], Reply], None]


class NobodyLeads(Exception):
    """No leader answered; the message says what that may mean."""


class CommandServer:
    """Takes commands, while this replica leads. `on_command` gets each in the server's thread, with how to answer, which any thread may do."""

    def __init__(self, urls: Sequence[str], on_command: OnCommand) -> None:
        """Nothing is connected yet."""
        self._thread = BrokerThread("rpcdaemon-commands", urls, 10.0, _Serving(on_command), LOG)

    def start(self) -> None:
        """Begin to take commands, in the background."""
        self._thread.start()

    def close(self) -> None:
        """Take no more."""
        self._thread.close()


class _Serving:
    def __init__(self, on_command: OnCommand) -> None:
        self._on_command = on_command
        self._channel: Any = None
        self._came: list[Any] = []
        self._answers: queue.SimpleQueue[tuple[Any, Mapping[str, Any]]] = queue.SimpleQueue()

    def opened(self, channel: Any, now: float) -> None:
        self._channel = channel
        self._came.clear()
        arguments = {"x-expires": EXPIRES_MS, "x-message-ttl": COMMAND_LIVES_MS, "x-max-length": 1000, "x-single-active-consumer": True}
        channel.queue_declare(QUEUE, durable=False, auto_delete=False, arguments=arguments)
        channel.basic_consume(QUEUE, no_ack=True, callback=self._came.append)

    def turn(self, now: float) -> None:
        came, self._came[:] = self._came[:], []
        for message in came:
            self._take(message)
        with contextlib.suppress(queue.Empty):
            while True:
                message, answer = self._answers.get_nowait()
                self._answer(message, answer)

    def _take(self, message: Any) -> None:
        body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
        try:
            command = json.loads(body) if len(body) <= MAX_COMMAND_BYTES else None
        except (ValueError, RecursionError):
            command = None
        if not isinstance(command, dict):
            self._answers.put((message, {"error": "that is no command"}))
            return
        self._on_command(command, lambda answer: self._answers.put((message, answer)))

    def _answer(self, message: Any, answer: Mapping[str, Any]) -> None:
        properties = message.properties
        if properties.get("reply_to"):
            reply = amqp.Message(json.dumps(answer), content_type="application/json", correlation_id=properties.get("correlation_id"))
            self._channel.basic_publish(reply, exchange="", routing_key=properties["reply_to"])

    def leaving(self, now: float) -> None:
        self.turn(now)

    def closed(self, reason: str, now: float) -> None:
        self._came.clear()


def ask(urls: Sequence[str], command: Mapping[str, Any], seconds: float = 10.0) -> dict[str, Any]:
    """Give the leader a command, and return its answer. Raises `NobodyLeads` when none comes within so many seconds, or there is no RabbitMQ."""
    deadline = time.monotonic() + seconds
    answers: list[Any] = []
    correlation = uuid.uuid4().hex
    try:
        with kombu.Connection(list(urls), connect_timeout=min(5.0, seconds)) as connection:
            channel = connection.channel()
            box = kombu.Queue(f"rpcdaemon.answers_{correlation}", channel=channel, durable=False, exclusive=True, auto_delete=True)
            box.declare()
            with kombu.Consumer(channel, [box], no_ack=True, on_message=answers.append):
                kombu.Producer(channel).publish(
                    json.dumps(command),
                    routing_key=QUEUE,
                    content_type="application/json",
                    reply_to=box.name,
                    correlation_id=correlation,
                    expiration=seconds,
                )
                while not answers and (left := deadline - time.monotonic()) > 0:
                    with contextlib.suppress(TimeoutError):
                        connection.drain_events(timeout=left)
    except (OSError, amqp_exceptions.AMQPError, kombu.exceptions.OperationalError) as error:
        raise NobodyLeads(f"RabbitMQ can't be asked who leads: {error}") from error
    if not answers:
        raise NobodyLeads(f"no rpcdaemon answered within {seconds:g} s: none runs, or none leads yet; see their logs")
    answer: dict[str, Any] = json.loads(answers[0].body)
    return answer
