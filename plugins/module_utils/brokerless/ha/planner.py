# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What to do: a snapshot of the cloud, verdicts and a policy in, a plan out. No sockets, no clock, no memory of earlier plans.

Rules that hold for every plan:
* something is added only to agents that are alive, enabled, heard on the bus just now, in a zone that was asked for, and that reach its networks;
* nothing is taken from an agent that is not dead, unless the operator drains its host or has the loads evened out;
* a router with several members (HA) gets the new one before it loses the old one, and its other members are not touched; so do networks;
* nothing that carries the hands-off tag, and nothing that somebody else is moving, is touched;
* what has nowhere to go stays where it is, and is listed with the reason of each agent;
* the same snapshot, verdicts and policy give the same plan, and a plan that was carried out leaves nothing to plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from .eligibility import COMPUTE_MODES, Candidates, Eligibility
from .liveness import Forwarding, Judgement, State, Verdict
from .placement import Placement
from .plan import Action, Kind, Plan, Unplaced
from .policy import Fencing, PolicySettings
from .snapshot import DHCP, L3, Agent, Network, Router, Snapshot

RANK_FENCE, RANK_ROUTER, RANK_UNSERVED, RANK_REDUNDANCY, RANK_NETWORK, RANK_EVEN, RANK_DISABLE = range(7)
"""The order of a plan: what is cut off comes before what has lost a spare."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What else a plan has to go by, beside the cloud: what the operator wants, and what the daemon remembers.

    `managed` are the agent types that are taken care of. Hosts that are `cordoned` get nothing new; those `draining` also lose what they have. Of
    `fenced` hosts it is proven that they forward nothing. `stand_back` says by the id of a thing or an agent why it is left alone for now. `orphans`
    are routers and networks that have had no agent for `orphan_after`. `failback_moves` routers may be moved to even out the loads.
    """

    managed: frozenset[str] = frozenset({L3, DHCP})
    cordoned: frozenset[str] = frozenset()
    draining: frozenset[str] = frozenset()
    fenced: frozenset[str] = frozenset()
    stand_back: Mapping[str, str] = field(default_factory=dict)
    orphans: frozenset[str] = frozenset()
    failback_moves: int = 0


NO_WISHES = Wishes()


def plan_watch(snapshot: Snapshot, judgement: Judgement, policy: PolicySettings, wishes: Wishes = NO_WISHES) -> Plan:
    """Plan what rpcdaemon does by itself: leave dead agents, go on with drains, serve networks, adopt orphans, move back within the budget."""
    planner = _Planner(snapshot, judgement, policy, wishes)
    if planner.is_deaf():
        return planner.finish("watch", hurry=True)
    dead = planner.dead_agents()
    planner.leave(dead | planner.agents_on(wishes.draining, "its host is drained"))
    planner.serve_networks()
    planner.adopt_routers()
    if wishes.failback_moves and not planner.in_trouble():
        planner.even_out(wishes.failback_moves, None)
    planner.disable_drained()
    return planner.finish("watch", hurry=bool(dead))


def plan_undrain(
    snapshot: Snapshot, judgement: Judgement, policy: PolicySettings, host: str, wishes: Wishes = NO_WISHES, budget: int | None = None
) -> Plan:
    """Plan to let a host have its share again: at most `budget` moves, only to it."""
    wishes = replace(wishes, draining=wishes.draining - {host}, cordoned=wishes.cordoned - {host})
    planner = _Planner(snapshot, judgement, policy, wishes)
    if not planner.is_deaf():
        planner.even_out(budget, host)
        planner.serve_networks(host)
    return planner.finish(f"undrain {host}")


def plan_rebalance(snapshot: Snapshot, judgement: Judgement, policy: PolicySettings, wishes: Wishes = NO_WISHES, budget: int | None = None) -> Plan:
    """Plan to even out the numbers of routers, until they differ by no more than `rebalance_threshold`, with at most `budget` moves."""
    planner = _Planner(snapshot, judgement, policy, wishes)
    if not planner.is_deaf():
        planner.even_out(budget, None)
    return planner.finish("rebalance")


