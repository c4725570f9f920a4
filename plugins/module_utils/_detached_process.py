# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Long-running processes that no init system looks after: start one detached, find it again, end it.

A process is known by its pid together with its start time and the boot it belongs to, which the pid file holds. A pid alone may by now
belong to a stranger, who must never get a signal. Linux only: it reads /proc and signals through pidfds.

This module util is private to the collection.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_POLL_SECONDS = 0.05
_LARGEST_PID_FILE = 4096
_LARGEST_LOG_TAIL = 64 << 10


class ProcessFault(Exception):
    """A process can't be started, found or ended as asked; the message says which and why, in one line."""


@dataclass(frozen=True)
class Identity:
    """Which process it is. `started` is in clock ticks since the boot `boot`; `recipe` is the digest of how it was started."""

    pid: int
    started: int
    boot: str
    recipe: str

    def to_text(self) -> str:
        """Return the content of the pid file: the pid on a line of its own, as everybody expects it, and the rest on the next."""
        return f"{self.pid}\nstarted={self.started} boot={self.boot} recipe={self.recipe}\n"

    @classmethod
    def from_text(cls, text: str) -> Identity | None:
        """Read the content of a pid file. Returns None if it is not one that `to_text` wrote."""
        lines = text.splitlines()
        try:
            facts = dict(part.split("=", 1) for part in lines[1].split())
            pid = int(lines[0])
            return cls(pid, int(facts["started"]), facts["boot"], facts["recipe"]) if pid > 1 else None
        except (IndexError, ValueError, KeyError):
            return None


