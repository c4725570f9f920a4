# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Simulated network nodes: run by the lab in Neutron's own virtual environment, `python node_process.py`.

Imports Neutron once; then each line on standard input, a JSON object as `start_node` takes it, forks a process that is one node, and is answered with
a line that says its process id. All nodes end with this process, and this process with its standard input.

A node has no data plane. To Neutron it is real: the reports, the calls that fetch routers and networks, and the topics listened on are those of
Neutron's own classes, used as neutron.agent.l3.agent and neutron.agent.dhcp.agent of release 29 use them.
"""

from __future__ import annotations

import collections
import ctypes
import datetime as dt
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

warnings.simplefilter("ignore")
import neutron.agent.rpc  # noqa: E402
import neutron.conf.service  # noqa: E402
import oslo_messaging  # noqa: E402
from neutron.agent.dhcp.agent import DhcpPluginApi  # noqa: E402
from neutron.agent.l3.agent import L3PluginApi  # noqa: E402
from neutron.common import config as neutron_config  # noqa: E402
from neutron.common import utils as neutron_utils  # noqa: E402
from neutron.conf.agent import common as agent_options  # noqa: E402
from neutron_lib import constants, context, rpc  # noqa: E402
from neutron_lib.agent import constants as agent_constants  # noqa: E402
from neutron_lib.agent import topics  # noqa: E402
from oslo_config import cfg  # noqa: E402
from oslo_utils import timeutils  # noqa: E402

PR_SET_PDEATHSIG = 1

RETRY_SECONDS = 1.0
"""After which an agent asks once more for what it was not given."""


class Endpoint:
    """What an agent's RPC server calls. Answers at once and works later, in one thread, as the real agents do: the server waits for the answer."""

    def __init__(self) -> None:
        """The worker starts at once."""
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.asked: collections.Counter[str] = collections.Counter()
        self._work: queue.Queue[Callable[[], object]] = queue.Queue()
        threading.Thread(target=self._run, daemon=True).start()

    def synchronize(self) -> None:
        """Fetch everything that the server says is here, later."""
        self._work.put(self._synchronize)

    def pending(self) -> int:
        """Return how much it has been told to do and has not done yet."""
        return self._work.unfinished_tasks

    def counts(self) -> dict[str, int]:
        """Return what a report says of the agent's load."""
        raise NotImplementedError

    def agent_updated(self, context: object, payload: object) -> None:
        """The agent was enabled or disabled."""
        self.note("agent_updated")
        self.synchronize()

    def note(self, method: str) -> None:
        """Count a message; hang if the node is told to answer nobody."""
        self.asked[method] += 1
        self.may_answer.wait()

    def _synchronize(self) -> None:
        raise NotImplementedError

    def _run(self) -> None:
        while True:
            work = self._work.get()
            try:
                work()
                self._work.task_done()
            except Exception as error:  # noqa: BLE001 - whatever the server answers, the agent tries again, after what else there is to do
                sys.stderr.write(f"{time.time():.3f} {type(self).__name__} tries again: {error!r}\n")
                retry = threading.Timer(RETRY_SECONDS, self._again, (work,))
                retry.daemon = True
                retry.start()

    def _again(self, work: Callable[[], object]) -> None:
        self._work.put(work)
        self._work.task_done()


