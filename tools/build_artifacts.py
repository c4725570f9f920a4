# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Build what a release consists of, the wheel and the collection's tarball: `python tools/build_artifacts.py [FOLDER]` (default: dist).

The tarball carries the wheel, so that role `runtime` builds nothing where the collection is installed. Both are built from a copy of the
files that git does not ignore.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from checkout_files import CHECKOUT, copy_files, files_of_checkout


class Artifacts(NamedTuple):
    """The files of a release."""

    wheel: Path
    tarball: Path


def only_new_file(folder: Path, pattern: str) -> Path:
    """Return the one file in `folder` that matches; anything else is a fault of the build."""
    (found,) = folder.glob(pattern)
    return found


def build_wheel(source: Path, destination: Path) -> Path:
    """Build the wheel of the tree `source` into `destination`, with the build backend that is installed here, and return it."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(destination), str(source)], check=True)
    return only_new_file(destination, "brokerless_openstack-*.whl")


def build_tarball(source: Path, destination: Path) -> Path:
    """Build the collection's tarball of the tree `source` into `destination` and return it."""
    galaxy = Path(sys.executable).parent / "ansible-galaxy"
    command = [str(galaxy), "collection", "build", "--force", "--output-path", str(destination), str(source)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return only_new_file(destination, "brokerless-openstack-*.tar.gz")


def build_artifacts(destination: Path) -> Artifacts:
    """Build both into `destination`, which must hold no older ones."""
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="brokerless-build-") as folder:
        tree = Path(folder)
        copy_files(files_of_checkout(), tree)
        wheel = build_wheel(tree, destination)
        shutil.copy2(wheel, tree / "roles" / "runtime" / "files")
        return Artifacts(wheel, build_tarball(tree, destination))


def main() -> int:
    """Replace the artifacts in the folder that is named on the command line."""
    parser = argparse.ArgumentParser(description="Build the wheel and the collection's tarball.")
    parser.add_argument("folder", nargs="?", type=Path, default=CHECKOUT / "dist", help="where to put them (default: dist)")
    folder: Path = parser.parse_args().folder
    for older in (*folder.glob("brokerless_openstack-*.whl"), *folder.glob("brokerless-openstack-*.tar.gz")):
        older.unlink()
    for artifact in build_artifacts(folder):
        sys.stdout.write(f"{artifact}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
