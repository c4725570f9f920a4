# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A rival: RabbitMQ with kombu, as oslo.messaging uses it: publishes are confirmed, messages acknowledged, queues not durable."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any

import kombu
from measures import Count, Sender

CALLS, CASTS, FANOUTS = "bench-calls", "bench-casts", "bench-fanouts"
PREFETCH = 100


def _connected(url: str) -> kombu.Connection:
    return kombu.Connection(url, transport_options={"confirm_publish": True})


class RabbitmqSender(Sender):
    """The sending process: a connection for each thread."""

    def __init__(self, url: str) -> None:
        """Send over the broker at `url`."""
        self._url = url

    def caller(self) -> Callable[[str], object]:
        """Return what publishes a body and waits until it comes back."""
        connection = _connected(self._url)
        producer = _connected(self._url).Producer()
        answers: list[str] = []
        replies = kombu.Queue(f"bench-replies-{uuid.uuid4().hex}", durable=False, exclusive=True, auto_delete=True)

        def take(body: str, message: Any) -> None:
            message.ack()
            answers.append(body)

        connection.Consumer([replies], callbacks=[take]).consume()

        def call(body: str) -> str:
            producer.publish(body, routing_key=CALLS, reply_to=replies.name, delivery_mode=1)
            while not answers:
                connection.drain_events(timeout=60)
            return answers.pop()

        return call

    def caster(self) -> Callable[[str], object]:
        """Return what publishes a body, and waits until the broker has confirmed it."""
        producer = _connected(self._url).Producer()
        return lambda body: producer.publish(body, routing_key=CASTS, delivery_mode=1)

    def fanout_caster(self) -> Callable[[str], object]:
        """Return what publishes a body to the fanout exchange."""
        producer = _connected(self._url).Producer(exchange=kombu.Exchange(FANOUTS, "fanout", durable=False))
        return lambda body: producer.publish(body, delivery_mode=1)


class RabbitmqConsumer:
    """A consuming process: answers calls, and counts casts and fanouts."""

    def __init__(self, url: str, fanout_only: bool = False) -> None:
        """Consume over the broker at `url`."""
        self._counted = Count()
        self._url = url
        self._fanout_only = fanout_only
        ready = threading.Event()
        threading.Thread(target=self._run, args=(ready,), daemon=True).start()
        assert ready.wait(30.0)

    def count(self) -> tuple[int, float]:
        """Return how many casts and fanouts there were, and when the last one came."""
        return self._counted.read()

    def _run(self, ready: threading.Event) -> None:
        connection = _connected(self._url)
        # Of its own, because a publish waits for its confirmation, in which time more requests would come on the same connection.
        producer = _connected(self._url).Producer()

        def answer(body: str, message: Any) -> None:
            message.ack()
            producer.publish(body, routing_key=message.properties["reply_to"], delivery_mode=1)

        def take(_body: str, message: Any) -> None:
            message.ack()
            self._counted.one()

        fanouts = kombu.Queue(
            f"bench-{uuid.uuid4().hex}", kombu.Exchange(FANOUTS, "fanout", durable=False), durable=False, exclusive=True, auto_delete=True
        )
        consumers = [connection.Consumer([fanouts], callbacks=[take], prefetch_count=PREFETCH)]
        if not self._fanout_only:
            consumers.append(connection.Consumer([kombu.Queue(CALLS, durable=False)], callbacks=[answer], prefetch_count=PREFETCH))
            consumers.append(connection.Consumer([kombu.Queue(CASTS, durable=False)], callbacks=[take], prefetch_count=PREFETCH))
        for consumer in consumers:
            consumer.consume()
        ready.set()
        while True:
            connection.drain_events()
