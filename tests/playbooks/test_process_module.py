# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""`process` in real plays: what it starts outlives the play, and the next play finds it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brokerless.openstack.plugins.module_utils._detached_process import running_process


@pytest.fixture
def pid_file(tmp_path: Path) -> Iterator[Path]:
    """The pid file of a process, which is killed at the end."""
    path = tmp_path / "service.pid"
    yield path
    identity = running_process(path)
    if identity:
        os.kill(identity.pid, signal.SIGKILL)


def task(pid_file: Path, **arguments: Any) -> dict[str, Any]:
    return {"brokerless.openstack.process": {"name": "service", "pid_file": str(pid_file), **arguments}}


def test_the_life_of_a_process(run_play: Any, pid_file: Path, tmp_path: Path) -> None:
    ready, reloaded = tmp_path / "ready", tmp_path / "reloaded"
    script = f"trap ': > {reloaded}' HUP; : > {ready}; while :; do sleep 0.1; done"
    start = task(pid_file, command=["sh", "-c", script], ready_file=str(ready))

    predicted = run_play([start], "--check", "--diff", hosts="c1.lab")
    assert predicted.only().result["actions"] == ["start"]
    assert "+running" in predicted.output
    assert not ready.exists()

    started = run_play([start], "--diff", hosts="c1.lab")
    pid = started.only().result["pid"]
    assert started.only().result["diff"] == predicted.only().result["diff"]
    assert running_process(pid_file).pid == pid
    assert os.getsid(pid) == pid

    wait = {"ansible.builtin.wait_for": {"path": str(reloaded), "timeout": 20, "sleep": 1}}
    again = run_play(
        [start, task(pid_file, state="reloaded"), wait, task(pid_file, state="stopped"), task(pid_file, state="stopped")], hosts="c1.lab"
    )
    assert again.exit_code == 0, again.output
    results = [result.result for result in again.tasks]
    assert [result["changed"] for result in results] == [False, True, False, True, False]
    assert [result.get("actions") for result in results] == [[], ["reload"], None, ["stop"], []]
    assert [result.get("pid") for result in results] == [pid, pid, None, None, None]
    assert running_process(pid_file) is None


def test_a_process_that_dies_at_once_and_one_that_must_be_killed(run_play: Any, pid_file: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    stubborn = f"trap '' TERM; : > {ready}; while :; do sleep 0.1; done"
    done = run_play(
        [
            {**task(pid_file, command=["sh", "-c", "echo port 9500 is in use >&2; exit 1"], settle=20), "ignore_errors": True},
            {**task(pid_file, command=["{{ nothing_there }}"]), "vars": {"nothing_there": f"{tmp_path}/no-such-program"}, "ignore_errors": True},
            task(pid_file, command=["sh", "-c", stubborn], ready_file=str(ready)),
            task(pid_file, state="stopped", timeout=0.1),
        ],
        hosts="c1.lab",
    )
    died, missing, started, killed = (result.result for result in done.tasks)
    assert died["msg"] == f"process service ended at once with exit code 1; its last lines in {tmp_path}/service.log: port 9500 is in use"
    assert missing["msg"] == f"process service: the program {tmp_path}/no-such-program does not exist"
    assert killed["actions"] == ["stop"]
    assert f"(pid {started['pid']}) did not end 0.1 seconds after SIGTERM and was killed" in " ".join(done.output.split())
