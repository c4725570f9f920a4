# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A simulation that finds nothing proves nothing: each way in which a core is broken here must be noticed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from broken_cores import BROKEN_CORES, first_caught
from schedule import Outcome
from simulate import process_pool

SEEDS = range(30)


@pytest.fixture(scope="module")
def catches() -> Iterator[dict[str, Future[tuple[int, Outcome] | None]]]:
    """What became of each broken core: they are tried in processes of their own, next to each other."""
    with process_pool() as pool:
        yield {name: pool.submit(first_caught, name, SEEDS) for name in BROKEN_CORES}


@pytest.mark.parametrize("name", BROKEN_CORES)
def test_a_broken_core_is_caught(name: str, catches: dict[str, Future[tuple[int, Outcome] | None]]) -> None:
    caught = catches[name].result()
    assert caught is not None, f"a core of which {name} kept all promises in seeds {SEEDS}"
