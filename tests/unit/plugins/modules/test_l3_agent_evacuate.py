# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The module around the program: here a small program that obeys as a leader does, with its state in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brokerless.openstack.plugins.modules.l3_agent_evacuate import main

ACTION = {
    "number": 1,
    "action": "move router",
    "id": "r1",
    "name": "gate",
    "from": {"agent": "l1", "host": "net1"},
    "to": {"agent": "l2", "host": "net2"},
}
PLAN = {"purpose": "drain", "actions": [ACTION], "unplaced": [{"id": "r2", "name": "", "reason": "no agent is left"}]}
SCRIPT = """#!/bin/sh
cd '{folder}'
shift 2
echo "$@" >> calls
case "$*" in
  status*) cat status ;;
  *--dry-run*) cat plan ;;
  drain*) cp drained status; echo '{{"host": "net1", "hosts": 0}}' ;;
  cordon*) cp cordoned status; echo '{{"host": "net1", "hosts": 2}}' ;;
  undrain*) cp used status; echo '{{"host": "net1", "hosts": 0}}' ;;
esac
"""


def status(wish: str, hosted: int | None) -> str:
    return json.dumps(
        {
            "judgement": {"agents": [{"agent": "l1", "host": "net1"}, {"agent": "o1", "host": "net1"}, {"agent": "l2", "host": "net2"}]},
            "hosted": {} if hosted is None else {"l1": hosted, "l2": 7},
            "hosts": {"draining": ["net1"] if wish == "draining" else [], "cordoned": ["net1"] if wish == "cordoned" else []},
        }
    )


@pytest.fixture
def leader(tmp_path: Path) -> dict[str, str]:
    """The arguments that name the program and its configuration file. The host net1 has two routers."""
    for name, text in {
        "rpcdaemon.conf": "",
        "status": status("", 2),
        "used": status("", 2),
        "drained": status("draining", 0),
        "cordoned": status("cordoned", 2),
        "plan": json.dumps({"plan": PLAN}),
        "rpcdaemon": SCRIPT.format(folder=tmp_path),
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "rpcdaemon").chmod(0o755)
    return {"executable": str(tmp_path / "rpcdaemon"), "config_file": str(tmp_path / "rpcdaemon.conf")}


def commands(folder: Path) -> list[str]:
    """What the leader was told, but for questions."""
    lines = (folder / "calls").read_text(encoding="utf-8").splitlines()
    (folder / "calls").unlink()
    return [line for line in lines if not line.startswith("status")]


def test_a_host_is_drained_once_and_used_again(run_module: Any, leader: dict[str, str], tmp_path: Path) -> None:
    for state, wish, hosted, command in (
        ("drained", "draining", 0, "drain net1 --timeout 90 --json"),
        ("cordoned", "cordoned", 2, "cordon net1 --json"),
        ("used", "", 2, "undrain net1 --json"),
    ):
        forecast = run_module(main, check=True, host="net1", state=state, timeout=90, **leader)
        assert forecast["changed"] is True
        assert [line for line in commands(tmp_path) if "--dry-run" not in line] == []
        result = run_module(main, host="net1", state=state, timeout=90, **leader)
        assert (result["changed"], result["wish"], result["hosted"]) == (True, wish, hosted)
        assert commands(tmp_path) == [command]
        again = run_module(main, host="net1", state=state, timeout=90, **leader)
        assert (again["changed"], again["wish"]) == (False, wish)
        assert commands(tmp_path) == []


def test_check_mode_returns_the_plan_and_does_nothing(run_module: Any, leader: dict[str, str], tmp_path: Path) -> None:
    result = run_module(main, check=True, host="net1", **leader)
    assert (result["changed"], result["hosted"], result["plan"]) == (True, 2, PLAN)
    assert result["diff"] == {"prepared": "move router gate from net1 to net2\nstays: r2: no agent is left\n"}
    assert commands(tmp_path) == ["drain net1 --dry-run --json"]
    cordoned = run_module(main, check=True, host="net1", state="cordoned", **leader)
    assert (cordoned["changed"], cordoned["plan"]["actions"]) == (True, [])


def test_a_drain_that_is_not_done_yet_is_waited_for(run_module: Any, leader: dict[str, str], tmp_path: Path) -> None:
    for hosted in (2, None):
        (tmp_path / "status").write_text(status("draining", hosted), encoding="utf-8")
        assert run_module(main, host="net1", wait=False, **leader)["changed"] is False
        assert commands(tmp_path) == []
        assert run_module(main, host="net1", **leader)["hosted"] == 0
        assert commands(tmp_path) == ["drain net1 --timeout 3600 --json"]


def test_without_waiting_it_is_begun(run_module: Any, leader: dict[str, str], tmp_path: Path) -> None:
    run_module(main, host="net1", wait=False, **leader)
    assert commands(tmp_path) == ["drain net1 --no-wait --json"]


def test_a_host_without_agents_is_no_host(run_module: Any, leader: dict[str, str]) -> None:
    for check in (False, True):
        result = run_module(main, check=check, host="net9", **leader)
        assert result["failed"] is True
        assert result["msg"] == "host net9 is not drained: Neutron has no agent on host 'net9'"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ('echo \'{"host": "net1", "hosts": 1, "unplaced": ["r2: no agent is left"]}\'; exit 1', "1 can't leave it: r2: no agent is left"),
        ("echo 'rpcdaemon: net1 is not empty after 3600 s' >&2; exit 1", "rpcdaemon: net1 is not empty after 3600 s"),
    ],
)
def test_what_can_not_leave_fails_the_task(run_module: Any, leader: dict[str, str], tmp_path: Path, script: str, said: str) -> None:
    program = Path(leader["executable"])
    program.write_text(program.read_text(encoding="utf-8").replace("cp drained status;", f"{script};"), encoding="utf-8")
    result = run_module(main, host="net1", **leader)
    assert result["failed"] is True
    assert (result["msg"], result["rc"]) == (f"host net1 is not drained: {said}", 1)
    assert ("unplaced" in result) == ("can't leave" in said)


def test_what_is_missing_is_named_and_is_to_be_made_in_check_mode(run_module: Any, leader: dict[str, str]) -> None:
    for check in (False, True):
        result = run_module(main, check=check, host="net1", **{**leader, "config_file": "/nowhere/x"})
        assert "host net1 can't be drained: the configuration file /nowhere/x does not exist" in result["msg"]
        assert (result.get("skipped"), result.get("failed")) == ((True, None) if check else (None, True))


def test_a_time_limit_must_be_one(run_module: Any, leader: dict[str, str]) -> None:
    assert run_module(main, host="net1", timeout=0, **leader)["msg"] == "timeout must be more than 0 seconds, not 0"
