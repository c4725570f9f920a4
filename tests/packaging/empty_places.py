# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Folders in which programs run with nothing of the checkout around them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(sys.executable).parent
BARE_PYTHON = Path(sys.executable).resolve()
"""The Python beneath the virtual environment: it has none of the runtime's libraries, as a managed host."""


@dataclass(frozen=True)
class EmptyPlace:
    """A folder that is home and working directory of the programs run in it, with nothing of the checkout in their environment."""

    folder: Path

    def run(self, command: Sequence[str | Path], **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `command` and return how it ended, with its output as text."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHON", "VIRTUAL_ENV", "XDG_"))}
        environment = {**kept, "HOME": str(self.folder), "LC_ALL": "C.UTF-8", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **variables}
        return subprocess.run(command, cwd=self.folder, env=environment, check=False, capture_output=True, text=True)

    def must(self, command: Sequence[str | Path], **variables: str) -> str:
        """Run `command`, which has to succeed, and return its standard output."""
        done = self.run(command, **variables)
        assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@dataclass(frozen=True)
class InstalledCollection(EmptyPlace):
    """An empty place with the collection in it, as `ansible-galaxy` installs it."""

    @property
    def root(self) -> Path:
        """Where the collection is."""
        return self.folder / "collections" / "ansible_collections" / "brokerless" / "openstack"

    def ansible(self, program: str, *arguments: str | Path) -> str:
        """Run a program of Ansible, which has to succeed, with this collection and no other; return its standard output."""
        return self.must(
            [PROGRAMS / program, *arguments],
            ANSIBLE_COLLECTIONS_PATH=str(self.folder / "collections"),
            ANSIBLE_NOCOLOR="1",
            # ~ on a managed host, this one, is the home of the account, whatever HOME says
            ANSIBLE_REMOTE_TMP=str(self.folder / "remote_tmp"),
        )
