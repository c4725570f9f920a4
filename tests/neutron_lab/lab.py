# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A whole Neutron on the loopback address: MariaDB, RabbitMQ, API, RPC server and periodic workers, and simulated network nodes.

    with Lab(LabSettings(agent_down_time=10)) as lab:
        lab.add_nodes(NodeSpec("net1"), NodeSpec("net2"))
        lab.nodes["net1"].kill()
        lab.wait_until(lambda: not lab.agent("net1", L3_AGENT)["alive"], "Neutron sees that net1 is dead")

Whoever is tested connects to `lab.bus_url("name")` and `lab.api_url("name")`, relays that `lab.bus_links` and `lab.api_links` can cut or silence for
that name alone. Everything lies in a directory of its own below .cache/neutron-lab, on free ports, and ends with the context, or with this process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from cloud_api import CloudApi
from cloud_contents import Contents
from lab_programs import kept_database, neutron_environment, run, run_directory
from mariadb_server import MariadbServer, install
from neutron_services import LabSettings, NeutronApi, NeutronService, neutron_conf
from openstack_service import START_SECONDS
from rabbitmq_server import RabbitmqServer
from receiver_process import wait_until
from relay import Network
from server_process import ADDRESS
from simulated_nodes import L3_AGENT, Node, NodeNursery, NodeSpec

CONTROLLER = "neutron"
"""The host of Neutron's servers."""


class Links:
    """Relays to one server of the lab, one for each client that asks for its address; a client is known by its name."""

    def __init__(self, port: int) -> None:
        """`port` is the server's; a relay has it too, on an address of its own."""
        self.port = port
        self._network = Network({}, port)
        self._addresses: dict[str, str] = {}

    def address(self, client: str) -> str:
        """Return the client's own address of the server, `127.x.y.z:port`."""
        if client not in self._addresses:
            address = f"127.83.{len(self._addresses) // 250}.{len(self._addresses) % 250 + 1}"
            self._network.join((client, CONTROLLER), address, ADDRESS)
            self._addresses[client] = address
        return f"{self._addresses[client]}:{self.port}"

    def lend(self, client: str, listener: socket.socket) -> None:
        """Let what listens already be the client's own address of the server."""
        self._network.join((client, CONTROLLER), listener, ADDRESS)
        self._addresses[client] = ADDRESS

    def forget(self, client: str) -> None:
        """Take the client's address away."""
        del self._addresses[client]
        self._network.leave((client, CONTROLLER))

    def cut(self, *clients: str) -> None:
        """Break the connections of these clients, or of all, and refuse new ones."""
        for client in clients or self._addresses:
            self._network.cut((client, CONTROLLER))

    def silence(self, *clients: str) -> None:
        """Let nothing through for these clients, or for all; connections stay open."""
        for client in clients or self._addresses:
            self._network.silence((client, CONTROLLER))

    def mend(self, *clients: str) -> None:
        """Let them through again."""
        for client in clients or self._addresses:
            self._network.mend((client, CONTROLLER))

    def close(self) -> None:
        """Break all connections, and end."""
        self._network.close()


