# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""How many messages a process may have under way: the end of the chain that pushes back on senders."""

from __future__ import annotations

import threading
import time
from collections import Counter

from ..topics import Address


class Backlog:
    """Counts the messages that have not come to their end, by address, and makes a sender wait where there are too many."""

    def __init__(self, limit: int, total_limit: int = 100_000) -> None:
        """At most `limit` messages for one address, and `total_limit` for all of them together, may be under way."""
        self._limit = limit
        self._total_limit = total_limit
        self._total = 0
        self._counts: Counter[Address] = Counter()
        self._changed = threading.Condition()

    def enter(self, address: Address, deadline: float) -> bool:
        """Count one more message for `address`, waiting for room until `deadline` (of the monotonic clock). Return whether there was room."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room(address), max(0.0, deadline - time.monotonic())):
                return False
            self._counts[address] += 1
            self._total += 1
            return True

    def _has_room(self, address: Address) -> bool:
        return self._total < self._total_limit and self._counts[address] < self._limit

    def leave(self, address: Address) -> None:
        """Count one message less."""
        with self._changed:
            self._counts[address] -= 1
            self._total -= 1
            if not self._counts[address]:
                del self._counts[address]
            self._changed.notify_all()

    def wait_until_empty(self, deadline: float) -> int:
        """Wait until nothing is under way, or `deadline`; return how much still is."""
        with self._changed:
            self._changed.wait_for(lambda: not self._total, max(0.0, deadline - time.monotonic()))
            return self._total
