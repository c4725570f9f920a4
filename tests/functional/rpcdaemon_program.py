# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""How `rpcdaemon` is started by tests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import PIPE
from types import TracebackType
from typing import Self

from receiver_process import runtime_environment

RPCDAEMON = (sys.executable, "-c", "from brokerless.cmd.rpcdaemon import main; raise SystemExit(main())")


def environment() -> dict[str, str]:
    """Return the environment for it: the runtime of the tests, and no credentials of whoever runs them."""
    return {name: value for name, value in runtime_environment().items() if not name.startswith("OS_")}


_NURSERY = """
import os, signal, sys
from brokerless.cmd.rpcdaemon import main
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    config, log = line.rstrip("\\n").split("\\t")
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), descriptor)
        os._exit(main(["-c", config, "-d"]))
    print(pid, flush=True)
"""


class Nursery:
    """Starts daemons at once: each is forked from a process that has all imported; a context that kills them at its end."""

    def __init__(self, place: Path) -> None:
        """Configuration files and logs are kept in `place`. Nothing is started yet."""
        self.place = place
        self.pids: dict[str, int] = {}
        """The process of each daemon that runs, by name."""
        self._process = subprocess.Popen([sys.executable, "-c", _NURSERY], stdin=PIPE, stdout=PIPE, text=True, env=environment())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for name in list(self.pids):
            self.kill(name)
        self._process.kill()
        self._process.communicate()

    def start(self, name: str, daemon: Mapping[str, object], l3_agent: Mapping[str, object], policy: Mapping[str, object]) -> None:
        """Start a daemon with these keys of its sections; `instance`, `state_dir` and `audit_file` are its own."""
        own = {"plugins": "L3Agent", "instance": name, "state_dir": self.place / name, "audit_file": self.place / f"{name}.audit"}
        config = self.place / f"{name}.conf"
        sections = {"Daemon": {**own, **daemon}, "L3Agent": l3_agent, "Policy": policy}
        config.write_text(
            "".join(f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items()) for section, keys in sections.items()),
            encoding="utf-8",
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{config}\t{self.place / name}.log\n")
        self._process.stdin.flush()
        self.pids[name] = int(self._process.stdout.readline())

    def kill(self, name: str) -> None:
        """Kill a daemon (SIGKILL)."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pids.pop(name), signal.SIGKILL)

    def log(self, name: str) -> str:
        """Return what a daemon logged, over all its starts."""
        log = self.place / f"{name}.log"
        return log.read_text(encoding="utf-8") if log.exists() else ""
