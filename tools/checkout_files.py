# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Which files of the checkout are ours: those that git does not ignore, committed or not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def files_of_checkout(*patterns: str) -> list[str]:
    """Return the sorted names of our files that match one of git's `patterns`, all of them without patterns, relative to the checkout."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *patterns]
    output = subprocess.run(command, cwd=CHECKOUT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return sorted(name for name in set(output.split("\0")) if name and (CHECKOUT / name).is_file())


def copy_files(names: list[str], destination: Path) -> None:
    """Copy files of the checkout to the same names below `destination`, with modes and times; links stay links."""
    for name in names:
        target = destination / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, target, follow_symlinks=False)
