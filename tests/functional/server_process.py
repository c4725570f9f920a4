# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Programs of the distribution for tests, and servers among them that run in a temporary directory, on loopback only, until they are stopped."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from receiver_process import PATIENCE, wait_until

ADDRESS = "127.0.0.1"
"""Where these servers listen."""

_CHECKOUT = Path(__file__).resolve().parents[2]


@functools.cache
def system_programs(package_set: str = "system") -> Path:
    """Return the folder with a set of programs of `tools/system_packages.sh`, which downloads them the first time. Fails with what that says."""
    done = subprocess.run(["sh", str(_CHECKOUT / "tools" / "system_packages.sh"), package_set], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def answers(port: int, request: bytes, beginning: bytes) -> bool:
    """Tell whether whoever listens on the port answers `request` with bytes that start with `beginning`."""
    with contextlib.suppress(OSError), socket.create_connection((ADDRESS, port), timeout=1.0) as connection:
        connection.sendall(request)
        return connection.recv(4096).startswith(beginning)
    return False


class ServerProcess:
    """Processes in a temporary directory, with a log, that together are one server; a context that starts and stops it.

    A subclass says how it starts, and may start and stop any number of times; what it keeps on disk lasts as long as the context.
    """

    def __init__(self, name: str, place: Path | None = None) -> None:
        """`name` is for messages; the directory is made in `place`, or where temporary files go. Nothing is started yet."""
        self.name = name
        self.directory = Path(tempfile.mkdtemp(prefix="bl-", dir=place))
        self.log_file = self.directory / "server.log"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the server, and return when it serves. Fails with its log if it ends instead."""
        raise NotImplementedError

    def run(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start one process of the server; it does not outlive the thread that started it."""
        command = ["setpriv", "--pdeathsig", "KILL", *command]
        with self.log_file.open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, env=os.environ | dict(environment or {})
                )
            )

    def wait_until_ready(self, ready: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Return when `ready()` holds; fail with the log if it does not within `patience` seconds, or if the server ends."""

        def holds() -> bool:
            if not self.running:
                raise AssertionError(f"{self.name} ended: {self.log}")
            return ready()

        try:
            wait_until(holds, f"{self.name} is ready", patience)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None

    @property
    def running(self) -> bool:
        """Whether all its processes are there."""
        return bool(self._processes) and all(process.poll() is None for process in self._processes)

    @property
    def pid(self) -> int:
        """The process id of the server itself, which is started last."""
        return self._processes[-1].pid

    @property
    def log(self) -> str:
        """All that was logged, over all its starts."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def stop(self) -> None:
        """Ask the server to end (SIGTERM), and wait for it."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the server (SIGKILL), as a machine's failure would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        while self._processes:
            process = self._processes[-1]
            process.send_signal(number)
            process.wait(PATIENCE)
            self._processes.pop()

    def __enter__(self) -> Self:
        """Start it; a server that does not start leaves nothing behind."""
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop it and remove its directory."""
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            shutil.rmtree(self.directory)
