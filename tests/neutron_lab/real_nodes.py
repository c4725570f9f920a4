# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Network nodes with packets: userspace Open vSwitch and Neutron's real L3, DHCP and Open vSwitch agents, each node in namespaces of its own.

Needs root. No namespace has a name on the host: each lasts as long as the process that holds it, which does not outlive the lab's, however that ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cloud_contents import EXTERNAL
from lab import Lab
from lab_programs import neutron_environment
from receiver_process import PATIENCE, wait_until
from server_process import ADDRESS, system_programs
from simulated_nodes import DHCP_AGENT, L3_AGENT, OVS_AGENT

CLONE_NEWNET = 0x40000000
OUTSIDE = "198.18.0.1"
"""The host beyond the external network, and that network's gateway."""

AGENTS = {"openvswitch": OVS_AGENT, "l3": L3_AGENT, "dhcp": DHCP_AGENT}
"""What runs on a node, and what Neutron calls it."""

START_SECONDS = 90.0
PRIVSEP_SECTIONS = (
    "privsep",
    "privsep_dhcp_release",
    "privsep_ovs_vsctl",
    "privsep_namespace",
    "privsep_conntrack",
    "privsep_link",
    "vif_plug_ovs_privileged",
)


def agent_conf(host: str, place: Path, bus: str, report_interval: float) -> str:
    """Return the configuration of all three agents of a node."""
    helper = neutron_environment() / "bin" / "privsep-helper"
    tables: dict[str, dict[str, object]] = {
        "DEFAULT": {
            "host": host,
            "transport_url": bus,
            "state_path": place / "state",
            "interface_driver": "openvswitch",
            "agent_mode": "legacy",
            "dhcp_driver": "neutron.agent.linux.dhcp.Dnsmasq",
            "dnsmasq_config_file": place / "dnsmasq.conf",
            "enable_isolated_metadata": False,
            "enable_metadata_proxy": False,
        },
        # the namespaces' root needs no sudo
        "AGENT": {"report_interval": report_interval, "root_helper": "env"},
        "oslo_concurrency": {"lock_path": place / "state" / "locks"},
        "ovs": {
            "datapath_type": "netdev",
            "bridge_mappings": "physnet1:br-ex",
            "ovsdb_connection": "tcp:127.0.0.1:6640",
            "of_listen_address": "127.0.0.1",
        },
        "securitygroup": {"enable_security_group": False, "firewall_driver": "noop"},
        **{section: {"helper_command": helper} for section in PRIVSEP_SECTIONS},
    }
    return "\n".join(f"[{table}]\n" + "".join(f"{name} = {value}\n" for name, value in options.items()) for table, options in tables.items())


def enter(pid: int, *command: str, namespaces: str = "-n") -> list[str]:
    """Return the command that runs `command` in namespaces of a process."""
    return ["nsenter", "-t", str(pid), *namespaces.split(), *command]


def run(command: Sequence[str]) -> str:
    """Run a command, and return what it said; fails with that if it does."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}"
    return done.stdout


def ip(*arguments: str) -> None:
    """Run `ip` on the host."""
    run([str(system_programs() / "ip"), *arguments])


def listen_inside(pid: int, port: int) -> socket.socket:
    """Return a socket that listens on the loopback address of a process's network namespace, and can be served from here.

    Namespaces belong to threads: only this one goes there, and comes back.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    listener = socket.socket()
    with Path("/proc/thread-self/ns/net").open("rb") as here, Path(f"/proc/{pid}/ns/net").open("rb") as there:
        assert libc.setns(there.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            listener.close()
            listener = socket.create_server((ADDRESS, port))
        finally:
            assert libc.setns(here.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    return listener


class Namespace:
    """A network namespace that lasts as long as a process which does nothing."""

    def __init__(self) -> None:
        """It is there at once, and has a loopback address."""
        self._process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL)
        self.pid = self._process.pid
        here = Path("/proc/self/ns/net").readlink()
        wait_until(lambda: Path(f"/proc/{self.pid}/ns/net").readlink() != here, "the namespace is there")
        wait_until(lambda: Path(f"/proc/{self.pid}/comm").read_text(encoding="ascii") == "sleep\n", "the namespace is quiet")
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments: str) -> None:
        """Run `ip` in it."""
        run(enter(self.pid, str(system_programs() / "ip"), *arguments))

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


