# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Hundreds of seeded disasters: whatever happens, nothing is handed over twice, out of order, or lost without a word."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from kept_seeds import KEPT_SEEDS
from schedule import run
from simulate import process_pool, told

SEEDS = [range(first, first + 50) for first in range(1000, 1500, 50)]
"""Fixed, so that a red run means a change of the code, never luck. `make simulate` tries others."""


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with process_pool() as pool:
        yield pool


@pytest.mark.parametrize("seeds", SEEDS, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_promises_hold_whatever_happens(seeds: range, pool: ProcessPoolExecutor) -> None:
    outcomes = list(pool.map(run, seeds, chunksize=2))
    failed = [outcome for outcome in outcomes if outcome.broken]
    assert not failed, "\n\n".join([f"{len(failed)} of {len(seeds)} seeds failed", *("\n".join(told(outcome)) for outcome in failed[:3])])
    assert [outcome.plan.seed for outcome in outcomes] == list(seeds)
    assert sum(outcome.messages for outcome in outcomes) > 50 * len(seeds)


@pytest.mark.parametrize("seed", KEPT_SEEDS, ids=lambda seed: f"{seed}-{KEPT_SEEDS[seed].replace(' ', '-')}")
def test_what_was_found_once_is_not_there_again(seed: int) -> None:
    outcome = run(seed)
    assert outcome.broken is None, "\n".join(told(outcome))
    assert outcome.messages > 0


def test_a_seed_is_the_same_story_on_every_run() -> None:
    program = "import sys; sys.path[:0] = sys.argv[1:]; from schedule import run; print([(run(seed).digest, run(seed).events) for seed in (1, 5, 9)])"
    here = Path(__file__).parent
    paths = [str(here), str(here.parent.parent / "plugins" / "module_utils")]

    def story(hashes: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hashes}
        return subprocess.run([sys.executable, "-c", program, *paths], env=environment, check=True, capture_output=True, text=True).stdout

    assert story("1") == story("2")


def test_to_look_closely_changes_nothing() -> None:
    assert run(3).digest == run(3, curious=True).digest
