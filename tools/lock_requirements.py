# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Resolve requirements/*.in into requirements/*.txt, every version pinned: `python tools/lock_requirements.py`.

runtime.txt is resolved first; tools.txt is resolved with its versions given, and lists only what runtime.txt does not.
Role `runtime` carries a copy of runtime.txt. neutron-lab.txt, nova-lab.txt and upstream.txt
are for virtual environments of their own, and resolved on their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
REQUIREMENTS = CHECKOUT / "requirements"
ROLE_COPY = CHECKOUT / "roles" / "runtime" / "files" / "requirements.txt"
"""An installed collection has no `requirements/` that its roles may read."""


def pins(report: dict[str, Any]) -> dict[str, str]:
    """Return version by distribution name from a report of `pip install --report`."""
    return {entry["metadata"]["name"]: entry["metadata"]["version"] for entry in report["install"]}


def render(source: str, versions: dict[str, str]) -> str:
    """Return the text of a pinned requirements file, sorted by name, that was resolved from the file named `source`."""
    lines = [f"# Resolved from {source} by tools/lock_requirements.py. Change that file, then run it again."]
    lines += [f"{name}=={versions[name]}" for name in sorted(versions, key=str.lower)]
    return "\n".join(lines) + "\n"


def resolve(*arguments: str) -> dict[str, str]:
    """Ask pip what it would install into an empty environment for `arguments`. Raises `CalledProcessError` if nothing fits."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--quiet", "--dry-run", "--ignore-installed", "--report", "-", *arguments]
    return pins(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))


def main() -> int:
    """Write the files."""
    runtime = resolve("-r", str(REQUIREMENTS / "runtime.in"))
    for copy in (REQUIREMENTS / "runtime.txt", ROLE_COPY):
        copy.write_text(render("runtime.in", runtime), encoding="utf-8")
    everything = resolve("-r", str(REQUIREMENTS / "tools.in"), "-r", str(REQUIREMENTS / "runtime.txt"))
    tools = {name: version for name, version in everything.items() if name not in runtime}
    (REQUIREMENTS / "tools.txt").write_text(render("tools.in", tools), encoding="utf-8")
    for name in ("neutron-lab", "nova-lab", "upstream"):
        alone = resolve("-r", str(REQUIREMENTS / f"{name}.in"))
        (REQUIREMENTS / f"{name}.txt").write_text(render(f"{name}.in", alone), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
