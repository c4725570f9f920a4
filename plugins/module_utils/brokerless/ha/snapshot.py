# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What the cloud looks like at one moment: agents, routers, networks, and who hosts what. Read from what Neutron's API and the bus give.

The functions named `..._from_api` take one element of the API's lists as it comes, `heartbeat_from_message` a decoded oslo.messaging body. They
raise `SnapshotError`, which names the element and the fault, and take no notice of keys that they don't know.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

L3 = "L3 agent"
DHCP = "DHCP agent"
"""The agent types, as Neutron calls them, that host routers and networks."""
OVN = frozenset({"OVN Controller agent", "OVN Controller Gateway agent", "OVN Metadata agent", "OVN agent"})
"""Agents that send no heartbeats: the OVN driver makes the list from its own database, and fails over by itself."""
BOUND_TO_PHYSICAL = frozenset({"flat", "vlan"})
"""Network types that need a bridge mapping for their physical network; the others, but `local`, need to be among the tunnel types."""
ROUTER_PORTS = frozenset(
    {
        "network:router_interface",
        "network:router_interface_distributed",
        "network:ha_router_replicated_interface",
        "network:router_gateway",
        "network:router_centralized_snat",
        "network:router_ha_interface",
    }
)
"""Owners of ports whose device is a router (neutron_lib.constants)."""
INTERFACE_PORTS = frozenset({"network:router_interface", "network:router_interface_distributed", "network:ha_router_replicated_interface"})


class SnapshotError(ValueError):
    """What Neutron's API or the bus gave is not what it should be; the message names the element and the fault."""


class AgentKey(NamedTuple):
    """What heartbeats and Neutron's list both call an agent by."""

    agent_type: str
    host: str

    def __str__(self) -> str:
        return f"{self.agent_type} on {self.host}"


class Segment(NamedTuple):
    """One provider segment of a network: `network_type` as in `provider:network_type`, and the physical network, empty for tunnels."""

    network_type: str
    physical_network: str

    def __str__(self) -> str:
        return f"{self.network_type} on {self.physical_network}" if self.physical_network else self.network_type


@dataclass(frozen=True, slots=True)
class Abilities:
    """What an agent says about itself in `configurations`.

    `mode` is the L3 agent's (legacy, dvr, dvr_snat, dvr_no_external); `only_router` the one router that it may host, if there is such. The
    mappings and tunnel types are those of a host's switch agent, which is an agent of its own. `figures` are the integers among the rest, such
    as `routers` and `floating_ips`.
    """

    mode: str = "legacy"
    handles_internal_only: bool = True
    only_router: str = ""
    physical_networks: frozenset[str] = frozenset()
    tunnel_types: frozenset[str] = frozenset()
    is_switch: bool = False
    figures: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent of Neutron's list. The times are the server's clock, in seconds since 1970."""

    id: str
    host: str
    agent_type: str
    admin_state_up: bool = True
    alive: bool = True
    zone: str = ""
    heartbeat_at: float = 0.0
    started_at: float = 0.0
    abilities: Abilities = Abilities()

    @property
    def key(self) -> AgentKey:
        """Return what heartbeats call the agent."""
        return AgentKey(self.agent_type, self.host)

    def __str__(self) -> str:
        return f"{self.agent_type} on {self.host}"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One report of an agent on the bus. `sent_at` is the agent's own clock, in seconds since 1970, None if it sent none."""

    key: AgentKey
    sent_at: float | None
    starting: bool
    abilities: Abilities


@dataclass(frozen=True, slots=True)
class Router:
    """A router. `networks` are the ids of all networks that its ports are in; `gateway` is the external one, empty without."""

    id: str
    name: str = ""
    ha: bool = False
    distributed: bool = False
    admin_state_up: bool = True
    zones: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    gateway: str = ""
    networks: frozenset[str] = frozenset()
    interfaces: int = 0
    floating_ips: int = 0


@dataclass(frozen=True, slots=True)
class Network:
    """A network. `dhcp` says whether one of its subnets wants DHCP."""

    id: str
    name: str = ""
    segments: tuple[Segment, ...] = ()
    zones: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    dhcp: bool = True


