# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What is measured, the same way for each contender: a process that sends and processes that consume."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker_process import Failed, Worker

WARM_UP = 50
"""Messages of each thread before the clock starts."""
DELIVERY_SECONDS = 60.0


class Sender:
    """The sending process of a contender: a subclass says how one thread sends."""

    def caller(self) -> Callable[[str], object]:
        """Return what a thread calls with a body to get it back from the consumer; called in that thread."""
        raise NotImplementedError

    def caster(self) -> Callable[[str], object]:
        """Return what a thread calls with a body to have it counted by the consumer; called in that thread."""
        raise NotImplementedError

    def fanout_caster(self) -> Callable[[str], object]:
        """Return what a thread calls with a body to have it counted by every consumer; called in that thread."""
        raise NotImplementedError

    def measure(self, kind: str, threads: int, size: int, seconds: float) -> tuple[float, list[float]]:
        """Send bodies of `size` for `seconds`, in each of the threads as fast as one follows the other.

        `kind` names the method above that says how. Return when the clock started, and the seconds that each message took its thread.
        """
        began: list[float] = []
        start = threading.Barrier(threads, action=lambda: began.append(time.monotonic()))
        taken: list[list[float]] = [[] for _thread in range(threads)]
        faults: list[BaseException] = []

        def work(mine: list[float]) -> None:
            try:
                send: Callable[[str], object] = getattr(self, kind)()
                body = "x" * size
                for _turn in range(WARM_UP if kind == "caller" else 0):
                    send(body)
                start.wait(30.0)
                end = (before := time.perf_counter()) + seconds
                while before < end:
                    send(body)
                    now = time.perf_counter()
                    mine.append(now - before)
                    before = now
            except Exception as error:  # noqa: BLE001 - told below
                start.abort()
                faults.append(error)

        working = [threading.Thread(target=work, args=(mine,)) for mine in taken]
        for thread in working:
            thread.start()
        for thread in working:
            thread.join()
        if faults:
            raise next((fault for fault in faults if not isinstance(fault, threading.BrokenBarrierError)), faults[0])
        return began[0], [seconds for mine in taken for seconds in mine]


class Count:
    """Counts what a consuming process was given, in any of its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._last_at = 0.0

    def one(self) -> None:
        """Count one."""
        with self._lock:
            self._count += 1
            self._last_at = time.monotonic()

    def read(self) -> tuple[int, float]:
        """Return how many there were, and when the last one came."""
        with self._lock:
            return self._count, self._last_at


class Methods:
    """What a consumer's service does when it is called by a method's name."""

    def __init__(self, counted: Count) -> None:
        self._counted = counted

    def echo(self, _context: Any, value: str) -> str:
        """Return the body."""
        return value

    def take(self, _context: Any, value: str) -> None:
        """Count it."""
        self._counted.one()


@dataclass(frozen=True)
class Measured:
    """What one run of one measure gave: `per_second`, or of calls also the times of single ones in seconds."""

    per_second: float
    median: float = 0.0
    slowest_percent: float = 0.0


def calls(sender: Worker, threads: int, size: int, seconds: float) -> Measured:
    """Measure calls: how many a second, the median time and that of the slowest hundredth."""
    _began, taken = sender.ask("measure", "caller", threads, size, seconds)
    return Measured(len(taken) / seconds, statistics.median(taken), statistics.quantiles(taken, n=100)[-1])


def casts(sender: Worker, consumers: list[Worker], threads: int, size: int, seconds: float, kind: str = "caster") -> Measured:
    """Measure casts: how many a second were delivered, from the first one sent to the last one consumed.

    With `kind` "fanout_caster" each of the consumers gets each message, and a message counts once.
    """
    before = [consumer.ask("count")[0] for consumer in consumers]
    began, taken = sender.ask("measure", kind, threads, size, seconds)
    deadline = time.monotonic() + DELIVERY_SECONDS
    last_at = 0.0
    for consumer, earlier in zip(consumers, before, strict=True):
        while True:
            count, at = consumer.ask("count")
            if count - earlier == len(taken):
                break
            if count - earlier > len(taken) or time.monotonic() > deadline:
                raise Failed(f"{len(taken)} messages were sent and {count - earlier} consumed")
            time.sleep(0.002)
        last_at = max(last_at, at)
    return Measured(len(taken) / (last_at - began))


def cpu_seconds(pid: int) -> float:
    """Return the processor's time that a process has used so far, its own and the kernel's for it."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


def memory(pid: int) -> tuple[float, float]:
    """Return the resident and the proportional memory of a process, in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines[1:]}
    return sizes["Rss"], sizes["Pss"]
