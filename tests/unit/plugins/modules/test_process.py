# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The module with real processes; each is ended at the end of its test."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brokerless.openstack.plugins.module_utils._detached_process import running_process
from ansible_collections.brokerless.openstack.plugins.modules.process import described, main, plan

SLEEP = ["sleep", "600"]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Service:
    """Runs the module on one process of its own."""

    def __init__(self, run_module: Any, folder: Path) -> None:
        self.run_module = run_module
        self.folder = folder
        self.pid_file = folder / "service.pid"
        self.log_file = folder / "service.log"

    def __call__(self, check: bool = False, **arguments: Any) -> dict[str, Any]:
        result: dict[str, Any] = self.run_module(
            main, check=check, **{"name": "service", "pid_file": str(self.pid_file), "settle": 0.05, **arguments}
        )
        return result

    def pid(self) -> int | None:
        identity = running_process(self.pid_file)
        return identity.pid if identity else None


@pytest.fixture
def service(run_module: Any, tmp_path: Path) -> Iterator[Service]:
    """The module, at work on one process, which is killed at the end."""
    service = Service(run_module, tmp_path)
    yield service
    identity = running_process(service.pid_file)
    if identity:
        os.kill(identity.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("state", "runs", "outdated", "stale", "actions"),
    [
        ("started", False, False, False, ["start"]),
        ("started", False, False, True, ["start"]),
        ("started", True, False, False, []),
        ("started", True, True, False, ["stop", "start"]),
        ("restarted", False, False, False, ["start"]),
        ("restarted", True, False, False, ["stop", "start"]),
        ("reloaded", False, False, False, ["start"]),
        ("reloaded", True, False, False, ["reload"]),
        ("reloaded", True, True, False, ["stop", "start"]),
        ("stopped", True, False, True, ["stop"]),
        ("stopped", True, True, True, ["stop"]),
        ("stopped", False, False, True, ["forget"]),
        ("stopped", False, False, False, []),
    ],
)
def test_what_leads_to_a_state(state: str, runs: bool, outdated: bool, stale: bool, actions: list[str]) -> None:
    assert plan(state, runs, outdated, stale) == actions


@pytest.mark.parametrize(
    ("runs", "actions", "said"),
    [
        (False, [], "stopped"),
        (True, [], "running"),
        (False, ["start"], "running"),
        (True, ["stop"], "stopped"),
        (True, ["stop", "start"], "running (restarted)"),
        (True, ["reload"], "running (reloaded)"),
        (False, ["forget"], "stopped"),
    ],
)
def test_how_it_is_described(runs: bool, actions: list[str], said: str) -> None:
    assert described(runs, actions) == said


def test_starting_and_starting_again(service: Service) -> None:
    first = service(command=SLEEP)
    assert (first["changed"], first["actions"], first["pid"]) == (True, ["start"], service.pid())
    assert (first["pid_file"], first["log_file"]) == (str(service.pid_file), str(service.log_file))
    assert (first["diff"]["before"], first["diff"]["after"]) == ("stopped\n", "running\n")
    second = service(command=SLEEP)
    assert (second["changed"], second["actions"], second["pid"]) == (False, [], first["pid"])
    assert names_in(service.folder) == ["service.log", "service.pid"]
    assert stat.S_IMODE(service.pid_file.stat().st_mode) == 0o644


@pytest.mark.parametrize("state", ["started", "restarted", "reloaded"])
def test_check_mode_predicts_a_start_before_anything_exists(service: Service, state: str) -> None:
    folder = service.folder / "none"
    arguments = {"command": [f"{folder}/program"], "pid_file": f"{folder}/x.pid", "chdir": str(folder), "ready_socket": f"{folder}/s"}
    result = service(check=True, state=state, **arguments)
    assert (result["changed"], result["actions"]) == (True, ["start"])
    assert not folder.exists()


@pytest.mark.parametrize(("state", "actions"), [("started", []), ("restarted", ["stop", "start"]), ("reloaded", ["reload"]), ("stopped", ["stop"])])
def test_check_mode_leaves_a_running_process_alone(service: Service, state: str, actions: list[str]) -> None:
    pid = service(command=SLEEP)["pid"]
    result = service(check=True, command=SLEEP, state=state)
    assert (result["changed"], result["actions"]) == (bool(actions), actions)
    assert service.pid() == pid


