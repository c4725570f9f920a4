# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The three hosts of `inventories/embedded`: where they keep their files, how they are deployed, and how what runs of them is stopped."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

CHECKOUT = Path(__file__).resolve().parent.parent
ADDRESSES = {"control1": "127.0.1.1", "compute1": "127.0.1.2", "compute2": "127.0.1.3"}
FIRST_START_PORT = 9500
PORT_COUNT = 51
STOP_PATIENCE = 15.0
"""Seconds that a process may take to end after SIGTERM."""
CALLER_PATIENCE = 30.0
"""Seconds beyond a call's own timeout after which its process has hung."""


RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


class DemoFailed(Exception):
    """The demonstration can't go on; the text says why, for whoever runs it."""


@dataclass(frozen=True)
class Process:
    """A process of an embedded host. `what` is `receiver`, or the name of the Python file that it runs."""

    pid: int
    host: str
    what: str

    @property
    def alive(self) -> bool:
        """Whether it is still there, and no zombie."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state not in {"Z", "X"}

    def send(self, number: signal.Signals) -> None:
        """Send a signal; a process that has ended since is no error."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


@dataclass(frozen=True)
class PlaybookRun:
    """What a run of ansible-playbook did: tasks that changed something, by host, and how long it took in seconds."""

    changed: dict[str, int]
    failed: dict[str, int]
    seconds: float
    log: Path
    exit_code: int

    @property
    def ok(self) -> bool:
        """Whether every host was reached and nothing failed."""
        return self.exit_code == 0 and set(self.changed) == set(ADDRESSES)

    @property
    def changes(self) -> int:
        """The number of changed tasks on all hosts."""
        return sum(self.changed.values())