def what_if(snapshot: Snapshot, judgement: Judgement, policy: PolicySettings, hosts: Iterable[str], wishes: Wishes = NO_WISHES) -> Plan:
    """Plan as if the hosts were dead now, whatever the guard would say: who would get what, and what would have nowhere to go."""
    gone = frozenset(hosts)
    verdicts = {
        agent: replace(verdict, state=State.DEAD, reason="taken to be dead", heard_now=False, held_back="", forwarding=Forwarding.STOPPED)
        if verdict.agent.host in gone
        else verdict
        for agent, verdict in judgement.verdicts.items()
    }
    return replace(
        plan_watch(snapshot, replace(judgement, verdicts=verdicts, freezes=(), deaf=""), policy, replace(wishes, failback_moves=0)),
        purpose=f"what if {', '.join(sorted(gone))} died",
    )


@dataclass(eq=False, slots=True)
class _Draft:
    """An action before it has its number: `order` is its place in the plan."""

    kind: Kind
    thing: str
    name: str
    reason: str
    order: tuple[object, ...]
    source: Agent | None = None
    target: Agent | None = None
    needs: list[_Draft] = field(default_factory=list)
    after: list[_Draft] = field(default_factory=list)
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Leaving:
    """A router that one agent at a time hosts and that leaves `source`, for `why`; an orphan has no source."""

    router: Router
    source: Agent | None
    why: str
    candidates: Candidates
    rank: int