class L3Endpoint(Endpoint):
    """The L3 agent of a node: knows the routers that the server would let it build."""

    target = oslo_messaging.Target(version="1.4")

    def __init__(self, host: str, fetch: bool) -> None:
        """`host` is the node's name; without `fetch` a router's ID is all that is known of it."""
        super().__init__()
        self._asks = fetch
        self._context = context.get_admin_context_without_session()
        self._server = L3PluginApi(topics.L3PLUGIN, host)
        self.routers: dict[str, dict[str, Any]] = {}

    def counts(self) -> dict[str, int]:
        """As L3NATAgentWithStateReport counts."""
        routers = list(self.routers.values())
        return {
            "routers": len(routers),
            "ex_gw_ports": sum(1 for router in routers if router.get("gw_port")),
            "interfaces": sum(len(router.get(constants.INTERFACE_KEY, [])) for router in routers),
            "floating_ips": sum(len(router.get(constants.FLOATINGIP_KEY, [])) for router in routers),
        }

    def say_ha_state(self, router: str, state: str) -> None:
        """Tell the server that keepalived of this node made the router `active` or `standby`."""
        self._server.update_ha_routers_states(self._context, {router: state})

    def _synchronize(self) -> None:
        routers = self._server.get_router_ids(self._context)
        self.routers = self._told(routers) if routers else {}

    def _fetch(self, routers: list[str]) -> None:
        found = self._told(routers)
        for router in routers:
            self.routers.pop(router, None)
        self.routers.update(found)

    def _told(self, routers: list[str]) -> dict[str, dict[str, Any]]:
        if not self._asks:
            return {router: {"id": router} for router in routers}
        return {router["id"]: router for router in self._server.get_routers(self._context, router_ids=routers)}

    def routers_updated(self, context: object, routers: list[Any], **more: object) -> None:
        """A cast: fetch these routers."""
        self.note("routers_updated")
        names = [router["id"] if isinstance(router, dict) else router for router in routers]
        self._work.put(lambda: self._fetch(names))

    def router_added_to_agent(self, context: object, payload: list[str]) -> None:
        """A call, whose answer the API waits for: fetch these routers."""
        self.note("router_added_to_agent")
        self._work.put(lambda: self._fetch(list(payload)))

    def router_removed_from_agent(self, context: object, payload: dict[str, str]) -> None:
        """A cast: the router is no longer here."""
        self.note("router_removed_from_agent")
        self._work.put(lambda: self.routers.pop(payload["router_id"], None))

    def router_deleted(self, context: object, router_id: str) -> None:
        """A fanout: the router is no more."""
        self.note("router_deleted")
        self._work.put(lambda: self.routers.pop(router_id, None))

    def network_update(self, context: object, **more: object) -> None:
        """Of no concern without a data plane, as the next ones."""

    def add_arp_entry(self, context: object, payload: object) -> None:
        """See above."""

    del_arp_entry = fipnamespace_delete_on_ext_net = add_arp_entry


class DhcpEndpoint(Endpoint):
    """The DHCP agent of a node: knows its networks, and has a port on each that has a subnet with DHCP."""

    target = oslo_messaging.Target(version="1.0")

    def __init__(self, host: str) -> None:
        """`host` is the node's name."""
        super().__init__()
        self._host = host
        self._server = DhcpPluginApi(topics.PLUGIN, host)
        self.networks: dict[str, Any] = {}

    def counts(self) -> dict[str, int]:
        """As NetworkCache.get_state counts."""
        networks = list(self.networks.values())
        return {
            "networks": len(networks),
            "subnets": sum(len(network.subnets) for network in networks),
            "ports": sum(len(network.ports) for network in networks),
        }

    def _synchronize(self) -> None:
        networks = self._server.get_active_networks_info(enable_dhcp_filter=False)
        self.networks = {network.id: network for network in networks}
        for network in networks:
            self._have_port(network)

    def _fetch(self, network_id: str) -> None:
        network = self._server.get_network_info(network_id)
        if network:
            self.networks[network_id] = network
            self._have_port(network)
        else:
            self.networks.pop(network_id, None)

    def _have_port(self, network: Any) -> None:
        """Have a port for dnsmasq, taking one that a removed agent left reserved, as neutron.agent.linux.dhcp.DeviceManager does."""
        subnets = [subnet.id for subnet in network.subnets if subnet.enable_dhcp]
        device = neutron_utils.get_dhcp_agent_device_id(network.id, self._host)
        if not subnets or any(port.device_id == device for port in network.ports):
            return
        for port in network.ports:
            if port.device_id == constants.DEVICE_ID_RESERVED_DHCP_PORT and self._server.update_dhcp_port(
                port.id, {"port": {"network_id": network.id, "device_id": device}}
            ):
                return
        addresses = [{"subnet_id": subnet} for subnet in subnets]
        port = {"name": "", "admin_state_up": True, "device_id": device, "network_id": network.id, "project_id": network.project_id}
        self._server.create_dhcp_port({"port": {**port, "fixed_ips": addresses}})

    def network_create_end(self, context: object, payload: dict[str, Any]) -> None:
        """A cast: the network is now here, or has changed."""
        self.note("network_create_end")
        self._work.put(lambda: self._fetch(payload["network"]["id"]))

    def network_delete_end(self, context: object, payload: dict[str, Any]) -> None:
        """A cast, or a fanout if the network is no more."""
        self.note("network_delete_end")
        self._work.put(lambda: self.networks.pop(payload["network_id"], None))

    def subnet_update_end(self, context: object, payload: dict[str, Any]) -> None:
        """A cast: a subnet is new, or has changed."""
        self.note("subnet_update_end")
        self._work.put(lambda: self._fetch(payload["subnet"]["network_id"]))

    def port_update_end(self, context: object, payload: object) -> None:
        """Of no concern without dnsmasq."""

    network_update_end = network_create_end
    subnet_create_end = subnet_update_end
    subnet_delete_end = port_create_end = port_delete_end = port_update_end


