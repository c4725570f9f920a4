# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A cloud in lists, as Neutron's API gives them, and what is known of its agents: what planning is tested with."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from brokerless.ha.liveness import Forwarding, Judgement, State, Verdict
from brokerless.ha.snapshot import DHCP, L3, Agent, Snapshot, snapshot_from_api

OVS = "Open vSwitch agent"


@dataclass
class Cloud:
    """Agents are called `l3-HOST`, `dhcp-HOST` and `ovs-HOST`; networks are tunnels unless they name a physical network."""

    agents: dict[str, dict[str, Any]] = field(default_factory=dict)
    routers: dict[str, dict[str, Any]] = field(default_factory=dict)
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    subnets: list[dict[str, Any]] = field(default_factory=list)
    ports: list[dict[str, Any]] = field(default_factory=list)
    floating_ips: list[dict[str, Any]] = field(default_factory=list)
    hosting: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    verdicts: dict[str, dict[str, Any]] = field(default_factory=dict)
    deaf: str = ""

    def agent(self, name: str, agent_type: str, host: str, *, zone: str = "nova", up: bool = True, **said: Any) -> None:
        self.agents[name] = {
            "id": name,
            "agent_type": agent_type,
            "host": host,
            "availability_zone": zone,
            "admin_state_up": up,
            "alive": True,
            "heartbeat_timestamp": "2026-11-21 09:33:14",
            "started_at": "2026-11-20 00:00:00",
            "configurations": said,
        }
        if agent_type in {L3, DHCP}:
            self.hosting[name] = []

    def node(
        self, host: str, *, zone: str = "nova", physnets: tuple[str, ...] = ("physnet1",), tunnels: tuple[str, ...] = ("vxlan",), **l3: Any
    ) -> None:
        """A network node: its L3 agent says `l3` of itself."""
        self.agent(f"l3-{host}", L3, host, zone=zone, **l3)
        self.agent(f"dhcp-{host}", DHCP, host, zone=zone)
        self.agent(f"ovs-{host}", OVS, host, bridge_mappings=dict.fromkeys(physnets, "br-ex"), tunnel_types=list(tunnels))

    def network(self, name: str, *, physnet: str = "", dhcp: bool = True, on: tuple[str, ...] = (), **more: Any) -> None:
        kind = {"provider:network_type": "vlan", "provider:physical_network": physnet} if physnet else {"provider:network_type": "vxlan"}
        self.networks[name] = {"id": name, "name": f"net {name}", "subnets": [f"s-{name}"], **kind, **more}
        self.subnets.append({"id": f"s-{name}", "network_id": name, "enable_dhcp": dhcp})
        for host in on:
            self.hosting[f"dhcp-{host}"].append({"id": name})

    def router(
        self, name: str, on: tuple[str, ...] | str = (), *, networks: tuple[str, ...] = (), gateway: str = "", fips: int = 0, **more: Any
    ) -> None:
        gateway_info = {"network_id": gateway} if gateway else None
        self.routers[name] = {"id": name, "name": f"router {name}", "external_gateway_info": gateway_info, **more}
        for network in networks:
            self.ports.append({"device_owner": "network:router_interface", "device_id": name, "network_id": network})
        self.floating_ips += [{"router_id": name}] * fips
        for host in (on,) if isinstance(on, str) else on:
            self.hosting[f"l3-{host}"].append({"id": name})

    def dead(
        self, *hosts: str, forwarding: Forwarding = Forwarding.STOPPED, kinds: tuple[str, ...] = ("l3", "dhcp", "ovs"), held_back: str = ""
    ) -> None:
        for kind, host in itertools.product(kinds, hosts):
            self.verdicts[f"{kind}-{host}"] = {
                "state": State.DEAD,
                "reason": "silent",
                "heard_now": False,
                "forwarding": forwarding,
                "held_back": held_back,
            }

    def says(self, agent: str, state: State, **more: Any) -> None:
        """Give an agent a verdict other than alive."""
        self.verdicts[agent] = {"state": state, "reason": str(state), "heard_now": False, **more}

    def snapshot(self) -> Snapshot:
        return snapshot_from_api(
            agents=self.agents.values(),
            routers=self.routers.values(),
            networks=self.networks.values(),
            subnets=self.subnets,
            ports=self.ports,
            floating_ips=self.floating_ips,
            hosting=self.hosting,
        )

    def judgement(self, snapshot: Snapshot | None = None) -> Judgement:
        def verdict(agent: Agent) -> Verdict:
            said = {"state": State.ALIVE, "reason": "heard", "heard_now": True, **self.verdicts.get(agent.id, {})}
            return Verdict(agent, **said)

        return Judgement({agent.id: verdict(agent) for agent in (snapshot or self.snapshot()).agents.values()}, deaf=self.deaf)


def loads(snapshot: Snapshot, agent_type: str = L3) -> dict[str, int]:
    """Return by host how much its agent hosts."""
    return {agent.host: snapshot.load(agent) for agent in snapshot.of_type(agent_type)}
