# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Three hosts on loopback addresses with real receivers and services, whose receivers are killed and whose links are cut while they work."""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ledger import SHOWN, Findings, compare
from receiver_process import Receiver, free_port, short_directory, wait_until
from relay import Link, Network
from service import TOPIC, Consumer, Sender
from worker_process import Worker

NAMES = ("h1", "h2", "h3")
HEARTBEAT = 0.5
CALLERS = 4
"""Threads of a sending process that call, one call after the other."""
SETTLE_SECONDS = 120.0
LOG_LINES = 15


@dataclass
class Memory:
    """Resident memory in MiB of each process that was looked at, in the order of the looks."""

    looks: dict[str, list[float]] = field(default_factory=dict)

    def look(self, name: str, pid: int) -> None:
        """Look once; a process that is not there is passed over."""
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
            self.looks.setdefault(name, []).append(int(lines[1].split()[1]) / 1024)

    def growth(self) -> dict[str, tuple[float, float, float]]:
        """Return of each process that was looked at often enough its memory in the second and in the last quarter of the time, and its peak."""
        found = {}
        for name, sizes in self.looks.items():
            quarter = len(sizes) // 4
            if quarter:
                found[name] = (statistics.median(sizes[quarter : 2 * quarter]), statistics.median(sizes[-quarter:]), max(sizes))
        return found


class HostsUnderFire:
    """The hosts, the network between them and the services on them."""

    def __init__(self, directory: Path, running: contextlib.ExitStack, seed: int) -> None:
        """Start everything; it ends with `running`."""
        self.directory = directory
        self.chance = random.Random(seed)
        self.memory = Memory()
        self._running = running
        self._numbers = itertools.count(1)
        real = {name: f"127.0.1.{number}" for number, name in enumerate(NAMES, 1)}
        seen = {(one, other): f"127.0.{10 + NAMES.index(one)}.{1 + NAMES.index(other)}" for one in NAMES for other in NAMES if one != other}
        self.links: list[Link] = list(seen)
        port = free_port([*real.values(), *seen.values()])
        self.network = running.enter_context(Worker(Network, {link: (address, real[link[1]]) for link, address in seen.items()}, port))
        self.receivers: dict[str, Receiver] = {}
        for name in NAMES:
            known = ",".join(f"{other}:{real[other] if other == name else seen[(name, other)]}" for other in NAMES)
            receiver = Receiver(
                directory,
                name,
                real[name],
                port,
                {TOPIC: NAMES},
                rpc_zmq_host_addresses=known,
                rpc_zmq_heartbeat_interval=HEARTBEAT,
                rpc_thread_pool_size=1,
            )
            self.receivers[name] = running.enter_context(receiver)
        self.ran = {name: directory / f"{name}.ran" for name in NAMES}
        self.services = {f"service of {name}": running.enter_context(Worker(Consumer, self._config(name), name, self.ran[name])) for name in NAMES}

    def _config(self, name: str) -> str:
        return str(self.receivers[name].config_file)

    def sender(self, host: str) -> tuple[Worker, Path]:
        """Start a process that sends from `host`; return it and its ledger."""
        number = next(self._numbers)
        path = self.directory / f"{number}.sent"
        worker = self._running.enter_context(Worker(Sender, self._config(host), f"{host}-{number}", path))
        self.services[f"sender {number} of {host}"] = worker
        return worker, path

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Look at the memory of all processes twice a second."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.5):
                for name, service in self.services.items():
                    self.memory.look(name, service.pid)
                for name, receiver in self.receivers.items():
                    self.memory.look(f"receiver of {name}", receiver.pid)

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            yield
        finally:
            over.set()
            watching.join()

    def kill(self) -> None:
        """Kill a receiver, and start it again soon."""
        receiver = self.receivers[self.chance.choice(NAMES)]
        receiver.kill()
        time.sleep(self.chance.uniform(0.0, 1.0))
        receiver.start()

    def cut(self) -> None:
        """Cut a link, or let it fall silent, in one direction or both, and mend it soon."""
        one, other = self.chance.choice(self.links)
        how = self.chance.choice(["cut", "silence"])
        links = [(one, other), (other, one)][: self.chance.choice([1, 2])]
        for link in links:
            self.network.ask(how, link)
        time.sleep(self.chance.uniform(0.1, 3.0))
        for link in links:
            self.network.ask("mend", link)

    def compared(self, senders: list[tuple[Worker, Path]], *, senders_may_be_told: bool = False) -> Findings:
        """Wait until all is sent and has come to its end, and compare. A cast that was handed over may run a little later."""
        paths = [path for _sender, path in senders]
        end = time.monotonic() + SETTLE_SECONDS
        for sender, _path in senders:
            wait_until(lambda sender=sender: not sender.ask("busy"), "all is sent", SETTLE_SECONDS)  # type: ignore[misc]
            left = sender.ask("settle", max(1.0, end - time.monotonic()))
            assert not left, f"{left} messages have not come to their end within {SETTLE_SECONDS:g} s\n{self.logs()}"
        while True:
            findings = compare(paths, self.ran.values(), senders_may_be_told=senders_may_be_told)
            if not findings.lost or time.monotonic() > end:
                return findings
            time.sleep(0.2)

    def report(self, findings: Findings) -> str:
        """Return what is wrong, with the messages concerned and the ends of the receivers' logs; empty if nothing is."""
        faults = findings.faults()
        if not faults:
            return ""
        lines = [f"{name}: {len(messages)}, the first are: {'; '.join(messages[:SHOWN])}" for name, messages in faults.items()]
        return "\n".join([findings.summary(), *lines, self.logs()])

    def logs(self) -> str:
        """Return the ends of the receivers' logs."""
        return "\n".join(f"--- receiver of {name}\n" + "\n".join(receiver.log.splitlines()[-LOG_LINES:]) for name, receiver in self.receivers.items())


