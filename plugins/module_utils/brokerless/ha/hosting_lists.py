# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Lists of what agents host, each of which answers all who want to know the same at about the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .snapshot import Agent

GATHER_SECONDS = 0.3
"""Who wants a list from now on waits so long for others who want it too."""


@dataclass(slots=True)
class _Reading:
    began: float = float("-inf")
    things: frozenset[str] | None = None
    under_way: bool = False


class HostingLists:
    """Whether agents host things. `read` returns what an agent hosts, or None if that could not be told."""

    def __init__(self, read: Callable[[Agent], frozenset[str] | None]) -> None:
        self._read = read
        self._readings: dict[str, _Reading] = {}
        self._changed = threading.Condition()

    def is_there(self, thing: str, agent: Agent, max_age: float) -> bool | None:
        """Return whether `agent` hosts `thing`, by a list that was asked for `max_age` seconds ago or later; None if there is no telling."""
        not_before = time.monotonic() - max_age
        reading = self._readings.setdefault(agent.id, _Reading())
        while True:
            with self._changed:
                if reading.began >= not_before:
                    return None if reading.things is None else thing in reading.things
                if reading.under_way:
                    self._changed.wait()
                    continue
                reading.under_way = True
            self._ask(agent, reading, GATHER_SECONDS if max_age == 0 else 0.0)

    def _ask(self, agent: Agent, reading: _Reading, gather: float) -> None:
        if gather:
            time.sleep(gather)
        began = time.monotonic()
        things: frozenset[str] | None = None
        try:
            things = self._read(agent)
        finally:
            with self._changed:
                reading.began, reading.things, reading.under_way = began, things, False
                self._changed.notify_all()