@dataclass(frozen=True)
class Embedded:
    """The hosts below `directory`, whose receivers listen on `start_port`."""

    directory: Path
    start_port: int = field(default=FIRST_START_PORT)

    def config_file(self, host: str) -> Path:
        """The configuration file of a host's receiver and of all its services."""
        return self.directory / host / "etc" / "brokerless.conf"

    def ring_file(self, host: str) -> Path:
        """The ring file of a host."""
        return self.directory / host / "etc" / "matchmaker_ring.json"

    def program(self, host: str, name: str) -> Path:
        """A program of the runtime that was deployed to a host."""
        return self.directory / host / "runtime" / "current" / "bin" / name

    def status(self, host: str) -> dict[str, Any]:
        """Return what `brokerless status` says on a host. Raises `DemoFailed` if it says nothing."""
        command = [str(self.program(host, "brokerless")), "--config-file", str(self.config_file(host)), "--json", "status"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=CALLER_PATIENCE)
        if done.returncode:
            raise DemoFailed(f"the receiver of {host} does not say how it is: {done.stderr.strip()}")
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    def processes(self, host: str = "") -> list[Process]:
        """Return the processes of a host, or of all hosts: those that were started with a host's configuration file.

        The command lines are asked, and not the pid files, so that nothing is missed that a broken off run left behind.
        """
        owners = {str(self.config_file(name)): name for name in ADDRESSES if host in {"", name}}
        return [
            Process(pid, owners[argument], "receiver" if Path(arguments[1]).name == "brokerless-receiver" else Path(arguments[1]).name)
            for pid, arguments in _command_lines()
            for argument in arguments[2:]
            if argument in owners
        ]

    def stop(self) -> list[Process]:
        """Stop every process of the hosts, services first, and return those that ran. Raises `DemoFailed` if one does not end."""
        stopped = sorted(self.processes(), key=lambda process: process.what == "receiver")
        for kind in (False, True):
            self._end([process for process in stopped if (process.what == "receiver") is kind])
        return stopped

    def _end(self, processes: list[Process]) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in processes:
                process.send(number)
            deadline = time.monotonic() + STOP_PATIENCE
            while any(process.alive for process in processes) and time.monotonic() < deadline:
                time.sleep(0.02)
        left = [f"{process.what} of {process.host} (pid {process.pid})" for process in processes if process.alive]
        if left:
            raise DemoFailed(f"these processes do not end: {', '.join(left)}")

    def play(self, playbooks: list[str], log_name: str, on_task: Callable[[str], None] = lambda _name: None, *options: str) -> PlaybookRun:
        """Run playbooks on the hosts, tell `on_task` the name of each task as it begins, and keep the output in `directory`/`log_name`."""
        log = self.directory / log_name
        temporary = self.directory / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "--inventory", str(CHECKOUT / "inventories" / "embedded")]
        command += ["--extra-vars", json.dumps({"embedded_root": str(self.directory), "brokerless_start_port": self.start_port}), *options]
        started = time.monotonic()
        process = subprocess.Popen(
            [*command, *playbooks],
            cwd=CHECKOUT,
            env=ansible_environment(temporary),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        with log.open("wb") as output, contextlib.ExitStack() as on_error:
            on_error.callback(_wait_for, process)
            for line in process.stdout:
                output.write(line)
                output.flush()
                if task := re.match(rb"(?:TASK|RUNNING HANDLER) \[(?:[\w.]+ : )?(.*)\] \*", line):
                    on_task(task[1].decode(errors="replace"))
        return _read_run(log, time.monotonic() - started, process.returncode)


def ansible_environment(temporary: Path) -> dict[str, str]:
    """Return the environment for Ansible in this checkout, in which it and what it starts write nowhere else."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHONPATH", "PIP_", "RPC_"))}
    return kept | {
        "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "collections"),
        "ANSIBLE_HOME": str(CHECKOUT / ".ansible"),
        "ANSIBLE_LOCAL_TEMP": str(temporary),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "0",
        "TMPDIR": str(temporary),
        # an Ansible that was told to speak another language would not be understood here
        "LC_ALL": "C.UTF-8",
    }


def _wait_for(process: subprocess.Popen[bytes]) -> None:
    """Wait until it has ended; one that we stop listening to is interrupted, as Ctrl-C does, so that it can tidy up."""
    if process.poll() is None and sys.exc_info()[0] is not None:
        process.send_signal(signal.SIGINT)
    process.wait()


def _read_run(log: Path, seconds: float, exit_code: int) -> PlaybookRun:
    recap = RECAP.findall(log.read_text(encoding="utf-8", errors="replace"))
    # each playbook ends with a recap of all until then
    return PlaybookRun(
        changed={host: int(changed) for host, changed, _unreachable, _failed in recap},
        failed={host: int(unreachable) + int(failed) for host, _changed, unreachable, failed in recap},
        seconds=seconds,
        log=log,
        exit_code=exit_code,
    )


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    """Yield pid and arguments of each process of this user that has at least two arguments."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if entry.stat().st_uid != os.getuid():
                continue
            arguments = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        except OSError:
            continue
        if len(arguments) > 1:
            yield int(entry.name), [argument.decode(errors="surrogateescape") for argument in arguments]


def free_start_port() -> int:
    """Return a port from which a whole range is free on every host's address, 9500 if that one is. Raises `DemoFailed` if there is none."""
    for start in range(FIRST_START_PORT, 20_000, 100):
        if all(_free(address, port) for address in ADDRESSES.values() for port in range(start, start + PORT_COUNT)):
            return start
    raise DemoFailed(f"no {PORT_COUNT} free ports in a row, from {FIRST_START_PORT} on, on {', '.join(ADDRESSES.values())}")


def _free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        # as the receiver does: connections of an earlier one that linger in TIME_WAIT are in nobody's way
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


class Caller:
    """A process that acts on a host: what it calls goes through that host's own receiver (see `caller.py`)."""

    def __init__(self, embedded: Embedded, host: str) -> None:
        self.host = host
        self._process = subprocess.Popen(
            [str(embedded.program(host, "python")), str(CHECKOUT / "demo" / "caller.py"), "--config-file", str(embedded.config_file(host))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(embedded.directory / host / "log" / "caller.log").open("ab"),
            text=True,
        )

    def ask(self, topic: str, method: str, timeout: float = 10.0, kind: str = "call", **args: Any) -> dict[str, Any]:
        """Have the host call a method of the topic within `timeout` seconds, and return the answer of `caller.py`.

        Raises `DemoFailed` if the calling process is gone.
        """
        request = {"kind": kind, "topic": topic, "method": method, "args": args, "timeout": timeout}
        requests, answers = self._pipes()
        try:
            requests.write(json.dumps(request) + "\n")
            requests.flush()
            line = answers.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise DemoFailed(f"the calling process of {self.host} ended; its log is {self.host}/log/caller.log")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for pipe in self._pipes():
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            self._process.wait(CALLER_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