def test_stopping_and_stopping_again(service: Service) -> None:
    pid = service(command=SLEEP)["pid"]
    first = service(state="stopped")
    assert (first["changed"], first["actions"]) == (True, ["stop"])
    assert "pid" not in first
    assert not service.pid_file.exists()
    assert Path(f"/proc/{pid}/stat").read_text(encoding="ascii").split()[2] == "Z"
    second = service(state="stopped")
    assert (second["changed"], second["actions"]) == (False, [])


def test_restarting(service: Service) -> None:
    pid = service(command=SLEEP)["pid"]
    result = service(command=SLEEP, state="restarted")
    assert (result["changed"], result["actions"]) == (True, ["stop", "start"])
    assert result["pid"] == service.pid() != pid
    assert (result["diff"]["before"], result["diff"]["after"]) == ("running\n", "running (restarted)\n")


@pytest.mark.parametrize("change", [{"command": ["sleep", "601"]}, {"environment": {"A": "1"}}, {"chdir": "/usr"}, {"log_file": "/dev/null"}])
def test_a_process_that_was_started_otherwise_is_restarted(service: Service, change: dict[str, Any]) -> None:
    pid = service(command=SLEEP)["pid"]
    assert service(check=True, **{"command": SLEEP, **change})["actions"] == ["stop", "start"]
    result = service(**{"command": SLEEP, **change})
    assert (result["changed"], result["actions"]) == (True, ["stop", "start"])
    assert result["pid"] != pid
    assert service(**{"command": SLEEP, **change})["changed"] is False


def test_what_can_not_be_started_again_is_not_stopped(service: Service) -> None:
    pid = service(command=SLEEP)["pid"]
    result = service(command=["no-such-program"], state="restarted")
    assert result["msg"] == "process service: the program 'no-such-program' is not on PATH"
    assert service.pid() == pid


RELOADS = """
import pathlib, signal, sys
here = pathlib.Path(sys.argv[1])
def reload(number, frame):
    (here / "reloaded").touch()
signal.signal(signal.SIGHUP, reload)
(here / "ready").touch()
while True:
    signal.pause()
"""


def wait_for(path: Path) -> None:
    subprocess.run(["timeout", "20", "sh", "-c", 'until [ -e "$1" ]; do sleep 0.02; done', "sh", str(path)], check=True)


def test_reloading(service: Service) -> None:
    command = [sys.executable, "-c", RELOADS, str(service.folder)]
    pid = service(command=command, ready_file=str(service.folder / "ready"))["pid"]
    result = service(state="reloaded")
    assert (result["changed"], result["actions"], result["pid"]) == (True, ["reload"], pid)
    wait_for(service.folder / "reloaded")
    assert service.pid() == pid


def test_reloading_what_does_not_run(service: Service) -> None:
    assert service(state="reloaded")["msg"] == "process service: it does not run, and no command is given to start it"
    assert service(state="reloaded", command=SLEEP)["actions"] == ["start"]


@pytest.mark.parametrize("waits_for", ["ready_file", "ready_socket", "nothing"])
def test_a_process_that_dies_at_once_is_a_failure_with_its_last_words(service: Service, waits_for: str) -> None:
    service.log_file.write_text("of an earlier one\n", encoding="utf-8")
    ready = {} if waits_for == "nothing" else {waits_for: str(service.folder / "never")}
    result = service(command=["sh", "-c", "for i in 1 2 3 4 5 6; do echo line $i; done; exit 3"], settle=20, timeout=20, **ready)
    assert result["failed"] is True
    assert result["msg"] == (
        f"process service ended at once with exit code 3; its last lines in {service.log_file}: line 2 | line 3 | line 4 | line 5 | line 6"
    )
    assert result["log"] == [f"line {number}" for number in range(1, 7)]
    assert not service.pid_file.exists()


