# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Run plays with ansible-playbook, and look at what each task of them returned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

HERE = Path(__file__).parent
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}


@dataclass(frozen=True)
class TaskResult:
    """What one task returned on one host. `outcome` is ok, failed, skipped or unreachable."""

    host: str
    task: str
    outcome: str
    result: dict[str, Any]


@dataclass(frozen=True)
class PlayResult:
    """How a run of ansible-playbook ended, what it printed, and what its tasks returned, in order."""

    exit_code: int
    output: str
    tasks: tuple[TaskResult, ...]

    def only(self) -> TaskResult:
        """Return the result of the only task."""
        assert len(self.tasks) == 1, self.output
        return self.tasks[0]


class RunPlay(Protocol):
    """Runs tasks on `hosts`, with further arguments of ansible-playbook."""

    def __call__(self, tasks: Sequence[Mapping[str, Any]], *arguments: str, hosts: str = "all", **play: Any) -> PlayResult: ...


@pytest.fixture
def inventory(tmp_path: Path) -> dict[str, Any]:
    """The inventory of the plays. Tests may add to it before they run one."""
    return {
        "all": {
            "vars": LOCAL | {"ansible_async_dir": str(tmp_path / "async")},
            "children": {
                "control": {"hosts": {"o2p409.lab": {}, "o1p409.lab": {}}},
                "network": {"hosts": {"o3p409.lab": {}, "o1p409.lab": {}}},
                "compute": {"hosts": {"c1.lab": {}, "c2.lab": {}}},
                "empty": {"hosts": {}},
            },
        }
    }


@pytest.fixture
def run_play(tmp_path: Path, checkout: Path, inventory: dict[str, Any]) -> RunPlay:
    """A function that runs tasks and returns their results."""
    folder = tmp_path / "play"
    folder.mkdir()
    results = folder / "results"
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(checkout / "ansible.cfg"),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_REMOTE_TMP": str(folder / "remote_tmp"),
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "task_results",
        "ANSIBLE_RETRY_FILES_ENABLED": "0",
        "ANSIBLE_NOCOLOR": "1",
        "TASK_RESULTS": str(results),
    }

    def run(tasks: Sequence[Mapping[str, Any]], *arguments: str, hosts: str = "all", **play: Any) -> PlayResult:
        results.write_text("", encoding="utf-8")
        (folder / "hosts.yml").write_text(yaml.safe_dump(inventory, sort_keys=False), encoding="utf-8")
        (folder / "play.yml").write_text(
            yaml.safe_dump([{"hosts": hosts, "gather_facts": False, **play, "tasks": list(tasks)}], sort_keys=False), encoding="utf-8"
        )
        done = subprocess.run(
            [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(folder / "hosts.yml"), str(folder / "play.yml"), *arguments],
            cwd=checkout,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        lines = results.read_text(encoding="utf-8").splitlines()
        return PlayResult(done.returncode, done.stdout, tuple(TaskResult(**json.loads(line)) for line in lines))

    return run
