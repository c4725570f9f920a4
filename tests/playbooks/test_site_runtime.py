# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The role runtime as a release uses it: a given wheel, and a wheelhouse that is copied from the controller."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

ROLE = [{"ansible.builtin.include_role": {"name": "brokerless.openstack.runtime"}}]


def changed(done: Any) -> list[str]:
    return [task.task.rpartition(" : ")[2] for task in done.tasks if task.result.get("changed")]


@pytest.fixture
def prefix(tmp_path: Path, checkout: Path, inventory: dict[str, Any]) -> Path:
    """Where one host shall have the runtime; nothing is there yet."""
    wheelhouse = checkout / ".cache" / "wheelhouse"
    inventory["all"]["children"] = {"one": {"hosts": {"o1p409": {}}}}
    inventory["all"]["vars"] |= {
        "runtime_prefix": str(tmp_path / "opt"),
        "runtime_python": "{{ ansible_playbook_python }}",
        "runtime_wheelhouse": str(wheelhouse),
        "runtime_wheel": str(next(wheelhouse.glob("brokerless_openstack-*.whl"))),
    }
    return tmp_path / "opt"


def test_a_wheel_and_a_wheelhouse_from_the_controller(run_play: Any, prefix: Path, inventory: dict[str, Any]) -> None:
    forecast = run_play(ROLE, "--check", "--diff")
    assert not prefix.exists()
    real = run_play(ROLE)
    assert forecast.exit_code == real.exit_code == 0, real.output
    assert changed(forecast) == changed(real)
    assert changed(run_play(ROLE)) == []

    venv = (prefix / "current").resolve()
    assert venv.name.startswith("venv-")
    version = venv.name.removeprefix("venv-")
    for program in ("brokerless", "brokerless-receiver", "nova-rpc-zmq-receiver"):
        said = subprocess.run([prefix / "current" / "bin" / program, "--version"], capture_output=True, text=True, check=True).stdout
        assert said.split()[-1] == version
    wheels = {path.name for path in Path(inventory["all"]["vars"]["runtime_wheelhouse"]).glob("*.whl")}
    assert wheels <= {path.name for path in (prefix / "wheelhouse").iterdir()}


def test_the_runtime_is_never_looked_up_elsewhere(run_play: Any, prefix: Path, tmp_path: Path, inventory: dict[str, Any]) -> None:
    wheel = Path(inventory["all"]["vars"]["runtime_wheel"])
    other = tmp_path / wheel.name.replace("brokerless_openstack-", "brokerless_openstack-99.")
    other.write_bytes(wheel.read_bytes())
    inventory["all"]["vars"]["runtime_wheel"] = str(other)
    done = run_play(ROLE)
    assert done.exit_code != 0
    assert done.tasks[-1].task.endswith("Install the wheel")
    assert not (prefix / "current").exists()


def test_the_pinned_libraries_are_those_that_the_project_is_tested_with(checkout: Path) -> None:
    ours = (checkout / "roles" / "runtime" / "files" / "requirements.txt").read_text(encoding="utf-8")
    assert ours == (checkout / "requirements" / "runtime.txt").read_text(encoding="utf-8"), (
        "make lock copies requirements/runtime.txt to roles/runtime/files/requirements.txt"
    )
