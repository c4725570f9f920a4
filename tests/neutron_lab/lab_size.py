# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""How much of the lab's tests is run: what fits into `make test`, or, with SIZE=full, all of it, with figures that are kept for a table."""

from __future__ import annotations

import os
from collections.abc import Iterable

from failover_figures import Ceiling, Evacuation, table
from lab_programs import KEPT

FULL = os.environ.get("SIZE") == "full"
FIGURES = KEPT / "figures.txt"


def keep(text: str) -> None:
    """Keep a text for what `make neutron-lab-test` prints."""
    with FIGURES.open("a", encoding="utf-8") as file:
        file.write(f"{text}\n\n")


def show(title: str, rows: Iterable[tuple[str, Evacuation]], more: str = "", ceilings: Iterable[Ceiling] = ()) -> None:
    """Keep figures for the table that `make neutron-lab-test` prints."""
    keep(f"{title}\n{table(rows, ceilings)}\n{more}")