class Lab:
    """The lab; a context. Tests may stop, kill and freeze its servers: `mariadb`, `rabbitmq`, `neutron_api`, `rpc_server`, `periodic_workers`."""

    def __init__(self, settings: LabSettings | None = None, contents: Contents | None = None) -> None:
        """With `contents` the cloud has these networks and routers, made once and kept. Nothing is started yet."""
        self.settings = settings or LabSettings()
        self.nodes: dict[str, Node] = {}
        """By the node's name."""
        self._contents = contents
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start everything but nodes, and return when the API answers; a lab that does not start leaves nothing behind."""
        neutron_environment()
        kept = _database_with(self._contents) if self._contents else _empty_database()
        with contextlib.ExitStack() as unless_it_starts:
            self._open = unless_it_starts
            self.directory = self._open.enter_context(run_directory("lab-"))
            self._start(kept)
            self._open = unless_it_starts.pop_all()
        return self

    def _start(self, kept: Path) -> None:
        configuration = self.directory / "neutron.conf"
        self.mariadb = MariadbServer(self.directory, kept)
        self._make_bus()
        configuration.write_text(self._configuration(CONTROLLER, self.settings, self.mariadb.url), encoding="utf-8")
        self.neutron_api = NeutronApi(self.directory, configuration, self.settings.api_processes)
        self.rpc_server = NeutronService("neutron-rpc-server", self.directory, configuration)
        self.periodic_workers = NeutronService("neutron-periodic-workers", self.directory, configuration)
        self.nursery = NodeNursery(self.directory / "nodes", self._node_configuration)
        self._open.callback(self.nursery.stop)
        self._open.callback(self._kill_nodes)
        services = (self.neutron_api, self.rpc_server, self.periodic_workers)
        self._open.enter_context(self.mariadb)
        # they load for longer than RabbitMQ starts, and wait for it
        for service in services:
            self._open.callback(service.stop)
            service.launch()
        self.nursery.start()
        self._start_bus()
        self.api_links = Links(self.neutron_api.port)
        self._open.callback(self.api_links.close)
        self.api = CloudApi(f"{ADDRESS}:{self.neutron_api.port}")
        for service in services:
            service.await_ready()

    def __exit__(self, *error: Any) -> None:
        """End everything, and take away its directory, which run_directory keeps the logs of."""
        self._open.__exit__(*error)

    def _make_bus(self) -> None:
        """Make what `_configuration` needs to know of the bus."""
        self.rabbitmq = RabbitmqServer(self.directory)

    def _start_bus(self) -> None:
        self._open.enter_context(self.rabbitmq)
        self.bus_links = Links(self.rabbitmq.port)
        self._open.callback(self.bus_links.close)

    def _configuration(self, host: str, settings: LabSettings, database: str = "") -> str:
        """Return neutron.conf of a host."""
        address = f"{ADDRESS}:{self.rabbitmq.port}" if host == CONTROLLER else self.bus_links.address(host)
        return neutron_conf(settings, host, self.directory, database, f"rabbit://guest:guest@{address}/")

    def _node_configuration(self, host: str) -> str:
        # what agents ask the server may take as long as it takes by default: only the API's patience with agents is a test's choice
        patient = dataclasses.replace(self.settings, rpc_response_timeout=60, rpc_response_max_timeout=600)
        return self._configuration(host, patient)

    def _kill_nodes(self) -> None:
        for node in self.nodes.values():
            node.kill()

    def bus_url(self, client: str) -> str:
        """Return RabbitMQ's URL, as kombu wants it, for a client of its own name."""
        return f"amqp://guest:guest@{self.bus_links.address(client)}//"

    def how_rpcdaemon_hears(self, client: str) -> dict[str, object]:
        """Return the keys of rpcdaemon's `[Daemon]` that are about the bus, for a daemon with a link of its own."""
        return {"rpchost": self.bus_url(client), "leader_queue_type": "classic"}

    def api_url(self, client: str) -> str:
        """Return Neutron's URL, which asks for no authentication, for a client of its own name."""
        return f"http://{self.api_links.address(client)}"

    def wait_until(self, condition: Callable[[], object], what: str, patience: float = 60.0) -> None:
        """Return when `condition()` holds; fails with `what` if it does not within `patience` seconds."""
        wait_until(condition, what, patience)

    def add_nodes(self, *specs: NodeSpec) -> None:
        """Start nodes, and return when Neutron calls all their agents alive."""
        for spec in specs:
            self.nodes[spec.host] = Node(spec, self.nursery.fork, f"{self.directory.name}-{spec.host}")
            self.nodes[spec.host].start()
        self.await_alive(*(spec.host for spec in specs))

    def await_alive(self, *hosts: str) -> None:
        """Return when Neutron calls all agents of these nodes alive."""

        def alive() -> bool:
            seen = {(agent["host"], agent["agent_type"]) for agent in self.agents() if agent["alive"]}
            return all((host, kind) in seen for host in hosts for kind in self.nodes[host].spec.agents)

        wait_until(alive, f"the agents of {', '.join(hosts)} are alive", START_SECONDS)

    def restart_periodic_workers(self, *, native_failover: bool) -> None:
        """Start Neutron's periodic workers anew, with its own failover of routers and networks on or off."""
        self.periodic_workers.stop()
        with self.periodic_workers.configuration.open("a", encoding="utf-8") as file:
            file.write(f"\n[DEFAULT]\nallow_automatic_l3agent_failover = {native_failover}\nallow_automatic_dhcp_failover = {native_failover}\n")
        self.periodic_workers.start()

    def agents(self, **filters: str) -> list[dict[str, Any]]:
        """Return Neutron's agents, as its API shows them."""
        return self.api.list("agents", **filters)

    def agent(self, host: str, kind: str = L3_AGENT) -> dict[str, Any]:
        """Return one agent, as the API shows it; fails if there is none."""
        (agent,) = self.agents(host=host, agent_type=kind)
        return agent

    def routers_by_host(self) -> dict[str, set[str]]:
        """Return the IDs of the routers bound to each L3 agent, read from the database in a hundredth of a second; an HA router is on several."""
        return self._bound("routerl3agentbindings", "router_id", "l3_agent_id", "L3 agent")

    def networks_by_host(self) -> dict[str, set[str]]:
        """Return the IDs of the networks bound to each DHCP agent, read from the database."""
        return self._bound("networkdhcpagentbindings", "network_id", "dhcp_agent_id", "DHCP agent")

    def _bound(self, table: str, what: str, agent: str, kind: str) -> dict[str, set[str]]:
        rows = self.mariadb.query(f"select host, {what} from agents left join {table} on agents.id = {agent} where agent_type = '{kind}';")
        bound: dict[str, set[str]] = {host: set() for host, _thing in rows}
        for host, identity in rows:
            if identity != "NULL":
                bound[host].add(identity)
        return bound

    def bind_routers(self, routers_by_host: Mapping[str, Iterable[str]]) -> None:
        """Let legacy routers be on these hosts and nowhere else, written into the database, and let the nodes that run know it."""
        statements = ["start transaction;"]
        for host, routers in routers_by_host.items():
            agent = f"(select id from agents where host = '{host}' and agent_type = 'L3 agent')"
            for router in routers:
                statements.append(f"delete from routerl3agentbindings where router_id = '{router}';")
                statements.append(f"insert into routerl3agentbindings (router_id, l3_agent_id, binding_index) values ('{router}', {agent}, 1);")
        self.mariadb.query("\n".join([*statements, "commit;"]))
        self._synchronize()

    def bind_networks(self, networks_by_host: Mapping[str, Iterable[str]]) -> None:
        """Let networks be served by these hosts and by nobody else, written into the database, and let the nodes that run know it."""
        statements = ["start transaction;"]
        networks = {network for served in networks_by_host.values() for network in served}
        statements += [f"delete from networkdhcpagentbindings where network_id = '{network}';" for network in sorted(networks)]
        index = dict.fromkeys(networks, 0)
        for host, served in networks_by_host.items():
            agent = f"(select id from agents where host = '{host}' and agent_type = 'DHCP agent')"
            for network in served:
                index[network] += 1
                columns = "(network_id, dhcp_agent_id, binding_index)"
                statements.append(f"insert into networkdhcpagentbindings {columns} values ('{network}', {agent}, {index[network]});")
        self.mariadb.query("\n".join([*statements, "commit;"]))
        self._synchronize()

    def _synchronize(self) -> None:
        for node in self.nodes.values():
            if node.running:
                node.synchronize()


