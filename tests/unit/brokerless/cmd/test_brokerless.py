# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What the command line does before it asks any receiver; the rest is in tests/functional/cli."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from brokerless.cmd.brokerless import main
from brokerless.version import VERSION


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["dance"], "invalid choice: 'dance'"),
        (["ping"], "the following arguments are required: TOPIC"),
        (["ping", "compute", "--timeout", "soon"], "'soon' is not a positive number of seconds"),
        (["ping", "compute", "--timeout", "0"], "'0' is not a positive number of seconds"),
        (["ping", "compute", "--timeout", "inf"], "'inf' is not a positive number of seconds"),
        (["ping", "compute", "extra"], "unrecognized arguments: extra"),
        (["call", "compute"], "the following arguments are required: METHOD"),
        (["call", "compute", "echo", "web1"], "argument 'web1' must be written name=value"),
        (["call", "compute", "echo", "a=1", "--rpc-version", "2.0", "a=2"], "argument 'a' is given twice"),
        (["cast", "compute", "echo", "--tiemout", "3"], "unrecognized arguments: --tiemout"),
        (["ring"], "the following arguments are required: check|show"),
        (["ring", "check"], "the following arguments are required: FILE"),
    ],
)
def test_a_command_that_cannot_be_understood_is_exit_code_2(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert complaint in errors


@pytest.mark.parametrize("arguments", [["--help"], ["ping", "--help"], ["ring", "check", "-h"]])
def test_help_is_no_failure(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert "usage: brokerless" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"brokerless {VERSION}\n"


@pytest.mark.parametrize("arguments", [["--json", "ring", "check"], ["ring", "check", "--json"]])
def test_ring_check_of_a_good_file(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ring = tmp_path / "ring.json"
    ring.write_text('{"network": ["n1"], "compute": ["c2", "c1"]}')
    assert main([*arguments, str(ring)]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    assert json.loads(output) == {"file": str(ring), "topics": {"network": ["n1"], "compute": ["c2", "c1"]}, "hosts": ["c1", "c2", "n1"]}


def test_ring_check_is_a_table_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ring = tmp_path / "ring.json"
    ring.write_text('{"compute": ["c2", "c1"]}')
    assert main(["ring", "check", str(ring)]) == 0
    assert "c2, c1" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"compute": "c1"}', '{"compute": []}', '{"a/b": ["c1"]}', '{"compute": ["c1", "c1"]}', None])
def test_ring_check_of_a_bad_file_is_one_line_that_names_it(content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ring = tmp_path / "ring.json"
    if content is not None:
        ring.write_text(content)
    assert main(["ring", "check", str(ring)]) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("brokerless: ")
    assert str(ring) in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("command", [["status"], ["ping", "compute"], ["call", "compute", "echo"], ["ring", "show"]])
def test_bad_options_are_one_line_that_names_them(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "b.conf"
    assert main(["--config-file", str(file), *command]) == 1
    assert capsys.readouterr().err == f"brokerless: configuration file not found: {file}\n"
    file.write_text("[DEFAULT]\nrpc_response_timeout = soon\n")
    assert main(["--config-file", str(file), *command]) == 1
    errors = capsys.readouterr().err
    assert "rpc_response_timeout" in errors
    assert errors.count("\n") == 1
    file.write_text(f"[DEFAULT]\nrpc_zmq_ipc_dir = /{'x' * 120}\n")
    assert main(["--config-file", str(file), *command]) == 1
    errors = capsys.readouterr().err
    assert "rpc_zmq_ipc_dir" in errors
    assert errors.count("\n") == 1


def test_a_bad_topic_is_told_before_anyone_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "b.conf"
    file.write_text(f"[DEFAULT]\nrpc_zmq_ipc_dir = {tmp_path}\n")
    for command in (["ping", "../x"], ["call", "../x", "echo"], ["cast", "../x", "echo"], ["fanout-cast", "../x", "echo"]):
        assert main(["--config-file", str(file), *command]) == 1
        assert capsys.readouterr().err == "brokerless: topic '../x' contains '..'\n"
