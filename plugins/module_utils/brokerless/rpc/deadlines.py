# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Deadlines of many things that mostly end before them."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_WIDTH = 0.1


class Deadlines(Generic[K]):
    """Keys and when they are due, to a tenth of a second.

    Adding and discarding cost the same however many keys there are, and a key that is discarded leaves nothing behind, which a heap of
    timers would keep until its time.
    """

    def __init__(self) -> None:
        self._slots: dict[int, dict[K, None]] = {}
        self._slot_of: dict[K, int] = {}
        self._soonest: float = math.inf

    def __len__(self) -> int:
        return len(self._slot_of)

    def set(self, key: K, when: float) -> None:
        """Let `key` be due at `when` (seconds), whatever was set for it before."""
        self.discard(key)
        slot = int(when / _WIDTH) + 1
        self._slots.setdefault(slot, {})[key] = None
        self._slot_of[key] = slot
        self._soonest = min(self._soonest, slot)

    def next_due(self) -> float:
        """Return a time before which nothing is due: that of the soonest key there was since `due` was called last, infinity if there was none."""
        return self._soonest * _WIDTH

    def discard(self, key: K) -> None:
        """Let `key` never be due."""
        slot = self._slot_of.pop(key, None)
        if slot is None:
            return
        keys = self._slots[slot]
        del keys[key]
        if not keys:
            del self._slots[slot]

    def due(self, now: float) -> list[K]:
        """Take out and return the keys whose time has come, the earliest first."""
        last = int(now / _WIDTH)
        slots = sorted(slot for slot in self._slots if slot <= last)
        keys = [key for slot in slots for key in self._slots.pop(slot)]
        for key in keys:
            del self._slot_of[key]
        self._soonest = min(self._slots, default=math.inf)
        return keys