def _empty_database() -> Path:
    """Return MariaDB's data with Neutron's tables, which hold nothing yet."""

    def make(data: Path) -> None:
        installed = data / "installed"
        installed.mkdir()
        install(installed)
        with tempfile.TemporaryDirectory(prefix="bl-", dir=data) as place:
            with MariadbServer(Path(place), installed) as server:
                configuration = Path(place) / "neutron.conf"
                configuration.write_text(neutron_conf(LabSettings(), CONTROLLER, Path(place), server.url, "rabbit://"), encoding="utf-8")
                command = [str(neutron_environment() / "bin" / "neutron-db-manage"), "--config-file", str(configuration), "upgrade", "heads"]
                run(command, "Neutron made no tables")
                server.stop()
                shutil.rmtree(installed)
                for entry in server.data.iterdir():
                    shutil.move(entry, data / entry.name)

    return kept_database("empty", make)


def _database_with(contents: Contents) -> Path:
    """Return MariaDB's data of a cloud with these contents."""

    def make(data: Path) -> None:
        with Lab() as lab:
            contents.create(lab.api)
            lab.mariadb.stop()
            shutil.copytree(lab.mariadb.data, data, dirs_exist_ok=True)

    return kept_database(contents.name, make, repr(contents), Path(__file__).with_name("cloud_contents.py").read_text(encoding="utf-8"))


def processes_of(directory: Path) -> list[str]:
    """Return the command lines and names of processes whose command line or environment names the directory; those that have ended don't count."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if str(directory).encode() in told and int(process.name) != os.getpid():
            found.append(told.split(b"\0")[0].decode(errors="replace"))
    return found


def end_process(pid: int, patience: float = 60.0) -> None:
    """Ask a process that holds a lab to end, and return when it has; kills it if it does not."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
