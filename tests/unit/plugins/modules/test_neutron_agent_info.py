# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The module around the program: here a small program that says what `rpcdaemon` can say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brokerless.openstack.plugins.modules.neutron_agent_info import main

AGENTS = [
    {"agent": "d1", "agent_type": "DHCP agent", "host": "net1", "state": "alive"},
    {"agent": "l1", "agent_type": "L3 agent", "host": "net1", "state": "dead"},
    {"agent": "l2", "agent_type": "L3 agent", "host": "net2", "state": "alive"},
]
STATUS = {
    "instance": "control1",
    "judgement": {"deaf": "", "agents": AGENTS},
    "hosted": {"l1": 20, "l2": 3},
    "hosts": {"draining": ["net2"], "cordoned": []},
    "alarms": [{"level": "critical", "name": "dead", "subject": "L3 agent on net1", "text": "it is dead"}],
    "under_way": [],
}


@pytest.fixture
def program(tmp_path: Path) -> dict[str, str]:
    """The arguments that name a program, which notes its command lines and says `STATUS`, and its configuration file."""
    path, config = tmp_path / "rpcdaemon", tmp_path / "rpcdaemon.conf"
    config.touch()
    path.write_text(f"#!/bin/sh\necho \"$@\" >> '{tmp_path}/calls'\ncat <<'END'\n{json.dumps(STATUS)}\nEND\n", encoding="utf-8")
    path.chmod(0o755)
    return {"executable": str(path), "config_file": str(config)}


@pytest.mark.parametrize("check", [False, True])
def test_what_the_leader_knows(run_module: Any, program: dict[str, str], tmp_path: Path, check: bool) -> None:
    result = run_module(main, check=check, **program)
    assert result["changed"] is False
    assert (result["leader"], result["deaf"], result["alarms"]) == ("control1", "", STATUS["alarms"])
    assert [(agent["agent"], agent["hosted"], agent["wish"]) for agent in result["agents"]] == [
        ("d1", None, ""),
        ("l1", 20, ""),
        ("l2", 3, "draining"),
    ]
    assert (tmp_path / "calls").read_text(encoding="utf-8") == f"-c {tmp_path}/rpcdaemon.conf status --json\n"


def test_only_what_is_asked_for(run_module: Any, program: dict[str, str]) -> None:
    assert [agent["agent"] for agent in run_module(main, host="net1", **program)["agents"]] == ["d1", "l1"]
    assert [agent["agent"] for agent in run_module(main, host="net1", agent_type="L3 agent", **program)["agents"]] == ["l1"]


@pytest.mark.parametrize(
    ("script", "said", "code"),
    [
        ("echo 'rpcdaemon: no rpcdaemon answered within 10 s' >&2; exit 3", "rpcdaemon: no rpcdaemon answered within 10 s", 3),
        ("echo pong", "said what can't be read: 'pong'", 0),
        ("exit 5", "`rpcdaemon status` ended with exit code 5", 5),
        ("echo '{}'", "what rpcdaemon answered lacks 'hosts'", None),
    ],
)
def test_no_answer_is_a_failure_with_its_reason(run_module: Any, program: dict[str, str], script: str, said: str, code: int | None) -> None:
    Path(program["executable"]).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    result = run_module(main, **program)
    assert result["failed"] is True
    assert said in result["msg"]
    assert result.get("rc") == code


@pytest.mark.parametrize("check", [False, True])
def test_what_is_missing_is_named_and_is_to_be_made_in_check_mode(run_module: Any, program: dict[str, str], check: bool) -> None:
    for arguments, said in (
        ({"executable": "/nowhere/rpcdaemon"}, "the program /nowhere/rpcdaemon does not exist; the role brokerless.openstack.runtime installs it"),
        ({"executable": program["config_file"]}, f"{program['config_file']} is no program that may be run"),
        ({"config_file": "/nowhere/x"}, "the configuration file /nowhere/x does not exist or may not be read"),
    ):
        result = run_module(main, check=check, **{**program, **arguments})
        assert said in result["msg"]
        assert (result.get("skipped"), result.get("failed")) == ((True, None) if check else (None, True))