@contextlib.contextmanager
def hosts_under_fire(seed: int) -> Iterator[HostsUnderFire]:
    """Start the hosts, and stop them at the end."""
    with short_directory() as directory, contextlib.ExitStack() as running:
        yield HostsUnderFire(directory, running, seed)


def storm(hosts: HostsUnderFire, casts: int, calls: int, kills: int, cuts: int, seconds: float, say: Callable[[str], None]) -> Findings:
    """Send `casts` and `calls` from all hosts to all hosts over `seconds`, and meanwhile kill receivers and cut links so many times.

    Both are multiples of 12, as there are 3 hosts with 4 calling threads each.
    """
    topics = [f"{TOPIC}.{name}" for name in NAMES] * 3 + [TOPIC]
    senders = [hosts.sender(name) for name in NAMES]
    faults = [hosts.kill] * kills + [hosts.cut] * cuts
    hosts.chance.shuffle(faults)
    with hosts.watched():
        for sender, _path in senders:
            sender.ask("start", topics, casts // len(NAMES), calls // len(NAMES) // CALLERS, CALLERS, seconds, 2 * SETTLE_SECONDS)
        began = time.monotonic()
        for number, fault in enumerate(faults):
            due = began + seconds * (number + 0.5) / len(faults)
            time.sleep(max(0.0, due - time.monotonic()))
            fault()
            say(f"{number + 1} of {len(faults)} faults after {time.monotonic() - began:.0f} s: {fault.__name__}")
        return hosts.compared(senders)


@dataclass(frozen=True)
class Outage:
    """What came of an outage: the comparison, and the seconds that the slowest answered call took."""

    findings: Findings
    slowest_call: float


def outage(hosts: HostsUnderFire, how: str, seconds: float, ttl: float, casts: int, calls: int) -> Outage:
    """Let the receiver of h1 be away for `seconds` while h2 sends it `casts` and h3 `calls` (a multiple of 4), from before to after.

    Each may take `ttl` seconds. `how` is `frozen` (SIGSTOP, and then SIGCONT) or `stopped` (SIGTERM, and a new start).
    """
    target = hosts.receivers["h1"]
    sender, caller = hosts.sender("h2"), hosts.sender("h3")
    sending = seconds + 4.0
    sender[0].ask("start", [f"{TOPIC}.h1"], casts, 0, 0, sending, ttl)
    caller[0].ask("start", [f"{TOPIC}.h1"], 0, calls // CALLERS, CALLERS, sending, ttl)
    time.sleep(2.0)
    if how == "frozen":
        target.signal(signal.SIGSTOP)
    else:
        target.stop()
    time.sleep(seconds)
    if how == "frozen":
        target.signal(signal.SIGCONT)
    else:
        target.start()
    findings = hosts.compared([sender, caller], senders_may_be_told=seconds > ttl)
    return Outage(findings, caller[0].ask("slowest_call"))
