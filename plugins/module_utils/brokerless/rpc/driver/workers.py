# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A process's connections to a receiver that has several workers: to each worker one, and each topic always goes to the same."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..topics import Address, TopicError, parse_topic
from .consumers import Consumers

if TYPE_CHECKING:
    from .connection import Connection, Handler, Subscription


def worker_of(address: Address, workers: int) -> int:
    """Return the number of the worker, of so many, that has the topic of `address`: bare, directed and as a fanout, on every host the same."""
    return zlib.crc32(f"{address.namespace}/{address.exchange}/{address.topic}".encode()) % workers


class SharedSubscription:
    """What one handler consumes through several workers, until it is closed."""

    def __init__(self, parts: list[Subscription]) -> None:
        self._parts = parts

    def close(self) -> None:
        """Consume nothing more. Messages that were handed over already are still worked on."""
        for part in self._parts:
            part.close()


class WorkerConnections:
    """Looks like one `Connection`; an answer goes back through the worker that its call came through."""

    def __init__(self, workers: int, connect: Callable[[int], Connection]) -> None:
        """`connect` makes the connection to the worker of a number."""
        self._connections = [connect(worker) for worker in range(workers)]
        self.host = self._connections[0].host

    def _for(self, address: Address) -> Connection:
        return self._connections[worker_of(address, len(self._connections))]

    def call(self, address: Address, body: bytes, timeout: float, patience: float = float("inf")) -> bytes:
        """As `Connection.call`."""
        return self._for(address).call(address, body, timeout, patience)

    def cast(self, address: Address, body: bytes, ttl: float, notification: bool = False, patience: float = float("inf")) -> None:
        """As `Connection.cast`."""
        self._for(address).cast(address, body, ttl, notification, patience)

    def reach(self, timeout: float) -> bool:
        """As `Connection.reach`."""
        deadline = time.monotonic() + timeout
        return all(connection.reach(deadline - time.monotonic()) for connection in self._connections)

    def consumers(self, address: Address, timeout: float = 5.0) -> Consumers:
        """As `Connection.consumers`; the exchanges are those of all workers."""
        hosts = self._for(address).consumers(address, timeout).hosts
        exchanges = [connection.consumers(address, timeout).exchanges for connection in self._connections]
        return Consumers(hosts, frozenset().union(*exchanges))

    def leave_to_parent(self) -> None:
        """As `Connection.leave_to_parent`."""
        for connection in self._connections:
            connection.leave_to_parent()

    def subscribe(self, addresses: Iterable[Address], handler: Handler, *, in_turn: bool = False) -> SharedSubscription:
        """As `Connection.subscribe`."""
        shares: dict[int, list[Address]] = {}
        for address in addresses:
            shares.setdefault(worker_of(address, len(self._connections)), []).append(address)
        return SharedSubscription([self._connections[worker].subscribe(share, handler, in_turn=in_turn) for worker, share in sorted(shares.items())])

    def inspect(self, question: str, argument: str = "", timeout: float = 5.0) -> dict[str, Any]:
        """As `Connection.inspect`. About a topic its worker is asked; the status has that of the other workers in `other_workers`."""
        if question == "status":
            first, *others = [connection.inspect(question, argument, timeout) for connection in self._connections]
            return first | {"other_workers": others}
        try:
            connection = self._for(parse_topic(argument))
        except TopicError:
            connection = self._connections[0]
        return connection.inspect(question, argument, timeout)

    def settle(self, timeout: float) -> int:
        """As `Connection.settle`."""
        return sum(connection.settle(timeout) for connection in self._connections)

    def close(self, timeout: float) -> None:
        """As `Connection.close`, one after the other."""
        for connection in self._connections:
            connection.close(timeout)
