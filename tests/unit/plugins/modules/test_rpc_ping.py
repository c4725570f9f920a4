# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The module around the program: here small programs that say what `brokerless` can say, as its failures can't be had at will."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brokerless.openstack.plugins.modules.rpc_ping import main

ANSWER = {"host": "compute1", "pid": 7, "round_trip_ms": 1.5}
MakeProgram = Callable[[str], Path]


@pytest.fixture
def program(tmp_path: Path) -> MakeProgram:
    """A function that makes a program of the lines of a shell script. It notes each of its command lines in the file `calls`."""

    def make(script: str) -> Path:
        path = tmp_path / "brokerless"
        path.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/calls"\n{script}\n', encoding="utf-8")
        path.chmod(0o755)
        return path

    return make


def saying(data: Any) -> str:
    return f"cat <<'END'\n{json.dumps(data)}\nEND"


def test_an_answer(run_module: Any, program: MakeProgram, tmp_path: Path) -> None:
    config = tmp_path / "brokerless.conf"
    config.touch()
    executable = program(saying({"topic": "compute", "answers": [ANSWER], "silent": []}))
    result = run_module(main, topic="compute", executable=str(executable), config_file=str(config), timeout=2.5)
    assert result["changed"] is False
    assert (result["topic"], result["host"], result["round_trip_ms"], result["attempts"]) == ("compute", "compute1", 1.5, 1)
    assert result["answers"] == [ANSWER]
    assert "silent" not in result
    assert (tmp_path / "calls").read_text(encoding="utf-8") == f"--json --config-file {config} ping compute --timeout 2.5\n"


def test_the_program_has_its_own_default_of_the_configuration_file(run_module: Any, program: MakeProgram, tmp_path: Path) -> None:
    run_module(main, topic="compute", executable=str(program(saying({"answers": [ANSWER]}))))
    assert (tmp_path / "calls").read_text(encoding="utf-8") == "--json ping compute --timeout 10\n"


def test_it_pings_in_check_mode_too(run_module: Any, program: MakeProgram) -> None:
    result = run_module(main, check=True, topic="compute", executable=str(program(saying({"answers": [ANSWER]}))))
    assert result["host"] == "compute1"


def test_no_answer_is_a_failure_with_the_line_of_the_program(run_module: Any, program: MakeProgram) -> None:
    executable = program("echo noise >&2; echo \"MatchMaker ring (/x) knows no host for topic 'foo'\" >&2; exit 1")
    result = run_module(main, topic="foo", executable=str(executable))
    assert result["failed"] is True
    assert result["msg"] == "MatchMaker ring (/x) knows no host for topic 'foo'"
    assert (result["topic"], result["rc"], result["attempts"]) == ("foo", 1, 1)


def test_a_fanout_that_not_all_answered_says_who_did(run_module: Any, program: MakeProgram) -> None:
    silent = [{"host": "compute2", "reason": "no answer"}]
    executable = program(
        saying({"topic": "fanout~compute", "answers": [ANSWER], "silent": silent}) + "\necho '1 of 2 hosts did not answer' >&2; exit 1"
    )
    result = run_module(main, topic="fanout~compute", executable=str(executable))
    assert result["failed"] is True
    assert result["msg"] == "1 of 2 hosts did not answer"
    assert (result["answers"], result["silent"]) == ([ANSWER], silent)


def test_it_tries_again(run_module: Any, program: MakeProgram, tmp_path: Path) -> None:
    executable = program(f'[ "$(wc -l < "{tmp_path}/calls")" -eq 3 ] || exit 1\n' + saying({"answers": [ANSWER]}))
    result = run_module(main, topic="compute", executable=str(executable), retries=5, delay=0)
    assert (result["host"], result["attempts"]) == ("compute1", 3)


def test_it_gives_up(run_module: Any, program: MakeProgram, tmp_path: Path) -> None:
    result = run_module(main, topic="compute", executable=str(program("exit 3")), retries=2, delay=0)
    assert result["msg"] == f"{tmp_path}/brokerless ended with exit code 3 and said nothing"
    assert (result["rc"], result["attempts"]) == (3, 3)
    assert len((tmp_path / "calls").read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo pong", "its answer can't be read: 'pong'"),
        (saying([]), "its answer can't be read: '[]'"),
        (saying({"answers": [{"host": "a"}]}), "its answer can't be read: "),
        (saying({"answers": []}), "it reports success, but no answer"),
    ],
)
def test_an_answer_that_can_not_be_read_is_a_failure(run_module: Any, program: MakeProgram, script: str, said: str) -> None:
    result = run_module(main, topic="compute", executable=str(program(script)))
    assert result["failed"] is True
    assert said in result["msg"]


@pytest.mark.parametrize("check", [False, True])
def test_what_is_missing_is_named_and_is_to_be_made_in_check_mode(run_module: Any, program: MakeProgram, tmp_path: Path, check: bool) -> None:
    for arguments, said in (
        ({"executable": f"{tmp_path}/none"}, f"the program {tmp_path}/none does not exist; the role brokerless.openstack.runtime installs it"),
        ({"executable": str(tmp_path)}, f"{tmp_path} is no program that may be run"),
        ({"executable": str(program("exit 0")), "config_file": f"{tmp_path}/x.conf"}, f"the configuration file {tmp_path}/x.conf does not exist"),
    ):
        result = run_module(main, check=check, topic="compute", **arguments)
        assert result["msg"] == f"can't ping topic 'compute': {said}"
        assert (result.get("skipped"), result.get("failed")) == ((True, None) if check else (None, True))


def test_a_program_that_the_kernel_refuses_is_named(run_module: Any, tmp_path: Path) -> None:
    broken = tmp_path / "brokerless"
    broken.write_bytes(b"\x7fELF no such thing")
    broken.chmod(0o755)
    result = run_module(main, topic="compute", executable=str(broken))
    assert result["failed"] is True
    assert str(broken) in result["msg"]
    assert "Exec format error" in result["msg"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"topic": "--help"}, "topic '--help' begins with '-'"),
        ({"topic": "a/b"}, "topic 'a/b' contains '/'"),
        ({"topic": "compute", "timeout": 0}, "timeout must be more than 0 seconds, not 0"),
        ({"topic": "compute", "retries": -1}, "retries can't be negative, but is -1"),
        ({"topic": "compute", "delay": -0.5}, "delay can't be negative, but is -0.5"),
    ],
)
def test_bad_arguments_run_nothing(run_module: Any, program: MakeProgram, tmp_path: Path, arguments: dict[str, Any], said: str) -> None:
    result = run_module(main, executable=str(program("exit 0")), **arguments)
    assert result["failed"] is True
    assert said in result["msg"]
    assert not (tmp_path / "calls").exists()