@dataclass(frozen=True)
class Snapshot:
    """The cloud at one moment. All mappings are by id.

    `hosting` holds what was read of an agent's routers or networks; agents that are missing there were not asked, and `load` then goes by what they
    report of themselves. `hosting` may name routers and networks that the lists don't have: they are nobody's business.
    """

    agents: Mapping[str, Agent]
    routers: Mapping[str, Router] = field(default_factory=dict)
    networks: Mapping[str, Network] = field(default_factory=dict)
    hosting: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @cached_property
    def hosts_of(self) -> Mapping[str, tuple[str, ...]]:
        """Return the ids of the agents that host each router and each network, in the order of their ids."""
        found: dict[str, list[str]] = {}
        for agent in sorted(self.hosting):
            for thing in self.hosting[agent]:
                found.setdefault(thing, []).append(agent)
        return {thing: tuple(agents) for thing, agents in found.items()}

    @cached_property
    def switches(self) -> Mapping[str, tuple[Agent, ...]]:
        """Return the switch agents of each host."""
        found: dict[str, tuple[Agent, ...]] = {}
        for agent in self.agents.values():
            if agent.abilities.is_switch:
                found[agent.host] = (*found.get(agent.host, ()), agent)
        return found

    def of_type(self, agent_type: str) -> list[Agent]:
        """Return the agents of a type, by host."""
        return sorted((agent for agent in self.agents.values() if agent.agent_type == agent_type), key=lambda agent: (agent.host, agent.id))

    def hosted_by(self, agent: str) -> frozenset[str]:
        """Return the ids of what the agent was read to host."""
        return self.hosting.get(agent, frozenset())

    def load(self, agent: Agent) -> int:
        """Return how many routers or networks an agent hosts, as it says itself if nobody read them."""
        if agent.id in self.hosting:
            return len(self.hosting[agent.id])
        return agent.abilities.figures.get("networks" if agent.agent_type == DHCP else "routers", 0)

    def is_whole(self, agent_type: str) -> bool:
        """Whether what they host was read of all agents of the type, so that what none of them hosts is hosted by none."""
        return all(agent.id in self.hosting for agent in self.agents.values() if agent.agent_type == agent_type)

    def unconverged(self) -> dict[str, tuple[int, int]]:
        """Return by id the agents that do not run as many routers or networks as they host: how many they run, and host.

        An agent that is heard but stays here takes no work: a failure that its heartbeats hide.
        """
        found = {}
        for agent in self.agents.values():
            runs = agent.abilities.figures.get({L3: "routers", DHCP: "networks"}.get(agent.agent_type, ""))
            if runs is not None and agent.id in self.hosting and runs != len(self.hosting[agent.id]):
                found[agent.id] = (runs, len(self.hosting[agent.id]))
        return found

    def with_hosting(self, agent: str, *, added: Collection[str] = (), removed: Collection[str] = ()) -> Snapshot:
        """Return the snapshot with a change of what one agent hosts."""
        return replace(self, hosting={**self.hosting, agent: (self.hosted_by(agent) | frozenset(added)) - frozenset(removed)})


# --- from the API and the bus ------------------------------------------------------------------------------------------------------------


