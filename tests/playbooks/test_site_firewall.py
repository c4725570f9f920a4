# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The role firewall in a network namespace of its own: who can connect to which port, seen from another namespace.

The namespaces are made by an unprivileged user namespace, so that no root is needed and the machine's own rules are out of reach.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from server_process import system_programs

RING_HOST, STRANGER, OWN = "10.95.0.2", "10.95.0.3", "10.95.0.1"
RING_HOST6, STRANGER6, OWN6 = "fd95::2", "fd95::3", "fd95::1"
PROBE = """
import socket, sys
source, target, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
try:
    socket.create_connection((target, port), timeout=10, source_address=(source, 0)).close()
except ConnectionRefusedError:
    print("refused")
else:
    print("open")
"""
LISTEN = """
import socket, sys
listeners = []
for port in map(int, sys.argv[1:]):
    listeners.append(socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True))
print("ready", flush=True)
sys.stdin.read()
"""


class Machine:
    """A machine with a firewall of its own, and a network that a host of the ring and a stranger are in."""

    def __init__(self, programs: Path, checkout: Path, place: Path, running: contextlib.ExitStack) -> None:
        self.checkout = checkout
        self.place = place
        self.path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._running = running
        self.pid = self._start(["unshare", "--user", "--map-root-user", "--net", "sh", "-c", "echo ready; exec cat"])
        self.network_pid = self._start([*self._inside(self.pid), "unshare", "--net", "sh", "-c", "echo ready; exec cat"])
        ours = [f"address add {OWN}/24 dev lan", f"address add {OWN6}/64 dev lan nodad", "link set lan up", "link set lo up"]
        self.run("ip", "link", "add", "lan", "type", "veth", "peer", "name", "far", "netns", str(self.network_pid))
        for command in ours:
            self.run("ip", *command.split())
        theirs = [f"address add {address}/24 dev far" for address in (RING_HOST, STRANGER)]
        theirs += [f"address add {address}/64 dev far nodad" for address in (RING_HOST6, STRANGER6)]
        for command in [*theirs, "link set far up"]:
            self.run("ip", *command.split(), pid=self.network_pid)

    @staticmethod
    def _inside(pid: int) -> list[str]:
        return ["nsenter", "--preserve-credentials", "--user", "--net", f"--target={pid}"]

    def _start(self, command: list[str]) -> int:
        """Start a process that says `ready` and lives as long as its input; return the pid."""
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PATH": self.path}, text=True)

        def stop() -> None:
            process.send_signal(signal.SIGKILL)
            process.communicate()

        self._running.callback(stop)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", (
            f"{shlex.join(command)}: this needs unprivileged user namespaces (sysctl user.max_user_namespaces)"
        )
        return process.pid

    def listen(self, *ports: int) -> None:
        """Listen on ports of all addresses of the machine."""
        self._start([*self._inside(self.pid), sys.executable, "-c", LISTEN, *map(str, ports)])

    def run(self, *command: str, pid: int | None = None, check: bool = True) -> str:
        """Run a command on the machine (or with the network of `pid`), and return its output."""
        done = subprocess.run(
            [*self._inside(self.pid if pid is None else pid), *command],
            cwd=self.checkout,
            env=os.environ | {"PATH": self.path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{shlex.join(command)}\n{done.stdout}"
        return done.stdout

    def reach(self, source: str, port: int) -> str:
        """Connect from an address of the network: `open` or `refused`."""
        target = OWN6 if ":" in source else OWN
        return self.run(sys.executable, "-c", PROBE, source, target, str(port), pid=self.network_pid).strip()

    def deploy(self, *arguments: str, **variables: Any) -> tuple[int, set[str], str]:
        """Apply the role on the machine; return the number of hosts that failed, the tasks that changed something, and the output."""
        play = [{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.include_role": {"name": "brokerless.openstack.firewall"}}]}]
        common = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "ansible_remote_tmp": str(self.place / "tmp"),
            "brokerless_address": [OWN, OWN6],
            "firewall_backend": "nftables",
            "firewall_boot": False,
            "firewall_boot_file": str(self.place / "nftables.conf"),
            "firewall_reserve_file": str(self.place / "reserved.conf"),
            "firewall_install_package": False,
            "firewall_file": str(self.place / "nftables.d" / "brokerless.nft"),
        }
        inventory = {
            "all": {"hosts": {"machine": common | variables}},
            "ring": {"hosts": {"o1p409": {"brokerless_address": [RING_HOST, RING_HOST6]}}},
        }
        (self.place / "play.yml").write_text(yaml.safe_dump(play), encoding="utf-8")
        (self.place / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
        output = self.run(
            "env",
            "ANSIBLE_NOCOLOR=1",
            "ansible-playbook",
            f"--inventory={self.place / 'hosts.yml'}",
            "--limit=machine",
            *arguments,
            str(self.place / "play.yml"),
            check=False,
        )
        task, changed = "", set()
        for line in output.splitlines():
            if line.startswith(("TASK [", "RUNNING HANDLER [")):
                task = line.partition("[")[2].rpartition("]")[0].rpartition(" : ")[2]
            elif line.startswith("changed: "):
                changed.add(task)
        return output.count("fatal: "), changed, output


@pytest.fixture(scope="module")
def programs() -> Path:
    """The folder with nft and ip."""
    return system_programs()


@pytest.fixture
def machine(programs: Path, checkout: Path, tmp_path: Path) -> Iterator[Machine]:
    """A machine that listens on ports in the range, at both of its ends, and outside of it."""
    with contextlib.ExitStack() as running:
        machine = Machine(programs, checkout, tmp_path, running)
        machine.listen(9499, 9500, 9550, 9551, 9600)
        yield machine


def test_the_range_is_open_to_the_ring_and_to_nobody_else(machine: Machine) -> None:
    assert machine.reach(STRANGER, 9500) == "open"
    forecast = machine.deploy("--check", "--diff")
    assert machine.reach(STRANGER, 9500) == "open"
    failed, changed, output = machine.deploy()
    assert failed == 0, output
    assert forecast[:2] == (0, changed)
    assert "Load the table" in changed
    seen = {(source, port): machine.reach(source, port) for source in (RING_HOST, RING_HOST6, STRANGER, STRANGER6) for port in (9500, 9550)}
    assert seen == {(source, port): "open" if source in (RING_HOST, RING_HOST6) else "refused" for source, port in seen}
    assert machine.reach(STRANGER, 9499) == machine.reach(STRANGER, 9551) == "open"
    assert "open" in machine.run(sys.executable, "-c", PROBE, OWN, OWN, "9500")
    assert machine.deploy()[:2] == (0, set())


def test_a_changed_range_closes_and_opens_at_once_and_a_host_that_left_is_shut_out(machine: Machine) -> None:
    assert machine.deploy()[0] == 0
    failed, changed, output = machine.deploy(brokerless_start_port=9600, brokerless_port_count=1)
    assert failed == 0, output
    assert changed == {"Write the table", "Load the table", "Keep outgoing connections off the range"}
    assert (machine.place / "reserved.conf").read_text(encoding="utf-8").splitlines()[-1].endswith(" = 9600")
    assert machine.reach(STRANGER, 9600) == "refused"
    assert machine.reach(RING_HOST, 9600) == "open"
    assert machine.reach(STRANGER, 9500) == "open", "the range that is no longer ours is no longer fenced"
    assert machine.deploy(firewall_addresses=[STRANGER])[0] == 0
    assert machine.reach(RING_HOST, 9500) == machine.reach(RING_HOST6, 9500) == "refused"
    assert machine.reach(STRANGER, 9500) == "open"


def test_other_peoples_rules_survive_and_a_flushed_table_is_loaded_again(machine: Machine) -> None:
    machine.run(
        "nft",
        "add table inet other; add chain inet other input { type filter hook input priority 5; }; add rule inet other input tcp dport 9551 drop",
    )
    theirs = machine.run("nft", "list", "table", "inet", "other")
    assert machine.deploy()[0] == 0
    assert machine.run("nft", "list", "table", "inet", "other") == theirs
    machine.run("nft", "delete", "table", "inet", "brokerless")
    forecast = machine.deploy("--check")
    failed, changed, output = machine.deploy()
    assert failed == 0, output
    assert changed == forecast[1] == {"Look whether the table is loaded", "Load the table"}
    assert machine.reach(STRANGER, 9500) == "refused"
