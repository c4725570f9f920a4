# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What the lab is made of, brought once and kept below .cache/neutron-lab: the virtual environments with Neutron and with Nova, and databases."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
KEPT = CHECKOUT / ".cache" / "neutron-lab"
"""Everything below is made again when it is missing."""

WHEELHOUSE = CHECKOUT / ".cache" / "wheelhouse"
"""What `make deps` built: the runtime, and the libraries that it needs."""

LOCK_FILE = CHECKOUT / "requirements" / "neutron-lab.txt"
NOVA_LOCK_FILE = CHECKOUT / "requirements" / "nova-lab.txt"


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """Let one process at a time make the thing called `name`."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / f"{name}.lock").open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(command: list[str], what: str, environment: dict[str, str] | None = None) -> None:
    """Run a command to its end; fails with `what` and the end of what it said."""
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, f"{what}: exit code {done.returncode}\n{done.stdout[-3000:]}"


@contextlib.contextmanager
def run_directory(prefix: str) -> Iterator[Path]:
    """Make a directory for one run of a lab, and take it away at the end; after a failure its logs are kept in .cache/neutron-lab/last-failure."""
    (KEPT / "runs").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=KEPT / "runs", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        try:
            yield directory
        except BaseException:
            kept = KEPT / "last-failure"
            shutil.rmtree(kept, ignore_errors=True)
            for log in directory.rglob("*.log*"):
                copy = kept / log.relative_to(directory)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(log, copy)
            raise


@functools.cache
def neutron_environment() -> Path:
    """Return the virtual environment with the Neutron of requirements/neutron-lab.txt, installing it (a minute) when it is missing or another."""
    return _virtual_environment("venv", LOCK_FILE)


@functools.cache
def nova_environment() -> Path:
    """As `neutron_environment`, with the Nova of requirements/nova-lab.txt."""
    return _virtual_environment("nova-venv", NOVA_LOCK_FILE)


def _virtual_environment(name: str, lock_file: Path) -> Path:
    wanted = lock_file.read_text(encoding="utf-8")
    place = KEPT / name
    with alone(name):
        mark = place / ".complete"
        if not mark.exists() or mark.read_text(encoding="utf-8") != wanted:
            shutil.rmtree(place, ignore_errors=True)
            run([sys.executable, "-m", "venv", str(place)], f"no virtual environment for {lock_file.name}")
            pip = {"PIP_CACHE_DIR": str(CHECKOUT / ".cache" / "pip"), **os.environ}
            run(
                [str(place / "bin" / "pip"), "install", "--quiet", "--no-deps", "--requirement", str(lock_file)],
                f"{lock_file.name}: not installed",
                pip,
            )
            mark.write_text(wanted, encoding="utf-8")
    return place


def install_runtime(environment: Path) -> None:
    """Install the checkout's runtime into the virtual environment of an OpenStack service, from the wheelhouse alone, as operators may."""
    (wheel,) = WHEELHOUSE.glob("brokerless_openstack-*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    with alone(f"runtime-in-{environment.name}"):
        mark = environment / ".runtime"
        if not mark.exists() or mark.read_text(encoding="utf-8") != digest:
            pip = [str(environment / "bin" / "pip"), "install", "--quiet", "--no-index", "--find-links", str(WHEELHOUSE)]
            run([*pip, f"{wheel}"], "the runtime is not installed")
            run([*pip, "--no-deps", "--force-reinstall", f"{wheel}"], "the runtime is not installed anew")
            mark.write_text(digest, encoding="utf-8")


def kept_database(name: str, make: Callable[[Path], None], *ingredients: str) -> Path:
    """Return a directory that `make` filled once, and fills again when Neutron's versions or `ingredients` are others. Nobody may change it."""
    digest = hashlib.sha256("\n".join([LOCK_FILE.read_text(encoding="utf-8"), *ingredients]).encode()).hexdigest()[:16]
    place = KEPT / "databases" / f"{name}-{digest}"
    with alone(f"database-{name}-{digest}"):
        if not place.exists():
            unfinished = place.with_name(f"{place.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            make(unfinished)
            unfinished.rename(place)
    return place