def snapshot_from_api(
    *,
    agents: Iterable[Mapping[str, Any]],
    routers: Iterable[Mapping[str, Any]] = (),
    networks: Iterable[Mapping[str, Any]] = (),
    subnets: Iterable[Mapping[str, Any]] | None = None,
    ports: Iterable[Mapping[str, Any]] = (),
    floating_ips: Iterable[Mapping[str, Any]] = (),
    hosting: Mapping[str, Iterable[Mapping[str, Any]]] | None = None,
) -> Snapshot:
    """Make a snapshot of Neutron's lists.

    `ports` are those of routers: their networks decide where a router can go. `subnets` are needed to tell networks that want DHCP; without them,
    every network with a subnet does. `hosting` is what GET /agents/ID/l3-routers or .../dhcp-networks answered, by agent id: elements with an `id`.
    """
    wired = _wiring(ports)
    addresses: dict[str, int] = {}
    for each in floating_ips:
        if isinstance(router := each.get("router_id"), str):
            addresses[router] = addresses.get(router, 0) + 1
    with_dhcp = None if subnets is None else {_text(each, "network_id", "subnet") for each in subnets if each.get("enable_dhcp", True)}
    found = [agent_from_api(each) for each in agents]
    return Snapshot(
        agents={agent.id: agent for agent in found},
        routers={
            router.id: replace(
                router,
                networks=router.networks | wired.get(router.id, _NO_WIRING).networks,
                interfaces=wired.get(router.id, _NO_WIRING).interfaces,
                floating_ips=addresses.get(router.id, 0),
            )
            for router in map(router_from_api, routers)
        },
        networks={
            network.id: network if with_dhcp is None else replace(network, dhcp=network.id in with_dhcp)
            for network in map(network_from_api, networks)
        },
        hosting={agent: frozenset(_text(each, "id", f"what agent {agent} hosts") for each in things) for agent, things in (hosting or {}).items()},
    )


@dataclass(frozen=True, slots=True)
class _Wiring:
    networks: frozenset[str] = frozenset()
    interfaces: int = 0


_NO_WIRING = _Wiring()


def _wiring(ports: Iterable[Mapping[str, Any]]) -> dict[str, _Wiring]:
    found: dict[str, _Wiring] = {}
    for port in ports:
        owner = port.get("device_owner")
        if owner in ROUTER_PORTS:
            router = _text(port, "device_id", "port")
            before = found.get(router, _NO_WIRING)
            networks = before.networks | {_text(port, "network_id", "port")}
            found[router] = _Wiring(networks, before.interfaces + (owner in INTERFACE_PORTS))
    return found


def agent_from_api(data: Mapping[str, Any]) -> Agent:
    """Read an element of GET /v2.0/agents."""
    agent_type = _text(data, "agent_type", "agent")
    return Agent(
        id=_text(data, "id", "agent"),
        host=_text(data, "host", "agent"),
        agent_type=agent_type,
        admin_state_up=_flag(data, "admin_state_up", "agent", default=True),
        alive=_flag(data, "alive", "agent", default=None),
        zone=_optional_text(data, "availability_zone", "agent"),
        heartbeat_at=time_of(data.get("heartbeat_timestamp"), _name(data, "agent")) or 0.0,
        started_at=time_of(data.get("started_at"), _name(data, "agent")) or 0.0,
        abilities=_abilities(data, "agent"),
    )


def router_from_api(data: Mapping[str, Any]) -> Router:
    """Read an element of GET /v2.0/routers. The networks of its ports are in no such element, but for the gateway's."""
    gateways = [each for each in _list(data, "external_gateways", "router") if isinstance(each, Mapping)]
    single = data.get("external_gateway_info")
    if single is not None and not isinstance(single, Mapping):
        raise SnapshotError(f"{_name(data, 'router')}: external_gateway_info is {single!r}, not an object")
    networks = [_text(each, "network_id", f"gateway of {_name(data, 'router')}") for each in ([single] if single else []) + gateways]
    return Router(
        id=_text(data, "id", "router"),
        name=_optional_text(data, "name", "router"),
        ha=_flag(data, "ha", "router", default=False),
        distributed=_flag(data, "distributed", "router", default=False),
        admin_state_up=_flag(data, "admin_state_up", "router", default=True),
        zones=_texts(data, "availability_zone_hints", "router"),
        tags=_texts(data, "tags", "router"),
        gateway=networks[0] if networks else "",
        networks=frozenset(networks),
    )


def network_from_api(data: Mapping[str, Any]) -> Network:
    """Read an element of GET /v2.0/networks, as an administrator sees it, with the `provider:` attributes."""
    segments = [each for each in _list(data, "segments", "network") if isinstance(each, Mapping)] or [data]
    return Network(
        id=_text(data, "id", "network"),
        name=_optional_text(data, "name", "network"),
        segments=tuple(
            Segment(kind, _optional_text(each, "provider:physical_network", "network"))
            for each in segments
            if (kind := _optional_text(each, "provider:network_type", "network"))
        ),
        zones=_texts(data, "availability_zone_hints", "network"),
        tags=_texts(data, "tags", "network"),
        dhcp=bool(_list(data, "subnets", "network")),
    )