class _Planner:
    """Collects the actions of one plan."""

    def __init__(self, snapshot: Snapshot, judgement: Judgement, policy: PolicySettings, wishes: Wishes) -> None:
        self.notes: list[str] = []
        self._snapshot = snapshot
        self._judgement = judgement
        self._policy = policy
        self._wishes = wishes
        barred = dict.fromkeys(sorted(wishes.cordoned), "its host is cordoned") | dict.fromkeys(sorted(wishes.draining), "its host is drained")
        self.eligibility = Eligibility(snapshot, judgement, barred)
        agents = [agent for agent in snapshot.agents.values() if agent.agent_type in {L3, DHCP}]
        self._placement = Placement({agent.id: snapshot.load(agent) for agent in agents}, agents)
        self._drafts: list[_Draft] = []
        self._unplaced: list[Unplaced] = []
        self._leaving: dict[str, str] = {}
        self._stay: set[str] = set()
        self._fences: dict[str, _Draft] = {}

    # --- from where ----------------------------------------------------------------------------------------------------------------------

    def is_deaf(self) -> bool:
        """Whether nothing can be planned since we hear nothing."""
        if self._judgement.deaf:
            self.notes.append(f"nothing is moved: {self._judgement.deaf}")
        return bool(self._judgement.deaf)

    def is_frozen(self, agent_type: str) -> bool:
        """Whether the mass-failure guard holds back agents of the type, in any zone: then nothing new is begun."""
        return any(freeze.scope.agent_type in {"", agent_type} for freeze in self._judgement.freezes)

    def in_trouble(self) -> bool:
        """Whether an agent is dead that still hosts something, or something has no place: no time to even out."""
        if self.is_frozen(L3):
            return True
        dead = (verdict.agent for verdict in self._judgement.verdicts.values() if verdict.state is State.DEAD)
        return (
            bool(self._unplaced)
            or bool(self._drafts)
            or any(self._snapshot.load(agent) for agent in dead if agent.agent_type in self._wishes.managed)
        )

    def dead_agents(self) -> dict[str, str]:
        """Return the agents (ids) that are dead and may be evacuated, with the reason; those that may not become notes."""
        found = {}
        for agent in self._managed_agents():
            verdict = self._verdict(agent)
            if verdict is None or verdict.state is not State.DEAD:
                continue
            if verdict.held_back:
                self.notes.append(f"{agent} is dead, but nothing leaves it: {verdict.held_back}")
            elif not agent.admin_state_up and not self._policy.evacuate_disabled:
                self.notes.append(f"{agent} is dead, but nothing leaves it: it is disabled, and evacuate_disabled is off")
            elif why := self._wishes.stand_back.get(agent.id):
                self.notes.append(f"{agent} is dead, but nothing leaves it for now: {why}")
            else:
                found[agent.id] = f"{agent} is dead: {verdict.reason}"
        return found

    def agents_on(self, hosts: Iterable[str], why: str) -> dict[str, str]:
        """Return the managed agents (ids) of the hosts, each with why it is left."""
        wanted = frozenset(hosts)
        return {agent.id: f"{agent}: {why}" for agent in self._managed_agents() if agent.host in wanted}

    def _managed_agents(self) -> list[Agent]:
        return [agent for agent_type in sorted(self._wishes.managed) for agent in self._snapshot.of_type(agent_type)]

    def _verdict(self, agent: Agent) -> Verdict | None:
        return self._judgement.verdicts.get(agent.id)

    def _heard(self, agent: str) -> bool:
        verdict = self._judgement.verdicts.get(agent)
        return verdict is not None and verdict.heard_now

    # --- routers -------------------------------------------------------------------------------------------------------------------------

    def leave(self, agents: Mapping[str, str]) -> None:
        """Plan to take all routers off the agents; their networks follow in `serve_networks`."""
        self._leaving = dict(agents)
        single: list[_Leaving] = []
        members: dict[str, Router] = {}
        for agent in (self._snapshot.agents[each] for each in agents):
            if agent.agent_type != L3:
                continue
            if agent.id not in self._snapshot.hosting:
                self._stay.add(agent.id)
                self.notes.append(f"{agent} is to be left, but what it hosts was not read")
            unfenced = self._unfenced(agent)
            for router in self._hosted_routers(agent):
                if agent.abilities.mode in COMPUTE_MODES:
                    self._leave_alone(router, agent, f"{agent} is in agent_mode {agent.abilities.mode}: its part of a router is not moved")
                elif router.ha:
                    members[router.id] = router
                elif unfenced:
                    self._stay.add(agent.id)
                else:
                    single.append(_Leaving(router, agent, agents[agent.id], self.eligibility.of_router(router), RANK_ROUTER))
        for router in sorted(members.values(), key=self._priority):
            self._replace_members(router)
        self._move(single)

    def adopt_routers(self) -> None:
        """Plan to give routers an agent that have none, if the policy wants it."""
        if not (self._policy.adopt_orphans and L3 in self._wishes.managed and self._snapshot.is_whole(L3)) or self.is_frozen(L3):
            return
        orphans = [
            _Leaving(
                router, None, f"no agent hosts it for {self._policy.orphan_after:g} s or longer", self.eligibility.of_router(router), RANK_ROUTER
            )
            for router in sorted(self._snapshot.routers.values(), key=self._priority)
            if router.id in self._wishes.orphans and router.id not in self._snapshot.hosts_of and _is_wired(router)
        ]
        self._move([each for each in orphans if self._may_touch(each.router)])

    def _hosted_routers(self, agent: Agent) -> list[Router]:
        routers = self._snapshot.routers
        found = sorted((routers[each] for each in self._snapshot.hosted_by(agent.id) if each in routers), key=self._priority)
        free = [router for router in found if self._may_touch(router)]
        if len(free) < len(found):
            self._stay.add(agent.id)
        return free

    def _may_touch(self, thing: Router | Network) -> bool:
        if self._policy.hands_off_tag in thing.tags:
            why = f"it has the tag {self._policy.hands_off_tag}"
        elif thing.id in self._wishes.stand_back:
            why = self._wishes.stand_back[thing.id]
        else:
            return True
        note = f"{_called(thing)} is left alone: {why}"
        if note not in self.notes:
            self.notes.append(note)
        return False

    def _leave_alone(self, thing: Router | Network, source: Agent | None, reason: str, refused: Mapping[str, str] | None = None) -> None:
        if source is not None:
            self._stay.add(source.id)
        agent_type = L3 if isinstance(thing, Router) else DHCP
        self._unplaced.append(Unplaced(thing.id, thing.name, agent_type, reason, source, refused or {}))

    def _move(self, leaving: list[_Leaving]) -> None:
        """Plan moves of routers that one agent at a time hosts, all together: the loads come out as even as they can."""
        placed = []
        for each in leaving:
            if each.candidates.without(frozenset()):
                placed.append(each)
            else:
                self._leave_alone(each.router, each.source, f"{each.why}; no agent can take it", each.candidates.refused)
        choices = {each.router.id: tuple(agent.id for agent in each.candidates.without(frozenset())) for each in placed}
        self._placement.place([(each.router.id, choices[each.router.id]) for each in sorted(placed, key=lambda each: self._priority(each.router))])
        self._placement.even_out()
        where = self._placement.where()
        for each in placed:
            target = where[each.router.id]
            draft = self._draft(
                Kind.MOVE_ROUTER if each.source else Kind.ADD_ROUTER,
                each.router,
                f"{each.why}; {self._why(target, choices[each.router.id])}",
                each.rank,
                each.source,
                target,
                each.candidates.refused,
            )
            if each.source is not None:
                self._fence_first(each.source, draft)

    def _replace_members(self, router: Router) -> None:
        """Plan to restore the redundancy of an HA router, by a new member before each that is taken away."""
        members = [agent for agent in self._snapshot.hosts_of.get(router.id, ()) if agent in self._snapshot.agents]
        leaving = [agent for agent in members if agent in self._leaving and self._snapshot.agents[agent].abilities.mode not in COMPUTE_MODES]
        leaving.sort(key=self._heard)
        staying = [agent for agent in members if agent not in leaving]
        wanted = min(self._policy.ha_members or len(members), len(members))
        missing = max(0, wanted - len(staying))
        candidates = self.eligibility.of_router(router)
        zones = frozenset(self._snapshot.agents[agent].zone for agent in staying)
        taken = frozenset(members)
        sure = any(self._heard(agent) for agent in staying)
        rank = RANK_REDUNDANCY if sure else RANK_ROUTER
        added: list[_Draft] = []
        for member in leaving:
            source = self._snapshot.agents[member]
            why = self._leaving[member]
            if not missing:
                reason = f"{why}; the router has {len(staying)} other members, as many as it should"
                self._draft(Kind.REMOVE_ROUTER, router, reason, rank, source, None, candidates.refused)
                continue
            choice = tuple(agent.id for agent in candidates.without(taken))
            target = self._placement.least_loaded(choice, zones)
            if target is not None:
                missing -= 1
                taken |= {target.id}
                zones |= {target.zone}
                self._placement.add(target)
                reason = f"{why}; a new member before the old one goes: {self._why(target, choice)}"
                added.append(self._draft(Kind.ADD_ROUTER, router, reason, rank, None, target, candidates.refused))
                removing = self._draft(Kind.REMOVE_ROUTER, router, f"{why}; it has a new member on {target.host}", rank, source, None, {})
                removing.needs.append(added[-1])
            elif source.host in self._wishes.draining and (sure or added):
                reason = f"{why}; no other agent can take a member, and {len(staying) + len(added)} are left: it has less redundancy"
                removing = self._draft(Kind.REMOVE_ROUTER, router, reason, rank, source, None, candidates.refused)
                removing.needs += [] if sure else added[:1]
            else:
                self._leave_alone(router, source, f"{why}; no other agent can take a member", candidates.refused)

    def _unfenced(self, agent: Agent) -> bool:
        """Whether the agent's routers have to stay, as its host had to be fenced and was not."""
        failed = self._wishes.stand_back.get(agent.host)
        if not failed or not self._to_fence(agent) or self._policy.fencing_of(agent.host) is not Fencing.REQUIRE:
            return False
        self.notes.append(f"{agent} is dead, but its routers stay, as fencing is {Fencing.REQUIRE}: {failed}")
        return True

    def _to_fence(self, agent: Agent) -> bool:
        """Whether the agent is dead and its namespaces may still forward, as far as it is known."""
        verdict = self._verdict(agent)
        dead = verdict is not None and verdict.state is State.DEAD and verdict.forwarding is not Forwarding.STOPPED
        return dead and agent.host not in self._wishes.fenced

    def _fence_first(self, source: Agent, move: _Draft) -> None:
        """Let a move wait for the fencing of the host that it leaves, if that is dead and may still forward."""
        verdict = self._verdict(source)
        policy = self._policy.fencing_of(source.host)
        if verdict is None or not self._to_fence(source):
            return
        may = "its namespaces may still forward" if verdict.forwarding is Forwarding.MAY_FORWARD else "it is not known whether it still forwards"
        if policy is Fencing.NONE:
            move.reason += f"; {may}, and fencing is none: until the host is off or its agent is back there may be two of this router"
            return
        if failed := self._wishes.stand_back.get(source.host):
            # try: it was tried
            move.reason += f"; {may}, and there may be two of this router: {failed}"
            return
        if source.host not in self._fences:
            reason = f"{source} is dead and {may}; fencing is {policy}"
            self._fences[source.host] = _Draft(Kind.FENCE, source.host, source.host, reason, (RANK_FENCE, (), source.host, 0), source)
            self._drafts.append(self._fences[source.host])
        (move.needs if policy is Fencing.REQUIRE else move.after).append(self._fences[source.host])

    # --- networks ------------------------------------------------------------------------------------------------------------------------

    def serve_networks(self, host: str | None = None) -> None:
        """Plan that every network which wants DHCP is served by as many agents as the policy says, and by none that is left.

        With `host`, only what its agents gain.
        """
        if DHCP not in self._wishes.managed or not self._snapshot.of_type(DHCP):
            return
        if not self._snapshot.is_whole(DHCP):
            unread = [agent.host for agent in self._snapshot.of_type(DHCP) if agent.id not in self._snapshot.hosting]
            self.notes.append(f"networks are left as they are: it was not read which are served on {', '.join(unread)}")
            self._stay.update(agent for agent in self._leaving if self._snapshot.agents[agent].agent_type == DHCP)
            return
        for network in sorted(self._snapshot.networks.values(), key=self._priority):
            servers = self._snapshot.hosts_of.get(network.id, ())
            leaving = [agent for agent in servers if agent in self._leaving]
            if network.dhcp or leaving:
                if self._may_touch(network):
                    self._serve(network, leaving, [agent for agent in servers if agent not in self._leaving], host)
                else:
                    self._stay.update(leaving)

    def _serve(self, network: Network, leaving: list[str], staying: list[str], host: str | None) -> None:
        candidates = self.eligibility.of_network(network)
        sure = [agent for agent in staying if self._heard(agent)]
        rank = RANK_NETWORK if sure else RANK_UNSERVED
        may_add = network.dhcp and (bool(leaving) or not self.is_frozen(DHCP))
        added = self._add_servers(network, candidates, leaving, staying, rank, host) if may_add else []
        for agent in leaving:
            source = self._snapshot.agents[agent]
            if sure or added or not network.dhcp:
                rest = f"{len(sure)} other agents serve it" if sure else "another agent gets it first" if added else "it wants no DHCP"
                removing = self._draft(Kind.REMOVE_NETWORK, network, f"{self._leaving[agent]}; {rest}", rank, source, None, {})
                if not sure:
                    removing.needs += added[:1]
            else:
                what = f"its other agents ({len(staying)}) are not heard" if staying else "no other agent can serve it"
                self._leave_alone(network, source, f"{self._leaving[agent]}; {what}", candidates.refused)
        wanted = self._policy.dhcp_agents_per_network
        if self._policy.dhcp_trim and wanted and host is None and len(sure) > wanted:
            self._trim(network, candidates, sure, len(sure) - wanted)

    def _add_servers(
        self, network: Network, candidates: Candidates, leaving: list[str], staying: list[str], rank: int, host: str | None
    ) -> list[_Draft]:
        taken = frozenset(leaving) | frozenset(staying)
        free = candidates.without(taken) if not staying else tuple(agent for agent in candidates.usable if agent.id not in taken)
        choice = tuple(agent.id for agent in free if host is None or agent.host == host)
        wanted = self._policy.dhcp_agents_per_network
        if wanted and not taken and not (self._policy.adopt_orphans and network.id in self._wishes.orphans):
            return []
        if wanted == 0:
            chosen = [(self._snapshot.agents[agent], "every live agent that can serves it") for agent in choice]
            for target, _goal in chosen:
                self._placement.add(target)
        else:
            chosen = self._spread(choice, wanted - len(staying), frozenset(self._snapshot.agents[agent].zone for agent in staying))
        why = "".join(f"{self._leaving[agent]}; " for agent in leaving)
        added = [self._draft(Kind.ADD_NETWORK, network, why + goal, rank, None, target, candidates.refused) for target, goal in chosen]
        if not added and not taken and not candidates.without(frozenset()):
            self._leave_alone(network, None, "no agent serves it, and none can", candidates.refused)
        return added

    def _spread(self, choice: tuple[str, ...], number: int, zones: frozenset[str]) -> list[tuple[Agent, str]]:
        """Choose `number` agents, the least loaded ones, of zones that have none first; return each with the reason."""
        chosen: list[tuple[Agent, str]] = []
        while len(chosen) < number and (target := self._placement.least_loaded(choice, zones)) is not None:
            self._placement.add(target)
            chosen.append((target, f"{self._policy.dhcp_agents_per_network} agents serve a network: {self._why(target, choice)}"))
            choice = tuple(agent for agent in choice if agent != target.id)
            zones |= {target.zone}
        return chosen

    def _trim(self, network: Network, candidates: Candidates, sure: list[str], surplus: int) -> None:
        fit = {agent.id for agent in candidates.usable}
        order = sorted(sure, key=lambda agent: (agent in fit, -self._placement.loads[agent], self._snapshot.agents[agent].host))
        for agent in order[:surplus]:
            self._placement.loads[agent] -= 1
            reason = f"{len(sure)} agents serve it, {self._policy.dhcp_agents_per_network} should (dhcp_trim)"
            self._draft(Kind.REMOVE_NETWORK, network, reason, RANK_EVEN, self._snapshot.agents[agent], None, {})

    # --- even loads ----------------------------------------------------------------------------------------------------------------------

    def even_out(self, budget: int | None, host: str | None) -> None:
        """Plan to move routers from agents that have many to those that have few; with `host`, only to that one's."""
        if L3 not in self._wishes.managed:
            return
        if not self._snapshot.is_whole(L3):
            self.notes.append("loads are not evened out: it was not read what every L3 agent hosts")
            return
        agents = self._snapshot.of_type(L3)
        placement = Placement({agent.id: self._snapshot.load(agent) for agent in agents}, agents)
        routers: dict[str, tuple[Router, Agent, Candidates]] = {}
        for agent in agents:
            if not self._is_sound(agent) or agent.abilities.mode in COMPUTE_MODES:
                continue
            for router in self._hosted_routers(agent):
                if router.ha:
                    continue
                candidates = self.eligibility.of_router(router)
                choice = tuple(each.id for each in candidates.usable if host is None or each.host == host)
                if any(each != agent.id for each in choice):
                    routers[router.id] = (router, agent, candidates)
                    placement.put(router.id, agent.id, choice)
        before = dict(placement.loads)
        placement.even_out(self._policy.rebalance_threshold + 1, budget)
        where = placement.where()
        for router, source, candidates in routers.values():
            target = where[router.id]
            if target.id != source.id:
                reason = f"{source.host} hosts {before[source.id]} routers and {target.host} {before[target.id]}"
                self._draft(Kind.MOVE_ROUTER, router, reason, RANK_EVEN, source, target, candidates.refused)

    def _is_sound(self, agent: Agent) -> bool:
        verdict = self._verdict(agent)
        return verdict is not None and verdict.state in {State.ALIVE, State.RETURNING} and agent.id not in self._wishes.stand_back

    def disable_drained(self) -> None:
        """Plan to disable the agents of drained hosts, each after all that leaves it; not those on which something stays."""
        if not self._policy.disable_after_drain:
            return
        for agent in (self._snapshot.agents[each] for each in self._leaving):
            if agent.host in self._wishes.draining and agent.id not in self._stay and agent.admin_state_up and agent.id in self._snapshot.hosting:
                draft = _Draft(
                    Kind.DISABLE_AGENT, agent.id, str(agent), "its host is drained, and nothing is left on it", (RANK_DISABLE, (), agent.id, 0), agent
                )
                draft.needs += [
                    each for each in self._drafts if each.source is not None and each.source.id == agent.id and each.kind is not Kind.FENCE
                ]
                self._drafts.append(draft)

    # --- the plan ------------------------------------------------------------------------------------------------------------------------

    def _priority(self, thing: Router | Network) -> tuple[object, ...]:
        first = self._policy.priority_tag not in thing.tags
        if isinstance(thing, Router):
            return (first, not thing.admin_state_up, -thing.floating_ips, -thing.interfaces, thing.id)
        return (first, False, 0, 0, thing.id)

    def _draft(
        self,
        kind: Kind,
        thing: Router | Network,
        reason: str,
        rank: int,
        source: Agent | None,
        target: Agent | None,
        refused: Mapping[str, str],
    ) -> _Draft:
        order = (rank, self._priority(thing), thing.id, len(self._drafts))
        draft = _Draft(kind, thing.id, thing.name, reason, order, source, target, refused=refused)
        self._drafts.append(draft)
        return draft

    def _why(self, target: Agent, choice: tuple[str, ...]) -> str:
        """Say why an agent was chosen: its load when the plan is carried out, and that of others."""
        loads = self._placement.loads
        if len(choice) == 1:
            return f"{target.host} is the only one that can take it"
        others = sorted((loads[agent], self._snapshot.agents[agent].host) for agent in choice if agent != target.id)
        named = ", ".join(f"{host} {load}" for load, host in others[:4]) + (", ..." if len(others) > 4 else "")
        return f"{target.host} will host {loads[target.id]}, of {len(choice)} that can take it (others: {named})"

    def finish(self, purpose: str, *, hurry: bool = False) -> Plan:
        """Put the actions into their order and number them from 1."""
        self._drafts.sort(key=lambda draft: draft.order)
        number = {id(draft): place for place, draft in enumerate(self._drafts, 1)}
        actions = tuple(
            Action(
                number[id(draft)],
                draft.kind,
                draft.thing,
                draft.name,
                draft.reason,
                draft.source,
                draft.target,
                tuple(number[id(each)] for each in draft.needs),
                tuple(number[id(each)] for each in draft.after),
                draft.refused,
            )
            for draft in self._drafts
        )
        return Plan(purpose, actions, tuple(self._unplaced), tuple(self.notes), **self._policy.carried_out(hurry=hurry))


def _is_wired(router: Router) -> bool:
    """Whether Neutron itself would give the router an agent: it does so at its first interface or gateway, and for SNAT at the gateway."""
    return bool(router.gateway) or (bool(router.interfaces) and not router.distributed)


def _called(thing: Router | Network) -> str:
    kind = "router" if isinstance(thing, Router) else "network"
    return f"{kind} {thing.id}" + (f" ({thing.name})" if thing.name else "")