class Reporter:
    """Sends the heartbeats of one agent, each a call, from a thread of its own."""

    def __init__(self, state: dict[str, Any], endpoint: Endpoint | None, interval: float) -> None:
        """Say nothing yet."""
        self._state = {**state, "start_flag": True}
        self._endpoint = endpoint
        self._interval = interval
        self._server = neutron.agent.rpc.PluginReportStateAPI(topics.REPORTS)
        self._context = context.get_admin_context_without_session()
        self.speaks = threading.Event()
        self.speaks.set()
        self.answered = 0

    def run(self) -> None:
        """Report for ever; when the server says that the agent had been dead, fetch everything anew."""
        while True:
            began = time.monotonic()
            self.speaks.wait()
            try:
                self._report()
            except Exception as error:  # noqa: BLE001 - an agent reports again, whatever befell this report
                sys.stderr.write(f"{time.time():.3f} {self._state['agent_type']} is not heard: {error!r}\n")
            time.sleep(max(0.0, self._interval - (time.monotonic() - began)))

    def _report(self) -> None:
        if self._endpoint:
            self._state["configurations"].update(self._endpoint.counts())
        status = self._server.report_state(self._context, dict(self._state), use_call=True)
        self.answered += 1
        first = self._state.pop("start_flag", None)
        if self._endpoint and (first or status == agent_constants.AGENT_REVIVED):
            self._endpoint.synchronize()