def heartbeat_from_message(message: Mapping[str, Any]) -> Heartbeat | None:
    """Read a decoded `oslo.message`; return None if it is no `report_state`.

    Of the agent's state its `uuid` is not looked at: agents make up a new one at each start, it is not the id that Neutron's API goes by.
    """
    if message.get("method") != "report_state":
        return None
    outer = _object(message, "args", "report_state")
    state = _object(_object(outer, "agent_state", "report_state"), "agent_state", "report_state")
    key = AgentKey(_text(state, "agent_type", "report_state"), _text(state, "host", "report_state"))
    return Heartbeat(key, time_of(outer.get("time"), f"report_state of {key}"), bool(state.get("start_flag")), _abilities(state, "report_state"))


def time_of(text: object, of: str) -> float | None:
    """Return the seconds since 1970 of a time as Neutron writes it, in UTC with a blank or a T in the middle; None for None."""
    if text is None:
        return None
    try:
        when = dt.datetime.fromisoformat(str(text))
    except ValueError:
        raise SnapshotError(f"{of}: {text!r} is no time, which would look like 2026-11-21 09:33:14") from None
    return (when if when.tzinfo else when.replace(tzinfo=dt.UTC)).timestamp()


def _abilities(data: Mapping[str, Any], kind: str) -> Abilities:
    said = data.get("configurations")
    if said is None:
        return Abilities()
    if not isinstance(said, Mapping):
        raise SnapshotError(f"{_name(data, kind)}: configurations is {said!r}, not an object")
    mappings = said.get("bridge_mappings")
    if mappings is not None and not isinstance(mappings, Mapping):
        raise SnapshotError(f"{_name(data, kind)}: bridge_mappings is {mappings!r}, not an object")
    return Abilities(
        mode=str(said.get("agent_mode") or "legacy"),
        handles_internal_only=bool(said.get("handle_internal_only_routers", True)),
        only_router=str(said.get("router_id") or ""),
        physical_networks=frozenset(map(str, mappings or ())),
        tunnel_types=_texts(said, "tunnel_types", _name(data, kind)),
        is_switch=mappings is not None,
        figures={str(key): value for key, value in said.items() if isinstance(value, int) and not isinstance(value, bool)},
    )


def _name(data: Mapping[str, Any], kind: str) -> str:
    called = data.get("id") or data.get("host") or data.get("name")
    return f"{kind} {called}" if called else kind


def _object(data: Mapping[str, Any], key: str, kind: str) -> Mapping[str, Any]:
    value = data.get(key)
    if not isinstance(value, Mapping):
        raise SnapshotError(f"{_name(data, kind)}: {key} is {value!r}, not an object")
    return value


def _text(data: Mapping[str, Any], key: str, kind: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value:
        raise SnapshotError(f"{_name(data, kind)}: {key} is {value!r}, not a text")
    return value


def _optional_text(data: Mapping[str, Any], key: str, kind: str) -> str:
    return _text(data, key, kind) if data.get(key) else ""


def _flag(data: Mapping[str, Any], key: str, kind: str, *, default: bool | None) -> bool:
    value = data.get(key, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, bool):
        raise SnapshotError(f"{_name(data, kind)}: {key} is {value!r}, not true or false")
    return value


def _list(data: Mapping[str, Any], key: str, kind: str) -> list[Any]:
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise SnapshotError(f"{_name(data, kind)}: {key} is {value!r}, not a list")
    return list(value)


def _texts(data: Mapping[str, Any], key: str, kind: str) -> frozenset[str]:
    values = _list(data, key, kind)
    if not all(isinstance(each, str) for each in values):
        raise SnapshotError(f"{_name(data, kind)}: {key} is {values!r}, not a list of texts")
    return frozenset(values)
