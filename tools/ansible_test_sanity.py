# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Run `ansible-test sanity` over the checkout, wherever it lies: `python tools/ansible_test_sanity.py`.

ansible-test wants a real folder `ansible_collections/brokerless/openstack`: it refuses a link to the checkout, looks at nothing below a
linked folder, and silently tests nothing in a folder that git ignores. So it gets a copy of all files that are not ignored, outside of
the checkout. It keeps its own virtual environments below its home, which for it is a folder of the checkout's cache.
"""

from __future__ import annotations

import ast
import configparser
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from checkout_files import CHECKOUT, copy_files, files_of_checkout

HOME = CHECKOUT / ".cache" / "ansible-test-home"
PIP_OF_ANSIBLE_TEST = "24.2"
"""What ansible-test 2.19 puts into its virtual environments; it would fetch the installer from a host that is no package registry."""


def prepare_pip(home: Path) -> None:
    """Put the installer of pip where ansible-test looks for it below `home`, and pip's configuration where pip does.

    ansible-test passes no environment variables on to pip and knows another home, so all that configures pip now is written down.
    """
    cache = home / ".ansible" / "test" / "cache"
    installer = cache / f"get_pip_{PIP_OF_ANSIBLE_TEST.replace('.', '_')}.py"
    cache.mkdir(parents=True, exist_ok=True)
    if not (cache / f"pip-{PIP_OF_ANSIBLE_TEST}-py3-none-any.whl").exists():
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--quiet", "--no-deps", "--dest", str(cache), f"pip=={PIP_OF_ANSIBLE_TEST}"]
        subprocess.run(download, check=True)
    shutil.copy(CHECKOUT / "tools" / "get_pip_offline.py", installer)
    listing = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=True, stdout=subprocess.PIPE, text=True).stdout
    write_pip_config(home / ".config" / "pip" / "pip.conf", listing)


def write_pip_config(path: Path, listing: str) -> None:
    """Write the output of `pip config list` (`global.timeout='60'`, `:env:.timeout='60'`) as a configuration file of pip."""
    config = configparser.RawConfigParser()
    config.add_section("global")
    for line in listing.splitlines():
        name, value = line.split("=", maxsplit=1)
        config.set("global", name.rpartition(".")[2], ast.literal_eval(value).replace("\n", "\n  "))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        config.write(file)


def main() -> int:
    """Return the exit code of ansible-test."""
    prepare_pip(HOME)
    environment = {**os.environ, "HOME": str(HOME), "LC_ALL": "C.UTF-8"}
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    with tempfile.TemporaryDirectory(prefix="brokerless-sanity-") as folder:
        tree = Path(folder, "ansible_collections", "brokerless", "openstack")
        copy_files(files_of_checkout(), tree)
        # one Python by name: its list of all would be taken from PATH, where version managers put names that fail when they are used
        command = ["ansible-test", "sanity", "--local", "--color", "no", "--python", python]
        return subprocess.run(command, cwd=tree, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
