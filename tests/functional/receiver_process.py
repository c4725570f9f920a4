# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Real receivers for tests: each is a host of its own, on a loopback address of its own, with its own directory and process.

with hosts(tmp_path, ["control1", "compute1"], ring={"compute": ["compute1"]}) as (control1, compute1):
    impl_zmq.call(control1.conf, ...)
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from signal import Signals
from typing import Any, TypeVar

import brokerless
from brokerless.rpc.driver.connection import close_connections
from brokerless.rpc.options import load_options

RUNTIME = Path(brokerless.__file__).resolve().parents[1]
"""Where the tests import the runtime from, so that the programs they start are of the same."""

PATIENCE = 30.0
"""Seconds after which a test that waits for something gives up; what works takes a small part of it."""

UNUSED_PORTS = range(20_000, 32_000)
"""Ports below those that the kernel gives to outgoing connections, so that none is taken between the look at it and its use."""


def wait_until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Return when `condition()` holds; fail with `what`, and what the condition said last, if it does not in time."""
    deadline = time.monotonic() + patience
    while not (last := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience:g} s: {what} (last: {last!r})")
        time.sleep(0.01)


def free_port(addresses: Sequence[str]) -> int:
    """Return a TCP port on which nothing listens on any of the addresses."""
    for port in random.sample(UNUSED_PORTS, 200):
        with contextlib.ExitStack() as bound:
            try:
                for address in addresses:
                    family = socket.AF_INET6 if ":" in address else socket.AF_INET
                    bound.enter_context(socket.socket(family)).bind((address, port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no free port on {addresses}")


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """Make a directory whose path is short enough for a UNIX socket in it, and remove it at the end."""
    directory = Path(tempfile.mkdtemp(prefix="bl-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


class Receiver:
    """A host with its configuration file, and its receiver when `start` was called."""

    def __init__(
        self,
        directory: Path,
        host: str = "control1",
        address: str = "127.0.0.1",
        port: int | None = None,
        ring: Mapping[str, Sequence[str]] | None = None,
        redis: Mapping[str, object] | None = None,
        **options: object,
    ) -> None:
        """Make the host's files in `directory`/`host`. With `ring` its MatchMaker is fanout-ring, otherwise localhost, unless `options` say more.

        `redis` are the options in group [matchmaker_redis].
        """
        self.host = host
        self.address = address
        self.port = free_port([address]) if port is None else port
        self.directory = directory / host
        self.ipc_directory = self.directory / "ipc"
        self.ipc_directory.mkdir(parents=True)
        self.ring_file = self.directory / "ring.json"
        self.config_file = self.directory / "brokerless.conf"
        self.log_file = self.directory / "receiver.log"
        self.packages: Sequence[Path] = ()
        """Folders of further packages that the receiver can import."""
        self.process: subprocess.Popen[bytes] | None = None
        if ring is not None:
            self.write_ring(ring)
        values: dict[str, object] = {
            "rpc_zmq_host": host,
            "rpc_zmq_bind_address": address,
            "rpc_zmq_start_port": self.port,
            "rpc_zmq_ipc_dir": self.ipc_directory,
            "rpc_zmq_matchmaker": "localhost" if ring is None else "fanout-ring",
            "rpc_zmq_matchmaker_ringfile": self.ring_file,
            "rpc_zmq_heartbeat_interval": 0.2,
        }
        lines = [f"{name} = {value}" for name, value in (values | options).items()]
        lines += ["[matchmaker_redis]", *(f"{name} = {value}" for name, value in (redis or {}).items())]
        self.config_file.write_text("\n".join(["[DEFAULT]", *lines, ""]), encoding="utf-8")

    @property
    def conf(self) -> Any:
        """The options of this host, for the runtime's functions; the same object each time."""
        if not hasattr(self, "_conf"):
            self._conf = load_options([str(self.config_file)])
        return self._conf

    def write_ring(self, ring: Mapping[str, Sequence[str]]) -> None:
        """Replace the ring file, as a whole."""
        new = self.ring_file.with_suffix(".new")
        new.write_text(json.dumps(ring), encoding="utf-8")
        new.replace(self.ring_file)

    def start(self, *arguments: str) -> None:
        """Start the receiver, and return when it says that it is ready. Fails with its log if it ends instead."""
        if self.running:
            raise AssertionError(f"the receiver of {self.host} runs already")
        notify_path = self.directory / "n"
        notify_path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, self.log_file.open("ab") as log:
            notify.bind(str(notify_path))
            notify.setblocking(False)
            command = [
                sys.executable,
                "-c",
                "from brokerless.cmd.receiver import main; raise SystemExit(main())",
                "--config-file",
                str(self.config_file),
            ]
            self.process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=runtime_environment(*self.packages) | {"NOTIFY_SOCKET": str(notify_path)},
            )
            wait_until(lambda: self._told_ready(notify), f"receiver of {self.host} is ready")

    def _told_ready(self, notify: socket.socket) -> bool:
        if not self.running:
            raise AssertionError(f"the receiver of {self.host} ended: {self.log}")
        with contextlib.suppress(BlockingIOError):
            return b"READY=1" in notify.recv(4096)
        return False

    @property
    def running(self) -> bool:
        """Whether the receiver's process is there."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """The receiver's process id."""
        if self.process is None:
            raise AssertionError(f"the receiver of {self.host} was not started")
        return self.process.pid

    @property
    def log(self) -> str:
        """All that the receiver logged, over all its starts."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def signal(self, number: Signals) -> None:
        """Send a signal to the receiver."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def stop(self) -> int | None:
        """Ask the receiver to end (SIGTERM), wait for it, and return its exit code; None if it was never started."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int | None:
        """Kill the receiver (SIGKILL), as a machine's failure would."""
        return self._end(signal.SIGKILL)

    def _end(self, number: Signals) -> int | None:
        if self.process is None:
            return None
        self.signal(number)
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Receiver:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.kill()
            raise


