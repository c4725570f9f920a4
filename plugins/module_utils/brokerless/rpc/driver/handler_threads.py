# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The threads in which consumers' handlers run."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

Work: TypeAlias = Callable[[], None]


class HandlerThreads:
    """At most `limit` threads, each started when there is work for it. What `concurrent.futures` makes for a result costs more than most handlers.

    `submit` is called by one thread at a time; work must not raise.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._free: deque[None] = deque()

    def submit(self, work: Work) -> None:
        """Let one of the threads do the work, as soon as one is free."""
        self._queue.put(work)
        if len(self._threads) < self._limit:
            try:
                self._free.pop()
            except IndexError:
                thread = threading.Thread(target=self._run, name=f"{self._name}_{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
            if len(self._threads) < self._limit:
                self._free.append(None)
        self._queue.put(None)

    def finish(self) -> None:
        """Wait until all that was submitted is done, and let the threads end. Nothing may be submitted any more."""
        self._queue.put(None)
        for thread in self._threads:
            thread.join()