class RealNode:
    """A network node. What is on its disk outlasts its power; everything else, packets' ways too, ends with it."""

    def __init__(self, lab: Lab, fabric: Namespace, host: str) -> None:
        """`fabric` has the bridge `phys`. Nothing is started yet."""
        self.host = host
        self.directory = lab.directory / host
        self._lab = lab
        self._fabric = fabric
        self._holder: subprocess.Popen[bytes] | None = None
        self._init = 0
        self._reaches_bus = False
        self._agents: list[subprocess.Popen[bytes]] = []

    def power_on(self, agents: Sequence[str] = tuple(AGENTS)) -> None:
        """Start the node and these agents, and return when Neutron calls them alive."""
        self.boot(agents)
        self.await_alive(agents)

    def await_alive(self, agents: Sequence[str]) -> None:
        """Return when Neutron calls these agents of the node alive."""
        kinds = {AGENTS[agent] for agent in agents}

        def alive() -> bool:
            return kinds <= {agent["agent_type"] for agent in self._lab.agents(host=self.host) if agent["alive"]}

        wait_until(alive, f"the agents of {self.host} are alive", START_SECONDS)

    def boot(self, agents: Sequence[str] = tuple(AGENTS)) -> None:
        """Start the node and these agents, and return at once."""
        packages = system_programs("network-node").parent / "files"
        tree = _tree(packages, self.directory / "tree")
        (self.directory / "ready").unlink(missing_ok=True)
        script = Path(__file__).with_name("real_node_init.sh")
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", str(script)]
        with (self.directory / "init.log").open("ab") as log:
            arguments = [str(packages), str(tree), str(self.directory)]
            self._holder = subprocess.Popen([*command, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self._init = _only_child(self._holder.pid)
        ip("link", "add", "phy0", "netns", str(self._init), "type", "veth", "peer", "name", f"to-{self.host}", "netns", str(self._fabric.pid))
        self._fabric.ip("link", "set", f"to-{self.host}", "master", "phys", "up")
        holder = self._holder
        wait_until(lambda: holder.poll() is not None or (self.directory / "ready").exists(), f"{self.host} is ready")
        assert holder.poll() is None, (self.directory / "init.log").read_text(encoding="utf-8")
        port = self._lab.rabbitmq.port
        self._lab.bus_links.lend(self.host, listen_inside(self._init, port))
        self._reaches_bus = True
        bus = f"rabbit://guest:guest@{ADDRESS}:{port}/"
        (self.directory / "agents.conf").write_text(agent_conf(self.host, self.directory, bus, self._lab.settings.report_interval), encoding="utf-8")
        # nobody, as whom it would run, may not read what Neutron writes here
        (self.directory / "dnsmasq.conf").write_text("user=root\n", encoding="utf-8")
        for agent in agents:
            self.start_agent(agent)

    def power_off(self) -> None:
        """End all its processes at once and take its network card away, as a power failure does."""
        if self._holder:
            if self._reaches_bus:
                self._lab.bus_links.forget(self.host)
            self._reaches_bus = False
            self._holder.kill()
            self._holder.wait()
            self._holder = None
            for agent in self._agents:
                # nsenter stands still when what it waits for was told to, and does not go on with it
                agent.send_signal(signal.SIGCONT)
                agent.wait(PATIENCE)
            self._agents.clear()
            init = Path(f"/proc/{self._init}")
            wait_until(lambda: not init.exists() or ") Z " in _stat(init), f"{self.host} is off")
            with contextlib.suppress(AssertionError):
                self._fabric.ip("link", "delete", f"to-{self.host}")

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        return self._holder is not None

    def command(self, *command: str) -> list[str]:
        """Return the command that runs `command` on the node."""
        return enter(self._init, *command, namespaces="-n -m -p")

    def start_agent(self, agent: str) -> None:
        """Start one of `AGENTS`, and return at once."""
        program = neutron_environment() / "bin" / f"neutron-{agent}-agent"
        environment = {"PATH": f"{neutron_environment() / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin", "PYTHONWARNINGS": "ignore"}
        with (self.directory / f"{agent}-agent.log").open("ab") as log:
            self._agents.append(
                subprocess.Popen(
                    self.command(str(program), "--config-file", str(self.directory / "agents.conf")),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=os.environ | environment,
                )
            )

    def kill_agent(self, agent: str) -> None:
        """Kill one of `AGENTS` (SIGKILL), and nothing else: what it has built goes on forwarding."""
        assert self.kill(f"neutron-{agent}-agent"), f"no neutron-{agent}-agent runs on {self.host}"

    def kill(self, what: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to the node's processes whose command line contains `what`, and return how many there were."""
        found = [pid for pid in self._processes() if what in _command_line(pid)]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return len(found)

    def namespaces(self) -> set[str]:
        """Return the names of the network namespaces on the node: `qrouter-` and a router's ID, `qdhcp-` and a network's."""
        return {line.split()[0] for line in run(self.command("ip", "netns", "list")).splitlines()}

    def _processes(self) -> Iterator[int]:
        """The node's processes, by their ids on the host; `nsenter`, which waits for one of them, is none."""
        inside = Path(f"/proc/{self._init}/ns/pid").readlink()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "ns" / "pid").readlink() == inside:
                    yield int(process.name)


def _only_child(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    wait_until(lambda: children.read_text(encoding="ascii").split(), "the node's first process is there")
    return int(children.read_text(encoding="ascii").split()[0])


def _stat(process: Path) -> str:
    try:
        return (process / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ") Z "


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _tree(packages: Path, place: Path) -> Path:
    """Make what belongs on top of the packages' `usr`: what they have beside it, and the links that they make when they are installed."""
    if place.exists():
        return place
    for name in ("bin", "lib", "sbin"):
        shutil.copytree(packages / name, place / name, symlinks=True, copy_function=os.link)
    programs = place / "sbin"
    targets = {
        f"{name}{suffix}": f"{name}-nft{suffix}"
        for name in ("iptables", "ip6tables", "ebtables", "arptables")
        for suffix in ("", "-save", "-restore")
    }
    for name, target in {**targets, "ovs-vswitchd": "../lib/openvswitch-switch/ovs-vswitchd"}.items():
        (programs / name).symlink_to(target)
    return place


@dataclass(frozen=True)
class PingRecord:
    """What came back of one ping after another, each a new flow, and of `ping` beside them, which is one and the same flow."""

    replies: list[float]
    """When, in seconds since the epoch."""
    flow_replies: list[float]

    @property
    def stuck(self) -> bool:
        """Whether the one flow is not answered any more, while new ones are."""
        return bool(self.replies) and max(self.flow_replies, default=0.0) < self.replies[-1] - 1.5

    @property
    def longest_gap(self) -> float:
        """The longest time without a reply between two of them, in seconds."""
        return max(self._gaps, default=float("inf"))

    @property
    def lost(self) -> float:
        """How long there was no reply, in seconds; less than half a second at a time does not count."""
        return sum(gap for gap in self._gaps if gap > 0.5)

    @property
    def _gaps(self) -> list[float]:
        return [later - earlier for earlier, later in itertools.pairwise(self.replies)]


class Client:
    """A server on a project's network: a port that is plugged into a node's switch, in a namespace there, with an address leased by DHCP."""

    def __init__(self, lab: Lab, node: RealNode, network: str) -> None:
        """Plug it in; it has no address yet."""
        self._node = node
        port = lab.api.create(
            "port", name="client", network_id=network, device_owner="compute:nova", device_id="client", **{"binding:host_id": node.host}
        )
        assert port["binding:vif_type"] == "ovs", f"{node.host} binds no port"
        self.address: str = port["fixed_ips"][0]["ip_address"]
        card = [f"external_ids:iface-id={port['id']}", "external_ids:iface-status=active", f"external_ids:attached-mac={port['mac_address']}"]
        run(node.command("ovs-vsctl", "add-port", "br-int", "client0", "--", "set", "Interface", "client0", "type=internal", *card))
        run(node.command("ip", "netns", "add", "client"))
        run(node.command("ip", "link", "set", "client0", "netns", "client"))
        self._run("ip", "link", "set", "client0", "address", port["mac_address"])
        self._run("ip", "link", "set", "lo", "up")
        self._run("ip", "link", "set", "client0", "up")

    def _run(self, *command: str) -> str:
        return run(self._node.command("ip", "netns", "exec", "client", *command))

    def lease(self, patience: float = 60.0) -> None:
        """Ask for an address until one is leased; fails if none is within `patience` seconds, or another than Neutron's."""
        place = self._node.directory
        files = ["-lf", str(place / "leases"), "-pf", str(place / "dhclient.pid")]
        command = self._node.command("ip", "netns", "exec", "client", "timeout", str(patience), "dhclient", "-1", "-v", *files, "client0")
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == 0, done.stdout
        assert f" {self.address}/" in self._run("ip", "-4", "address", "show", "client0")

    def reaches(self, target: str = OUTSIDE) -> bool:
        """Tell whether one ping is answered within a second."""
        command = self._node.command("ip", "netns", "exec", "client", "ping", "-n", "-c", "1", "-W", "1", target)
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0

    def answering(self, address: str) -> float:
        """Return how many answer when the client asks its network who has an address, with a few questions that all hear; on average."""
        command = self._node.command("ip", "netns", "exec", "client", "arping", "-b", "-c", "4", "-w", "4", "-I", "client0", address)
        said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout
        counted = dict(re.findall(r"(Sent|Received) (\d+)", said))
        return int(counted["Received"]) / int(counted["Sent"])

    @contextlib.contextmanager
    def pinging(self, target: str = OUTSIDE) -> Iterator[Callable[[], PingRecord]]:
        """Ping ten times a second as long as the context lasts; what it gives tells what came back so far."""
        fresh, flow = (self._node.directory / name for name in ("fresh-pings.txt", "ping.txt"))
        fresh_pings = str(Path(__file__).with_name("fresh_pings.py"))
        with self._running(fresh, sys.executable, fresh_pings, target), self._running(flow, "ping", "-D", "-n", "-i", "0.1", target):

            def record() -> PingRecord:
                answered = re.findall(r"^\[(\d+\.\d+)\] \d+ bytes from", flow.read_text(encoding="utf-8"), re.MULTILINE)
                return PingRecord([float(line) for line in fresh.read_text(encoding="utf-8").splitlines()], [float(when) for when in answered])

            yield record

    @contextlib.contextmanager
    def _running(self, output: Path, *command: str) -> Iterator[None]:
        with output.open("w", encoding="utf-8") as file:
            inside = self._node.command("ip", "netns", "exec", "client", *command)
            process = subprocess.Popen(inside, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            # nsenter does not hand signals on
            self._node.kill(" ".join(command[1:]))
            process.wait(PATIENCE)


class RealNodes:
    """Real nodes of a lab, on one physical network, on which there is also the host that the outside consists of; a context."""

    def __init__(self, lab: Lab, *hosts: str) -> None:
        """Nothing is started yet."""
        assert os.geteuid() == 0, "network namespaces with real packets need root"
        self._lab = lab
        self._hosts = hosts
        self._open = contextlib.ExitStack()
        self.nodes: dict[str, RealNode] = {}

    def __enter__(self) -> Self:
        """Start all, and return when Neutron calls their agents alive."""
        with contextlib.ExitStack() as failed:
            failed.push(self.__exit__)
            fabric, outside = Namespace(), None
            self._open.callback(fabric.close)
            fabric.ip("link", "add", "phys", "type", "bridge")
            fabric.ip("link", "set", "phys", "up")
            outside = Namespace()
            self._open.callback(outside.close)
            ip("link", "add", "out0", "netns", str(outside.pid), "type", "veth", "peer", "name", "outside", "netns", str(fabric.pid))
            fabric.ip("link", "set", "outside", "master", "phys", "up")
            outside.ip("address", "add", f"{OUTSIDE}/16", "dev", "out0")
            outside.ip("link", "set", "out0", "up")
            for host in self._hosts:
                node = RealNode(self._lab, fabric, host)
                node.directory.mkdir(parents=True, exist_ok=True)
                self.nodes[host] = node
                self._open.callback(node.power_off)
                node.boot()
            for node in self.nodes.values():
                node.await_alive(tuple(AGENTS))
            failed.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Switch everything off; namespaces, switches and processes are gone then."""
        self._open.close()


def create_external_network(lab: Lab) -> str:
    """Create the network on which `OUTSIDE` is, and return its ID."""
    physical = {"router:external": True, "provider:network_type": "flat", "provider:physical_network": "physnet1"}
    network: str = lab.api.create("network", name=EXTERNAL, **physical)["id"]
    lab.api.create("subnet", name=EXTERNAL, network_id=network, ip_version=4, cidr="198.18.0.0/16", gateway_ip=OUTSIDE, enable_dhcp=False)
    return network


def lost_seconds(client: Client, happens: Callable[[], object], patience: float = 120.0) -> PingRecord:
    """Ping from the client while something `happens` that breaks its way out, and until answers have come for two seconds again."""
    with client.pinging() as record:
        wait_until(lambda: len(record().replies) >= 10, "the client reaches the outside")
        happens()
        began = time.time()
        wait_until(
            lambda: sum(1 for reply in record().replies if reply > time.time() - 2.0) >= 15 and time.time() > began + 2.0, "answers again", patience
        )
        return record()
