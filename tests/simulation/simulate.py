# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Run seeds of the simulation on all cores: `python tests/simulation/simulate.py --seeds 20000`, or `--seed 123` for one, with its story.

`make simulate` calls it. Each seed that breaks a promise is told with the step, the promise, what happened to the messages concerned, and the
command that replays it. The exit code is 0 only if all promises were kept.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "plugins" / "module_utils")]

from schedule import Outcome, run  # noqa: E402 - the paths above lead to it

SHOWN_FAILURES = 5
"""So many failing seeds are told in full; of the others only the promise."""


def process_pool() -> ProcessPoolExecutor:
    """Return a pool of processes to run seeds in, as many as there are cores."""
    return ProcessPoolExecutor(os.cpu_count() or 1, mp_context=multiprocessing.get_context("spawn"))


def run_all(seeds: Iterable[int]) -> Iterator[Outcome]:
    """Run `seeds`, and yield what became of each."""
    with process_pool() as pool:
        yield from pool.map(run, seeds, chunksize=4)


def told(outcome: Outcome) -> list[str]:
    """Return the lines that tell how a seed failed; it is run once more to know."""
    again = run(outcome.plan.seed, curious=True)
    return [
        f"seed {outcome.plan.seed} broke a promise after {outcome.at:.3f} s, in step {outcome.events}: {outcome.broken}",
        f"  {outcome.plan}",
        *(f"  {line}" for line in again.story),
        f"  replay it with: make simulate SEED={outcome.plan.seed}",
    ]


def show(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run_one(seed: int) -> int:
    """Run one seed and tell what became of it; return the exit code."""
    outcome = run(seed, curious=True)
    show(str(outcome.plan))
    for line in told(outcome) if outcome.broken else [f"seed {seed} kept all promises: {outcome.messages} messages, {outcome.events} events"]:
        show(line)
    return 1 if outcome.broken else 0


def run_range(first: int, count: int) -> int:
    """Run `count` seeds from `first` on; return the exit code."""
    began = told_at = time.monotonic()
    events = messages = 0
    failed: list[Outcome] = []
    promises: Counter[str] = Counter()
    for done, outcome in enumerate(run_all(range(first, first + count)), start=1):
        events += outcome.events
        messages += outcome.messages
        if outcome.broken:
            promises[outcome.broken.promise] += 1
            failed.append(outcome)
            if len(failed) <= SHOWN_FAILURES:
                show("\n".join(told(outcome)))
        if time.monotonic() - told_at > 5.0:
            told_at = time.monotonic()
            show(f"{done} of {count} seeds, {messages} messages, {events / (told_at - began):.0f} events/s, {len(failed)} failed")
    seconds = time.monotonic() - began
    show(f"{count} seeds from {first} on: {messages} messages, {events} events, {seconds:.0f} s, {len(failed)} failed")
    for promise, times in promises.most_common():
        show(f"  {promise}: {times} (seeds {', '.join(str(each.plan.seed) for each in failed if each.broken and each.broken.promise == promise)})")
    return 1 if failed else 0


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, help="run this one and tell its story")
    parser.add_argument("--seeds", type=int, default=2000, help="how many to run (default %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default %(default)s)")
    arguments = parser.parse_args()
    return run_one(arguments.seed) if arguments.seed is not None else run_range(arguments.first, arguments.seeds)


if __name__ == "__main__":
    sys.exit(main())
