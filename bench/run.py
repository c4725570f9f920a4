# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Measure what the transport costs, beside its rivals, in the same minutes on the same machine: `make bench`.

Each round measures every contender once, one after the other, so that whatever else the machine does meets them all; what is shown is the
median of the rounds. Nothing is asserted: the exit code is 1 only if something failed to run. Options are environment variables: ROUNDS (3),
DURATION (seconds of each single measure, 1), ONLY (comma-separated beginnings of contenders' names), SIZES (300,3000), OTHERS (0 leaves out
what is not about messages a second).
"""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import sys
import time
from collections import defaultdict

import others
from contenders import Contender, contenders
from measures import Measured, calls, casts, memory
from rich.console import Console
from rich.table import Table
from targets import Figures, targets

ROUNDS = int(os.environ.get("ROUNDS", "3"))
DURATION = float(os.environ.get("DURATION", "1"))
SIZES = [int(size) for size in os.environ.get("SIZES", "300,3000").split(",")]
ONLY = [name.strip() for name in os.environ.get("ONLY", "").split(",") if name.strip()]
THREADS = 16

COLUMNS = ("call p50", "call p99", f"calls/s, {THREADS} threads", "casts/s, 1 thread", f"casts/s, {THREADS} threads", "fanouts/s to 10")


def wanted(name: str) -> bool:
    """Whether the contender is to be measured."""
    return not ONLY or any(name.startswith(beginning) for beginning in ONLY)


def measure_once(contender: Contender, size: int) -> dict[str, float]:
    """Return the figures of one contender by column: microseconds, and messages a second."""
    figures: dict[str, float] = {}
    first = contender.consumers[:1]
    if "calls" in contender.does:
        alone = calls(contender.sender, 1, size, DURATION)
        figures[COLUMNS[0]], figures[COLUMNS[1]] = alone.median * 1e6, alone.slowest_percent * 1e6
        figures[COLUMNS[2]] = calls(contender.sender, THREADS, size, DURATION).per_second
    if "casts" in contender.does:
        figures[COLUMNS[3]] = casts(contender.sender, first, 1, size, DURATION).per_second
        figures[COLUMNS[4]] = casts(contender.sender, first, THREADS, size, DURATION).per_second
    if "fanouts" in contender.does:
        figures[COLUMNS[5]] = fanouts(contender, size).per_second
    return figures


def fanouts(contender: Contender, size: int) -> Measured:
    """Measure fanouts for a shorter time: each is worth ten casts."""
    return casts(contender.sender, contender.consumers, 1, size, DURATION / 4, "fanout_caster")


def between(contender: Contender) -> others.Figure:
    """Return the memory of the broker or of the receivers, after what they have carried."""
    return others.Figure(" + ".join(f"{memory(pid)[0]:.0f}" for pid in contender.between) + " MiB resident")


def shown(figure: float | None, rival: float | None) -> str:
    """Return a figure as a cell: with how many times the rival's it is."""
    if figure is None:
        return "-"
    return f"{figure:,.0f}" + (f" ({figure / rival:.2f}x)" if rival else "")


def table_of(size: int, running: list[Contender], figures: Figures) -> Table:
    """Return the table of one size."""
    table = Table(title=f"bodies of {size} bytes; times in microseconds; in brackets, how many times the rival's figure", title_justify="left")
    table.add_column("")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for contender in running:
        rivals = figures.get((contender.rival, size), {})
        mine = figures[(contender.name, size)]
        table.add_row(contender.name, *(shown(mine.get(column), rivals.get(column)) for column in COLUMNS))
    return table


def machine() -> str:
    """Say where this runs, and how busy the machine is with other things."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}; load before: {load}"


def main() -> int:
    """Measure, and print."""
    console = Console(width=170)
    console.print(machine(), highlight=False)
    began = time.monotonic()
    with contextlib.ExitStack() as programs:
        running = contenders(programs, wanted)
        rounds: dict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
        for number in range(ROUNDS):
            for size in SIZES:
                for contender in running:
                    rounds[(contender.name, size)].append(measure_once(contender, size))
            more = {f"memory between sender and consumers, {one.name}": between(one) for one in running if one.between}
            console.print(f"round {number + 1} of {ROUNDS} done after {time.monotonic() - began:.0f} s", highlight=False)
    figures: Figures = {
        key: {column: statistics.median(one[column] for one in measured) for column in measured[0]} for key, measured in rounds.items()
    }
    for size in SIZES:
        console.print(table_of(size, running, figures))
    if os.environ.get("OTHERS", "1") != "0":
        more |= others.measure(ROUNDS, DURATION)
    if more:
        table = Table(title="the rest", title_justify="left")
        table.add_column("")
        table.add_column("figure", justify="right")
        for name, figure in more.items():
            table.add_row(name, figure.text)
        console.print(table)
    for line in targets(figures, SIZES, COLUMNS, more):
        console.print(line, highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
