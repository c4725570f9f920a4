# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The lab's side of simulated network nodes: what they are, and how a test kills, freezes, silences and asks them."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab_programs import neutron_environment
from receiver_process import PATIENCE, wait_until

L3_AGENT = "L3 agent"
DHCP_AGENT = "DHCP agent"
OVS_AGENT = "Open vSwitch agent"
"""Neutron's names of the kinds of agents."""


@dataclass(frozen=True)
class NodeSpec:
    """A network node as a test wants it: which agents run on it, and what they say of themselves."""

    host: str
    l3: bool = True
    dhcp: bool = True
    ovs: bool = True
    """Without it no port binds on this host."""
    agent_mode: str = "legacy"
    """Of the L3 agent: `legacy`, `dvr` or `dvr_snat`. Legacy ones and `dvr_snat` ones may have HA routers too."""
    availability_zone: str = "nova"
    bridge_mappings: Mapping[str, str] = field(default_factory=lambda: {"physnet1": "br-ex"})
    """Which physical networks it reaches, by which bridge."""
    clock_offset: float = 0.0
    """Seconds by which its clock is ahead."""
    fetch_routers: bool = True
    """Whether its L3 agent asks the server for the routers that it is given, as real ones do: half a second of the RPC server's processor for each,
    after which their ports are bound. Without it the agent believes the IDs it is told."""

    @property
    def agents(self) -> list[str]:
        """The kinds of agents it has."""
        return [kind for kind, has in ((OVS_AGENT, self.ovs), (L3_AGENT, self.l3), (DHCP_AGENT, self.dhcp)) if has]


@dataclass(frozen=True)
class NodeView:
    """What a node knows and has seen."""

    routers: list[str]
    """IDs of the routers that it would have built."""
    networks: list[str]
    """IDs of the networks that it would serve with DHCP."""
    pending: int
    """How much its agents have been told to do and have not done yet."""
    answered: dict[str, int]
    """By kind of agent: how many of its reports Neutron has answered."""
    asked: dict[str, int]
    """By method: how often the server called it."""


class Node:
    """A simulated node's process. It can be started again when it was killed, and is then a node that booted anew."""

    def __init__(self, spec: NodeSpec, fork: Callable[[NodeSpec, str], int], control: str) -> None:
        """`fork` starts a process and returns its id, `control` names the socket on which it takes orders. Nothing is started yet."""
        self.spec = spec
        self._fork = fork
        self._control = control
        self._process: int | None = None
        """A file descriptor that stands for the process; ids can be used anew by the system."""
        self.pid = 0
        """The process id, for people."""

    @property
    def host(self) -> str:
        """Its name."""
        return self.spec.host

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None

    def start(self) -> None:
        """Start it; it reports when it is ready, a second later."""
        assert self._process is None, f"{self.host} runs already"
        self.pid = self._fork(self.spec, self._control)
        self._process = os.pidfd_open(self.pid)

    def kill(self) -> None:
        """Kill it (SIGKILL), as a power failure would."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            assert select.select([self._process], [], [], PATIENCE)[0], f"{self.host} does not end"
            os.close(self._process)
            self._process = None

    def freeze(self) -> None:
        """Let it stand still (SIGSTOP): its connections stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def silence(self, *agents: str) -> None:
        """Let these kinds of agents, or all, report no more; what they are asked they still answer."""
        self._order("silence", agents=agents)

    def speak(self, *agents: str) -> None:
        """Let them report again."""
        self._order("speak", agents=agents)

    def hang(self) -> None:
        """Let its agents answer no call of Neutron's server, while they still report."""
        self._order("hang")

    def answer(self) -> None:
        """Let them answer again, also what was asked meanwhile."""
        self._order("answer")

    def set_clock(self, offset: float) -> None:
        """Put its clock so many seconds ahead of the true time."""
        self._order("clock", offset=offset)

    def synchronize(self) -> None:
        """Let its agents fetch everything that Neutron says is theirs."""
        self._order("synchronize")

    def say_ha_state(self, router: str, state: str) -> None:
        """Let it tell Neutron that an HA router is `active` or `standby` here."""
        self._order("ha_state", router=router, state=state)

    def view(self) -> NodeView:
        """Return what it knows now."""
        return NodeView(**self._order("tell"))

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, f"{self.host} does not run"
        signal.pidfd_send_signal(self._process, number)

    def _order(self, what: str, **arguments: Any) -> dict[str, Any]:
        connections: list[socket.socket] = []

        def listens() -> bool:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(b"\0" + self._control.encode())
            except OSError:
                connection.close()
                return False
            connections.append(connection)
            return True

        wait_until(listens, f"{self.host} takes orders")
        connections[0].settimeout(PATIENCE)
        with connections[0] as connection, connection.makefile("rw", encoding="utf-8") as stream:
            stream.write(json.dumps({"do": what, **arguments}) + "\n")
            stream.flush()
            answer: dict[str, Any] = json.loads(stream.readline())
        assert "error" not in answer, answer
        return answer


class NodeNursery:
    """The process that has Neutron's libraries in memory, and that every node is forked from: a node then starts at once and takes little memory."""

    def __init__(self, place: Path, configuration: Callable[[str], str]) -> None:
        """`configuration` returns neutron.conf for a node's agents, by the node's name. Nothing is started yet."""
        self._place = place
        self._configuration = configuration
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it; it takes some seconds until the first node comes out."""
        self._place.mkdir(exist_ok=True)
        with (self._place / "nursery.log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(neutron_environment() / "bin" / "python"), str(Path(__file__).with_name("node_process.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def fork(self, spec: NodeSpec, control: str) -> int:
        """Start a process that is the node, and return its id."""
        process = self._process
        assert process
        assert process.stdin
        assert process.stdout
        configuration = self._place / f"{spec.host}.conf"
        configuration.write_text(self._configuration(spec.host), encoding="utf-8")
        wanted = {"configuration": str(configuration), "log": str(self._place / f"{spec.host}.log"), "control": control}
        process.stdin.write(json.dumps({**dataclasses.asdict(spec), **wanted}) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, (self._place / "nursery.log").read_text(encoding="utf-8")
        return int(answer)

    def stop(self) -> None:
        """End it, and all nodes with it."""
        process, self._process = self._process, None
        if process:
            with process:  # closes its standard input
                process.kill()
