# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from brokerless.ha.hooks import Hooks


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "hook"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return f"{path} 'an argument'"


def test_a_command_is_told_what_it_is_for(tmp_path: Path) -> None:
    command = script(tmp_path, f'echo "$1 $RPCDAEMON_HOST" > {tmp_path}/said')
    assert Hooks().run(command, {"host": "net1"}) == ""
    assert (tmp_path / "said").read_text(encoding="utf-8") == "an argument net1\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo no power >&2; exit 3", "ended with 3: no power"),
        ("exit 1", "ended with 1: it said nothing"),
        ("sleep 60", "took longer than 0.2 s and was killed"),
    ],
)
def test_what_went_wrong_is_told(tmp_path: Path, text: str, words: str) -> None:
    assert words in Hooks(time_limit=0.2 if "sleep" in text else 60.0).run(script(tmp_path, text), {})


def test_a_command_that_is_not_there_is_told_and_none_at_all_is_well() -> None:
    assert "could not be started" in Hooks().run("/nowhere/fence", {})
    assert "could not be started" in Hooks().run("fence 'half", {})
    assert Hooks().run("", {}) == ""
