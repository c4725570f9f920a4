# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Processes of a test that are killed and frozen: a replica that stands for leader and writes when it may, and one that listens to the bus.

Each is the object of a `worker_process.Worker`.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from brokerless.ha.bus.base import Event, HeardReport, HearingBegan, HearingInterrupted
from brokerless.ha.bus.rabbit import RabbitBus, RabbitSettings
from brokerless.ha.leader.lease import Leadership
from brokerless.ha.leader.rabbit import RabbitLeaderSettings, RabbitLeadership
from brokerless.ha.leader.tooz import ToozLeaderSettings, ToozLeadership

WRITE_SECONDS = 0.3
"""How long a write of a test may take."""


class Write(NamedTuple):
    """One write, as it is taken down in the file that replicas share; the clock is the machine's, for all processes the same."""

    at: float
    term: int
    replica: str


class Replica:
    """Stands for leader, and "writes" every few milliseconds if it may: a line in a file."""

    def __init__(self, name: str, kind: str, where: str, lease: float, writes: str) -> None:
        self.name = name
        self.leadership: Leadership
        if kind == "rabbit":
            self.leadership = RabbitLeadership(RabbitLeaderSettings((where,), lease=lease, heartbeat=1.0))
        else:
            self.leadership = ToozLeadership(ToozLeaderSettings(where, lease=lease))
        self._file = os.open(writes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._closed = threading.Event()
        self._asked_at = 0.0
        self._wrote_in: int | None = None
        self._woken: list[bool] = []
        self._thread = threading.Thread(target=self._write, daemon=True)
        self.leadership.start()
        self._thread.start()

    def _write(self) -> None:
        while not self._closed.is_set():
            term, now = self.leadership.term, time.monotonic()
            allowed = self.leadership.may_write(now, WRITE_SECONDS, term)
            if self._asked_at and now - self._asked_at > 2.0:
                self._woken.append(allowed)
            self._asked_at = now
            if allowed:
                os.write(self._file, json.dumps([now, term, self.name]).encode() + b"\n")
                self._wrote_in = term
            time.sleep(0.005)

    def leads(self) -> bool:
        return self.leadership.is_leader(time.monotonic())

    def writes(self) -> bool:
        """Tell whether it has written in the term that it may go on to write in."""
        wrote_in = self._wrote_in
        return wrote_in is not None and self.leadership.may_write(time.monotonic(), WRITE_SECONDS, wrote_in)

    def lost(self) -> str:
        return self.leadership.lost

    def woken(self) -> list[bool]:
        """Whether it was allowed to write, at the first question after each time that it stood still for two seconds."""
        return self._woken

    def close(self) -> None:
        """End as a daemon does: after its own writes."""
        self._closed.set()
        self._thread.join()
        time.sleep(WRITE_SECONDS)  # the last one takes that long
        self.leadership.close()


class Listener:
    """Listens to the bus."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.events: list[Event] = []
        self._bus = RabbitBus(RabbitSettings(**settings), self.events.append)
        self._bus.start()

    def states(self) -> list[type]:
        """Whether it hears, and how often that changed."""
        return [type(event) for event in list(self.events) if isinstance(event, HearingBegan | HearingInterrupted)]

    def heartbeats(self) -> int:
        return sum(isinstance(event, HeardReport) for event in list(self.events))

    def queue(self) -> str:
        return self._bus.queue


def writes_in(file: Path) -> list[Write]:
    """Return what all replicas wrote, in the order of the clock."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return sorted(Write(*json.loads(line)) for line in lines)


def overlaps(writes: list[Write]) -> list[tuple[Write, Write]]:
    """Return writes of an earlier term that had not ended, or had not begun, when a later term's began."""
    found = []
    last: dict[int, Write] = {}
    for write in writes:
        found += [(other, write) for other in last.values() if other.term > write.term]
        found += [
            (other, write)
            for other in last.values()
            if other.term < write.term and other.replica != write.replica and other.at + WRITE_SECONDS > write.at
        ]
        last[write.term] = write
    return found
