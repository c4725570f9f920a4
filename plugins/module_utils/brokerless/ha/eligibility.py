# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Which agents can take a router or a network, and why each of the others can't.

Neutron's API checks next to nothing of this when something is added by hand: it binds to dead agents, to hosts without the physical network, and
outside the zones that were asked for. The filters follow neutron.db.l3_agentschedulers_db (get_l3_agent_candidates), the zone-aware schedulers, and
the check that ML2's mechanism drivers make for a segment (check_segment_for_agent).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .liveness import Judgement, State
from .snapshot import BOUND_TO_PHYSICAL, DHCP, L3, Agent, Network, Router, Segment, Snapshot

SNAT_MODE = "dvr_snat"
COMPUTE_MODES = frozenset({"dvr", "dvr_no_external"})
"""Modes of L3 agents on compute nodes, which host the distributed part of routers only: nothing is moved to them nor from them."""


@dataclass(frozen=True, slots=True)
class Demand:
    """All that decides where something can go. What has an equal demand has the same choice.

    Of each network in `networks` one of the segments must be reachable. `router` is the id if an agent is reserved for it.
    """

    agent_type: str
    distributed: bool = False
    internal_only: bool = False
    router: str = ""
    zones: frozenset[str] = frozenset()
    networks: frozenset[tuple[Segment, ...]] = frozenset()


@dataclass(frozen=True, slots=True)
class Candidates:
    """Who can take something. `reserve` are asked if there is no other; `refused` says by agent id why it can't, or is in reserve only."""

    usable: tuple[Agent, ...]
    reserve: tuple[Agent, ...]
    refused: Mapping[str, str]

    def without(self, taken: frozenset[str]) -> tuple[Agent, ...]:
        """Return those to choose from if the `taken` agents (ids) are out of the question."""
        return tuple(agent for agent in self.usable if agent.id not in taken) or tuple(agent for agent in self.reserve if agent.id not in taken)


class Eligibility:
    """Answers for one snapshot. `barred` are hosts that get nothing, with the reason. `checks` counts how often an agent was held to a demand."""

    def __init__(self, snapshot: Snapshot, judgement: Judgement, barred: Mapping[str, str]) -> None:
        self._snapshot = snapshot
        self._judgement = judgement
        self._barred = barred
        self._reserved_for = {agent.abilities.only_router for agent in snapshot.agents.values()} - {""}
        self._known: dict[Demand, Candidates] = {}
        self._unusable: dict[str, str] = {}
        self.checks = 0

    def of_router(self, router: Router) -> Candidates:
        """Return who can take the router; of a distributed one, the part that translates addresses (SNAT)."""
        return self.of(
            Demand(
                L3,
                distributed=router.distributed,
                internal_only=not router.gateway,
                router=router.id if router.id in self._reserved_for else "",
                zones=router.zones,
                networks=frozenset(self._snapshot.networks[network].segments for network in router.networks if network in self._snapshot.networks),
            )
        )

    def of_network(self, network: Network) -> Candidates:
        """Return who can serve the network with DHCP."""
        return self.of(Demand(DHCP, zones=network.zones, networks=frozenset({network.segments})))

    def of(self, demand: Demand) -> Candidates:
        """Return who can meet the demand."""
        if demand not in self._known:
            usable, reserve, refused = [], [], {}
            for agent in self._snapshot.of_type(demand.agent_type):
                self.checks += 1
                if why := self.unusable(agent) or _mode(demand, agent) or _zone(demand, agent) or self._reach(demand, agent):
                    refused[agent.id] = why
                elif why := self._judgement.verdicts[agent.id].reluctance:
                    reserve.append(agent)
                    refused[agent.id] = f"only if nobody else can: {why}"
                else:
                    usable.append(agent)
            self._known[demand] = Candidates(tuple(usable), tuple(reserve), refused)
        return self._known[demand]

    def unusable(self, agent: Agent) -> str:
        """Return why nothing at all is moved to the agent, empty if something may be."""
        if agent.id not in self._unusable:
            self._unusable[agent.id] = self._barred.get(agent.host, "") or _disabled(agent) or self._not_alive(agent) or self._gray(agent)
        return self._unusable[agent.id]

    def _not_alive(self, agent: Agent) -> str:
        verdict = self._judgement.verdicts.get(agent.id)
        if verdict is None:
            return "it was not judged yet"
        if verdict.state not in {State.ALIVE, State.RETURNING}:
            return f"{verdict.state}: {verdict.reason}"
        return "" if verdict.heard_now else "it was not heard on the bus just now"

    def _gray(self, agent: Agent) -> str:
        switches = self._snapshot.switches.get(agent.host, ())
        if switches and not any(self._heard(each) for each in switches):
            return f"{switches[0].agent_type} of its host is not heard: no port would be plugged there"
        return ""

    def _heard(self, agent: Agent) -> bool:
        verdict = self._judgement.verdicts.get(agent.id)
        return verdict is not None and verdict.heard_now

    def _reach(self, demand: Demand, agent: Agent) -> str:
        if not self._snapshot.switches or not demand.networks:
            return ""
        switches = self._snapshot.switches.get(agent.host, ())
        for segments in sorted(demand.networks):
            if segments and not any(_can_reach(switch, segment) for switch in switches for segment in segments):
                needed = " or ".join(map(str, segments))
                return f"its host can't reach {needed}" if switches else f"no switch agent of its host says whether it reaches {needed}"
        return ""


def _can_reach(switch: Agent, segment: Segment) -> bool:
    if segment.network_type in BOUND_TO_PHYSICAL:
        return segment.physical_network in switch.abilities.physical_networks
    return segment.network_type == "local" or segment.network_type in switch.abilities.tunnel_types


def _disabled(agent: Agent) -> str:
    return "" if agent.admin_state_up else "it is disabled (admin_state_up is false)"


def _mode(demand: Demand, agent: Agent) -> str:
    if agent.agent_type != L3:
        return ""
    can = agent.abilities
    if can.mode in COMPUTE_MODES:
        return f"its agent_mode is {can.mode}: it hosts only the distributed part of routers"
    if demand.distributed and can.mode != SNAT_MODE:
        return f"its agent_mode is {can.mode}: a distributed router needs {SNAT_MODE}"
    if can.only_router and can.only_router != demand.router:
        return f"it is reserved for router {can.only_router}"
    if demand.internal_only and not can.handles_internal_only:
        return "it takes no router without a gateway (handle_internal_only_routers)"
    return ""


def _zone(demand: Demand, agent: Agent) -> str:
    if demand.zones and agent.zone not in demand.zones:
        return f"its zone is {agent.zone or 'not known'}, wanted {' or '.join(sorted(demand.zones))}"
    return ""