def test_a_process_that_dies_without_a_word(service: Service) -> None:
    result = service(command=["sh", "-c", "kill -KILL $$"], settle=20)
    assert result["msg"] == f"process service ended at once with signal SIGKILL; it wrote nothing to {service.log_file}"


def test_a_process_that_does_not_get_ready_is_stopped_again(service: Service) -> None:
    result = service(command=["sh", "-c", "echo waiting; exec sleep 600"], ready_file=f"{service.folder}/never", timeout=0.3)
    assert result["failed"] is True
    assert f"was not ready after 0.3 seconds and was stopped again: the file {service.folder}/never has not been written" in result["msg"]
    assert not service.pid_file.exists()
    assert service.pid() is None


LISTENS = """
import socket, sys
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1])
    listener.listen()
    while True:
        listener.accept()[0].close()
"""


def test_a_process_is_ready_once_its_socket_accepts(service: Service) -> None:
    path = service.folder / "s"
    command = [sys.executable, "-c", LISTENS, str(path)]
    assert service(command=command, ready_socket=str(path))["actions"] == ["start"]
    assert path.is_socket()
    assert service(command=command, ready_socket=str(path))["changed"] is False
    other = service(command=command, ready_socket=str(path), pid_file=str(service.folder / "other.pid"))
    assert other["msg"] == f"process service: another process listens on {path} already; stop that one first"
    assert not (service.folder / "other.pid").exists()


def test_a_running_process_that_is_not_ready_is_a_failure_and_goes_on(service: Service) -> None:
    pid = service(command=SLEEP)["pid"]
    result = service(command=SLEEP, ready_socket=f"{service.folder}/s", timeout=0)
    assert result["msg"] == (
        f"process service: it runs (pid {pid}) but is not ready: the socket {service.folder}/s accepts no connections; see {service.log_file}"
    )
    assert service.pid() == pid


STUBBORN = "trap '' TERM; : > {ready}; while :; do sleep 0.1; done"


def test_a_process_that_ignores_sigterm(service: Service) -> None:
    ready = service.folder / "ready"
    pid = service(command=["sh", "-c", STUBBORN.format(ready=ready)], ready_file=str(ready))["pid"]
    gentle = service(state="stopped", timeout=0.05, force=False)
    assert gentle["msg"] == f"process service: process {pid} still runs 0.05 seconds after SIGTERM"
    assert service.pid() == pid
    result = service(state="stopped", timeout=0.05)
    assert result["changed"] is True
    assert service.pid() is None


def test_a_stranger_who_got_the_pid_never_gets_a_signal(service: Service) -> None:
    with subprocess.Popen(SLEEP) as stranger:
        try:
            text = f"{stranger.pid}\nstarted=1 boot={Path('/proc/sys/kernel/random/boot_id').read_text(encoding='ascii').strip()} recipe=x\n"
            for state in ("stopped", "restarted", "started", "reloaded"):
                service.pid_file.write_text(text, encoding="utf-8")
                result = service(command=SLEEP, state=state)
                assert result["actions"] == (["forget"] if state == "stopped" else ["start"])
                assert stranger.poll() is None
                service(state="stopped")
        finally:
            stranger.kill()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "state is started but all of the following are missing: command"),
        ({"command": []}, "command is empty"),
        ({"command": [""]}, "command is empty"),
        ({"command": SLEEP, "pid_file": "x.pid"}, "pid_file 'x.pid' must be an absolute path"),
        ({"command": SLEEP, "log_file": "x.log"}, "log_file 'x.log' must be an absolute path"),
        ({"command": SLEEP, "timeout": -1}, "timeout can't be negative, but is -1"),
        ({"command": SLEEP, "pid_file": "/x/one", "log_file": "/x/one"}, "log_file and pid_file can't be one file, /x/one"),
        ({"command": SLEEP, "pid_file": "/nowhere/x.pid"}, "the directory /nowhere of the pid file can't be opened: No such file or directory"),
    ],
)
def test_bad_arguments(service: Service, arguments: dict[str, Any], said: str) -> None:
    result = service(**arguments)
    assert result["failed"] is True
    assert said in result["msg"]
    assert names_in(service.folder) == []