class Node:
    """One host's agents in this process."""

    def __init__(self, wanted: Mapping[str, Any]) -> None:
        """Configure Neutron's libraries as the node's agents would; `wanted` is as `start_node` describes it."""
        self._wanted = wanted
        self._clock_offset = dt.timedelta(seconds=wanted["clock_offset"])
        true_time = timeutils.utcnow
        # the reports' only clock
        timeutils.utcnow = lambda *arguments, **more: true_time(*arguments, **more) + self._clock_offset
        agent_options.register_agent_state_opts_helper(cfg.CONF)
        neutron_config.register_common_config_options()
        neutron.conf.service.register_service_opts(neutron.conf.service.RPC_EXTRA_OPTS)
        neutron_config.init(["--config-file", wanted["configuration"], "--log-file", wanted["log"]])
        neutron_config.setup_logging()
        self.l3 = L3Endpoint(wanted["host"], wanted["fetch_routers"]) if wanted["l3"] else None
        self.dhcp = DhcpEndpoint(wanted["host"]) if wanted["dhcp"] else None
        self._reporters = {state["agent_type"]: Reporter(state, endpoint, cfg.CONF.AGENT.report_interval) for state, endpoint in self._agents()}

    def _agents(self) -> list[tuple[dict[str, Any], Endpoint | None]]:
        wanted = self._wanted
        agents: list[tuple[dict[str, Any], Endpoint | None]] = []
        if wanted["ovs"]:
            configurations = {
                "bridge_mappings": wanted["bridge_mappings"],
                "tunnel_types": ["vxlan"],
                "tunneling_ip": "127.0.0.1",
                "l2_population": False,
                "arp_responder_enabled": False,
                "enable_distributed_routing": wanted["agent_mode"] != "legacy",
                "devices": 0,
                "extensions": [],
                "in_distributed_mode": wanted["agent_mode"] != "legacy",
                "log_agent_heartbeats": False,
                "datapath_type": "system",
                "ovs_hybrid_plug": False,
                "ovs_capabilities": {},
                "vhostuser_socket_dir": "/var/run/openvswitch",
            }
            agents.append((self._state("neutron-openvswitch-agent", "N/A", constants.AGENT_TYPE_OVS, configurations), None))
        if self.l3:
            configurations = {
                "agent_mode": wanted["agent_mode"],
                "handle_internal_only_routers": True,
                "interface_driver": "openvswitch",
                "log_agent_heartbeats": False,
                "extensions": [],
            }
            agents.append((self._state("neutron-l3-agent", topics.L3_AGENT, constants.AGENT_TYPE_L3, configurations), self.l3))
        if self.dhcp:
            configurations = {
                "dhcp_driver": "neutron.agent.linux.dhcp.Dnsmasq",
                "dhcp_lease_duration": 86400,
                "log_agent_heartbeats": False,
            }
            agents.append((self._state("neutron-dhcp-agent", topics.DHCP_AGENT, constants.AGENT_TYPE_DHCP, configurations), self.dhcp))
        return agents

    def _state(self, binary: str, topic: str, kind: str, configurations: dict[str, Any]) -> dict[str, Any]:
        state = {"binary": binary, "host": self._wanted["host"], "topic": topic, "agent_type": kind, "configurations": configurations}
        return state if kind == constants.AGENT_TYPE_OVS else {**state, "availability_zone": self._wanted["availability_zone"]}

    def run(self) -> None:
        """Listen, report, and do what comes over the control socket; for ever."""
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        control.bind(b"\0" + self._wanted["control"].encode())
        control.listen(8)
        for endpoint, topic in ((self.l3, topics.L3_AGENT), (self.dhcp, topics.DHCP_AGENT)):
            if endpoint:
                connection = rpc.Connection()
                connection.create_consumer(topic, [endpoint])
                connection.consume_in_threads()
        for reporter in self._reporters.values():
            threading.Thread(target=reporter.run, daemon=True).start()
        while True:
            asking, _address = control.accept()
            with asking, asking.makefile("rw", encoding="utf-8") as stream:
                for line in stream:
                    stream.write(json.dumps(self._do(json.loads(line))) + "\n")
                    stream.flush()

    def _do(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do what a test orders; the lab's `Node` has a method for each."""
        endpoints = [endpoint for endpoint in (self.l3, self.dhcp) if endpoint]
        match order["do"]:
            case "speak" | "silence":
                for kind in order["agents"] or self._reporters:
                    event = self._reporters[kind].speaks
                    event.set() if order["do"] == "speak" else event.clear()
            case "answer" | "hang":
                for endpoint in endpoints:
                    endpoint.may_answer.set() if order["do"] == "answer" else endpoint.may_answer.clear()
            case "clock":
                self._clock_offset = dt.timedelta(seconds=order["offset"])
            case "synchronize":
                for endpoint in endpoints:
                    endpoint.synchronize()
            case "ha_state" if self.l3:
                self.l3.say_ha_state(order["router"], order["state"])
            case "tell":
                pass
            case _:
                return {"error": f"no such order here: {order}"}
        return {
            "routers": sorted(self.l3.routers) if self.l3 else [],
            "networks": sorted(self.dhcp.networks) if self.dhcp else [],
            "answered": {kind: reporter.answered for kind, reporter in self._reporters.items()},
            "pending": sum(endpoint.pending() for endpoint in endpoints),
            "asked": dict(sum((endpoint.asked for endpoint in endpoints), collections.Counter())),
        }


def start_node(wanted: Mapping[str, Any]) -> int:
    """Fork a process that is the node, and return its process id.

    `wanted` has `host`, `configuration` (an oslo.config file), `log` (a file), `control` (the abstract UNIX socket on which it takes orders), `l3`,
    `dhcp`, `ovs` (which agents it has), `agent_mode`, `availability_zone`, `bridge_mappings`, `clock_offset` in seconds, and `fetch_routers`.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        output = os.open(f"{wanted['log']}.errors", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        Node(wanted).run()
    except BaseException as error:  # noqa: BLE001 - the fork must not go on as its parent
        sys.stderr.write(f"node {wanted['host']} ended: {error!r}\n")
    finally:
        os._exit(1)


def main() -> None:
    """Fork nodes as long as standard input is open."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        sys.stdout.write(f"{start_node(json.loads(line))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
