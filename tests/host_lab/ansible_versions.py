# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Other versions of ansible-core than the checkout's own, to deploy to the lab's hosts with: each in a virtual environment of its own, made once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from host_image import CHECKOUT, KEPT, LabFault, run

NEEDED_PYTHON = {"2.20": (3, 12), "2.21": (3, 12)}
"""The versions there may be, and the oldest Python of each."""


def own_programs() -> Path:
    """Return the folder with the programs of the checkout's own ansible-core."""
    return Path(sys.executable).parent


def programs_of(version: str) -> Path:
    """Return the folder with ansible-playbook and molecule of that ansible-core. Raises `LabFault` where there is no Python for it."""
    place = KEPT / f"ansible-{version}"
    if not (place / ".complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        run([_python_for(version), "-m", "venv", str(place)], f"no virtual environment for ansible-core {version}")
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        environment = {"PIP_CACHE_DIR": str(CHECKOUT / ".cache" / "pip"), **os.environ}
        run([*pip, f"ansible-core=={version}.*", "molecule"], f"ansible-core {version} can't be installed", environment)
        (place / ".complete").touch()
    return place / "bin"


def _python_for(version: str) -> str:
    oldest = NEEDED_PYTHON[version]
    installed = sorted(Path.home().glob(".pyenv/versions/*/bin/python3"))
    for candidate in (os.environ.get("PYTHON", ""), "python3", "python3.13", "python3.12", *map(str, installed)):
        if not candidate or not shutil.which(candidate):
            continue
        asked = subprocess.run(
            [candidate, "-c", "import sys, venv, ensurepip; print(*sys.version_info[:2])"], capture_output=True, text=True, check=False
        )
        if asked.returncode == 0 and oldest <= tuple(map(int, asked.stdout.split())) < (3, 15):
            return candidate
    raise LabFault(f"ansible-core {version} needs Python {'.'.join(map(str, oldest))} or newer, with venv; name one in the variable PYTHON")