SomeReceiver = TypeVar("SomeReceiver", bound=Receiver)


def runtime_environment(*packages: Path) -> dict[str, str]:
    """Return the environment for a process that imports the same runtime as the tests, and what lies in the folders `packages`."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [RUNTIME, *packages])), "PYTHONUNBUFFERED": "1"}


def mesh_of(
    kind: type[SomeReceiver],
    directory: Path,
    names: Sequence[str],
    ring: Mapping[str, Sequence[str]] | None = None,
    network: str = "127.0.1",
    **options: Any,
) -> list[SomeReceiver]:
    """Make hosts, on loopback addresses `network`.1 and up, that know each other's addresses; nothing is started yet."""
    addresses = {name: f"{network}.{number}" for number, name in enumerate(names, start=1)}
    port = free_port(list(addresses.values()))
    known = ",".join(f"{name}:{address}" for name, address in addresses.items())
    return [kind(directory, name, address, port, ring, rpc_zmq_host_addresses=known, **options) for name, address in addresses.items()]


@contextlib.contextmanager
def running(receivers: Sequence[Receiver]) -> Iterator[None]:
    """Start the receivers, and stop them at the end."""
    with contextlib.ExitStack() as started:
        for receiver in receivers:
            started.enter_context(receiver)
        # The links of the test's own process end first, while there is someone to say goodbye to.
        started.callback(close_connections)
        yield


@contextlib.contextmanager
def hosts(names: Sequence[str], ring: Mapping[str, Sequence[str]] | None = None, **options: Any) -> Iterator[list[Receiver]]:
    """Start one receiver for each name, as `mesh_of` makes them; stop them at the end."""
    with short_directory() as directory:
        receivers = mesh_of(Receiver, directory, names, ring, **options)
        with running(receivers):
            yield receivers


def run_program(program: str, *arguments: str | Path, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
    """Run one of the runtime's programs (`brokerless`, `receiver`) to its end, and return its exit code and output."""
    command = [sys.executable, "-c", f"from brokerless.cmd.{program} import main; raise SystemExit(main())", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=runtime_environment(), check=False)


def run_python(script: str, *arguments: str | Path, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, with the same runtime, to its end, and return its exit code and output."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=runtime_environment(), check=False)
