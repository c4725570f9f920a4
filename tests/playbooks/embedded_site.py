# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The embedded inventory, deployed into a directory of its own: which tasks of a playbook changed something, and on which host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from receiver_process import free_port, wait_until

CALLBACKS = Path(__file__).parent / "callback_plugins"
ADDRESSES = {"control1": "127.0.1.1", "compute1": "127.0.1.2", "compute2": "127.0.1.3"}


@dataclass(frozen=True)
class Run:
    """A run of ansible-playbook: exit code, output, and the tasks that changed (or would change) something, as (host, task)."""

    exit_code: int
    output: str
    changed: frozenset[tuple[str, str]]

    def tasks_of(self, host: str) -> set[str]:
        """The tasks that changed something on a host."""
        return {task for changed_host, task in self.changed if changed_host == host}


class Site:
    """The three hosts below `directory`; `home` is the home directory of whoever deploys them."""

    def __init__(self, checkout: Path, directory: Path, home: Path) -> None:
        self.checkout = checkout
        self.directory = directory
        self.home = home
        self.variables: dict[str, Any] = {"embedded_root": str(directory / "d"), "brokerless_start_port": free_port(list(ADDRESSES.values()))}
        self.temporary = directory / "t"
        self.temporary.mkdir()

    def play(self, playbook: str, *arguments: str, **variables: Any) -> Run:
        """Run a playbook of the collection, or one by its absolute path, with further variables."""
        results = self.directory / "results"
        results.write_text("", encoding="utf-8")
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "ansible-playbook"),
                f"--inventory={self.checkout / 'inventories' / 'embedded'}",
                f"--extra-vars={json.dumps(self.variables | variables)}",
                *arguments,
                str(Path("playbooks", playbook)),
            ],
            cwd=self.checkout,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
                "ANSIBLE_CONFIG": str(self.checkout / "ansible.cfg"),
                "ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS),
                "ANSIBLE_CALLBACKS_ENABLED": "task_results",
                "ANSIBLE_NOCOLOR": "1",
                "TASK_RESULTS": str(results),
                "HOME": str(self.home),
                "TMPDIR": str(self.temporary),
                # pip asks rustc for its version, and rustup's rustc makes itself a home directory
                "RUSTUP_HOME": str(self.directory / "rustup"),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        tasks = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
        changed = frozenset((task["host"], task["task"].rpartition(" : ")[2]) for task in tasks if task["result"].get("changed"))
        return Run(done.returncode, done.stdout, changed)

    def file(self, host: str, name: str) -> Path:
        """A file in a host's directory."""
        return self.directory / "d" / host / name

    def pid(self, host: str) -> int:
        """The pid of a host's receiver."""
        return int(self.file(host, "run/receiver.pid").read_text(encoding="utf-8").splitlines()[0])

    def pids(self) -> dict[str, int]:
        """The pids of all receivers."""
        return {host: self.pid(host) for host in ADDRESSES}

    def brokerless(self, host: str, *command: str) -> Any:
        """What the deployed program `brokerless` says on a host."""
        program = [str(self.file(host, "runtime/current/bin/brokerless")), "--config-file", str(self.file(host, "etc/brokerless.conf")), "--json"]
        done = subprocess.run([*program, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def written(self) -> set[str]:
        """What lies in the deployment's directory."""
        root = self.directory / "d"
        return {path.name for path in root.iterdir()} if root.exists() else set()


def end(pid: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Signal a process and wait until it is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    wait_until(
        lambda: not Path(f"/proc/{pid}").exists() or ") Z " in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8"), f"process {pid} has ended"
    )