@dataclass(frozen=True)
class Recipe:
    """How to start a process. `environment` is added to the one of whoever starts it."""

    command: tuple[str, ...]
    chdir: str
    environment: Mapping[str, str]
    log_file: str

    def digest(self) -> str:
        """Return a short text that is different for different recipes, and that gives away nothing of the environment."""
        text = json.dumps([list(self.command), self.chdir, dict(self.environment), self.log_file], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def program(self) -> str:
        """Return the path of the program. Raises `ProcessFault` if it is not there or can't be run."""
        name = self.command[0]
        if "/" in name:
            path = Path(self.chdir, name)
            if not path.exists():
                raise ProcessFault(f"the program {path} does not exist")
            if path.is_dir() or not os.access(path, os.X_OK):
                raise ProcessFault(f"{path} is no program that may be run")
            return str(path)
        found = shutil.which(name, path=self.environment.get("PATH", os.environ.get("PATH", os.defpath)))
        if not found:
            raise ProcessFault(f"the program {name!r} is not on PATH")
        return str(Path(self.chdir, found))


@dataclass(frozen=True)
class Readiness:
    """What shows that a process does its work: a UNIX socket that accepts connections, a file that has been written since `since`."""

    socket_path: str | None = None
    file_path: str | None = None
    old_file: tuple[int, int] | None = None

    def missing(self) -> str:
        """Return what is not there yet, or nothing."""
        if self.socket_path and not accepts(self.socket_path):
            return f"the socket {self.socket_path} accepts no connections"
        if self.file_path and _version_of(self.file_path) in (None, self.old_file):
            return f"the file {self.file_path} has not been written"
        return ""


def accepts(path: str) -> bool:
    """Whether somebody listens on the UNIX socket at `path`."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(path)
        except (OSError, ValueError):
            return False
    return True


def before_start(socket_path: str | None, file_path: str | None) -> Readiness:
    """Return what to wait for when a process is started now: a file that is there already was left by an earlier one and does not count."""
    return Readiness(socket_path, file_path, _version_of(file_path) if file_path else None)


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Keep others from starting or ending a process whose pid file is in `directory` meanwhile. Raises `ProcessFault` if it does not exist."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ProcessFault(f"the directory {directory} of the pid file can't be opened: {error.strerror}; make it first") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def running_process(pid_file: Path) -> Identity | None:
    """Return the process that `pid_file` names if that very process still runs, else None. Raises `ProcessFault` if the file can't be read."""
    try:
        with pid_file.open(encoding="utf-8", errors="replace") as file:
            identity = Identity.from_text(file.read(_LARGEST_PID_FILE))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProcessFault(f"pid file {pid_file} can't be read: {error.strerror}") from error
    return identity if identity and _is_alive(identity) else None


def _hear_all_signals() -> None:
    """Undo what `nohup` and the like ignore: what a process ignores, its children do, and a shell cannot even ask for it back."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def start(recipe: Recipe, pid_file: Path) -> tuple[subprocess.Popen[bytes], Identity]:
    """Start a process in a session of its own, with its output appended to the log, and write its pid file. Raises `ProcessFault`."""
    program = recipe.program()
    if not Path(recipe.chdir).is_dir():
        raise ProcessFault(f"the directory {recipe.chdir} to start it in does not exist")
    try:
        with Path(recipe.log_file).open("ab") as log:
            process = subprocess.Popen(
                list(recipe.command),
                executable=program,
                cwd=recipe.chdir,
                env={**os.environ, **recipe.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_hear_all_signals,  # noqa: PLW1509 - a module has one thread
            )
    except OSError as error:
        subject = f"log file {recipe.log_file}" if error.filename == recipe.log_file else program
        raise ProcessFault(f"{subject}: {error.strerror}") from error
    try:
        identity = Identity(process.pid, _start_time_of(process.pid) or 0, _boot(), recipe.digest())
        _write(pid_file, identity.to_text())
    except OSError as error:
        process.kill()
        process.wait()
        raise ProcessFault(f"pid file {pid_file} can't be written: {error.strerror}; the process was ended again") from error
    return process, identity


def wait_until_ready(readiness: Readiness, is_alive: Callable[[], bool], timeout: float) -> str:
    """Wait until nothing is missing, the process has ended, or `timeout` seconds are over. Returns what is missing, or nothing."""
    deadline = time.monotonic() + timeout
    while True:
        missing = readiness.missing()
        if not missing or not is_alive() or time.monotonic() >= deadline:
            return missing
        time.sleep(_POLL_SECONDS)


def stays_alive(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Watch a process that was just started for `seconds`. Returns whether it still runs then."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def exit_of(process: subprocess.Popen[bytes]) -> str:
    """Return how a process ended."""
    code = process.returncode
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def end(identity: Identity, timeout: float, force: bool) -> bool:
    """End a process: SIGTERM, and if it still runs after `timeout` seconds, with `force`, SIGKILL to it and its process group.

    Returns whether force was needed. Raises `ProcessFault` if it may not be signalled, or still runs.
    """
    descriptor = _open(identity)
    if descriptor is None:
        return False
    try:
        _signal(descriptor, identity, signal.SIGTERM)
        if _ended(descriptor, timeout):
            return False
        if not force:
            raise ProcessFault(f"process {identity.pid} still runs {timeout:g} seconds after SIGTERM")
        # The descriptor keeps the pid from being another's as long as the process is not ended, so its group is its own too.
        if _is_alive(identity) and os.getpgid(identity.pid) == identity.pid:
            os.killpg(identity.pid, signal.SIGKILL)
        else:
            _signal(descriptor, identity, signal.SIGKILL)
        if not _ended(descriptor, max(timeout, 5.0)):
            raise ProcessFault(f"process {identity.pid} still runs after SIGKILL; it hangs in the kernel")
        return True
    finally:
        os.close(descriptor)


def send(identity: Identity, number: signal.Signals) -> None:
    """Send a signal to a process, if it still is that process. Raises `ProcessFault` if that is not allowed."""
    descriptor = _open(identity)
    if descriptor is None:
        raise ProcessFault(f"process {identity.pid} has ended")
    try:
        _signal(descriptor, identity, number)
    finally:
        os.close(descriptor)


def log_tail(log_file: str, offset: int, lines: int) -> list[str]:
    """Return the last `lines` lines that were written to a log after `offset` bytes of it."""
    try:
        with Path(log_file).open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(offset if offset <= size else 0, size - _LARGEST_LOG_TAIL))
            text = log.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]


def size_of(path: str) -> int:
    """Return the size of a file in bytes, 0 if there is none."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _is_alive(identity: Identity) -> bool:
    return identity.boot == _boot() and _start_time_of(identity.pid) == identity.started


def _start_time_of(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot; None if it has ended, whether or not somebody has taken note of that."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name of the program, in parentheses, may itself hold spaces and parentheses.
    state, *fields = text[text.rindex(")") + 1 :].split()
    return None if state in "ZXx" else int(fields[18])


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _open(identity: Identity) -> int | None:
    """Return a descriptor that stays with the process whatever becomes of its pid, or None if it has ended."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        raise ProcessFault(f"process {identity.pid} can't be signalled: {error.strerror}") from error
    if _is_alive(identity):
        return descriptor
    os.close(descriptor)
    return None


def _signal(descriptor: int, identity: Identity, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return
    except OSError as error:
        raise ProcessFault(f"process {identity.pid} can't be sent {number.name}: {error.strerror}") from error


def _ended(descriptor: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _version_of(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return None if stat.S_ISDIR(status.st_mode) else (status.st_ino, status.st_mtime_ns)


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.chmod(0o644)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
