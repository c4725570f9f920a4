# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Who is dead: several witnesses are heard, and whatever they disagree about is a suspicion, never a death.

Three rules. Whatever changes an agent's state lives in this file. An agent is dead only if the bus was silent for long enough while we could hear,
and Neutron's server, asked since, says that it is not alive, and both stayed so for `hold_off`. And no agent's own clock is compared with anything:
reports count from when they arrive, and Neutron's times are compared only with each other. No clock: `now` is monotonic seconds; a host's
sleep should be part of it (CLOCK_BOOTTIME), or `wall` be given to `tick`.

| from | to | when |
|---|---|---|
| any | unknown | we are deaf, or have not listened long enough since a gap to say anything |
| unknown, suspect that had not been dead | alive | a report is not overdue, Neutron does not say otherwise |
| any | suspect | a report is overdue; or the bus is silent and Neutron hears it; or the bus hears it and Neutron does not; or the hold-off runs |
| suspect | dead | bus silent for agent_down_time (unheard_after if never heard since we listen), Neutron says not alive, for hold_off |
| dead, or suspect that had been dead | returning | it is heard again |
| returning | alive | it was heard for return_after without a late report |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .hearing import Hearing
from .mass_failure import Freeze, MassFailureGuard, Member
from .policy import PolicySettings
from .snapshot import DHCP, L3, OVN, Abilities, Agent, AgentKey, Heartbeat

MAX_STRANGERS = 1000
"""So many agents are remembered that are heard and not in Neutron's list: they may be there the next time we ask."""


class State(StrEnum):
    """What is known of an agent."""

    UNKNOWN = "unknown"
    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    RETURNING = "returning"


class Forwarding(StrEnum):
    """Whether the namespaces of an agent that is not heard may still forward packets."""

    STOPPED = "stopped"
    MAY_FORWARD = "may forward"
    NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Witness:
    """What one witness says: `says` is alive, overdue, silent, dead or unknown, `detail` the words for an operator."""

    name: str
    says: str
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of one agent, and by whom.

    `heard_now` says whether a report is not overdue: only then something may be moved to it. `reluctance` says why it gets something only if
    nobody else can. `held_back` says why it is not evacuated although it is dead. `silence` is in seconds, None if it was never heard.
    """

    agent: Agent
    state: State
    reason: str
    witnesses: tuple[Witness, ...] = ()
    heard_now: bool = False
    silence: float | None = None
    forwarding: Forwarding = Forwarding.NOT_KNOWN
    reluctance: str = ""
    held_back: str = ""
    penalty: float = 0.0
    for_seconds: float = 0.0

    @property
    def evacuate(self) -> bool:
        """Whether what the agent hosts is to be moved away."""
        return self.state is State.DEAD and not self.held_back

    def to_json(self) -> dict[str, Any]:
        """Return it for `--json` and the audit log."""
        return {
            "agent": self.agent.id,
            "agent_type": self.agent.agent_type,
            "host": self.agent.host,
            "zone": self.agent.zone,
            "state": self.state.value,
            "for_seconds": round(self.for_seconds, 1),
            "reason": self.reason,
            "silence_seconds": None if self.silence is None else round(self.silence, 1),
            "heard_now": self.heard_now,
            "forwarding": self.forwarding.value,
            "evacuate": self.evacuate,
            "held_back": self.held_back,
            "reluctance": self.reluctance,
            "penalty": round(self.penalty, 2),
            "witnesses": {each.name: {"says": each.says, "detail": each.detail} for each in self.witnesses},
        }


@dataclass(frozen=True, slots=True)
class Judgement:
    """All verdicts at one moment, by agent id. `deaf` says why nobody can be judged, empty if we hear."""

    verdicts: Mapping[str, Verdict]
    freezes: tuple[Freeze, ...] = ()
    deaf: str = ""
    strangers: tuple[AgentKey, ...] = ()
    skews: Mapping[AgentKey, float] = field(default_factory=dict)
    at: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return it for `--json`: agents by type and host."""
        ordered = sorted(self.verdicts.values(), key=lambda verdict: (verdict.agent.agent_type, verdict.agent.host))
        return {
            "deaf": self.deaf,
            "freezes": [freeze.to_json(self.at) for freeze in self.freezes],
            "agents": [verdict.to_json() for verdict in ordered],
            "strangers": [{"agent_type": key.agent_type, "host": key.host} for key in self.strangers],
            "clock_skew_seconds": [
                {"agent_type": key.agent_type, "host": key.host, "ahead": round(skew, 1)} for key, skew in sorted(self.skews.items())
            ],
        }


@dataclass(frozen=True, slots=True)
class Transition:
    """An agent's state changed; `reason` is in an operator's words."""

    agent: Agent
    before: State
    after: State
    reason: str

    def __str__(self) -> str:
        return f"{self.agent}: {self.before} -> {self.after}: {self.reason}"


@dataclass(slots=True)
class _Probe:
    up: bool | None
    detail: str
    at: float


@dataclass(slots=True)
class _Record:
    """What is remembered of an agent, whether the bus named it or Neutron. Times are monotonic seconds, but those inside `listed`."""

    heard: float | None = None
    heard_before: float | None = None
    heard_on_time_since: float | None = None
    abilities: Abilities | None = None
    listed: Agent | None = None
    listed_at: float = 0.0
    contradicted: bool = False
    """Whether Neutron called it dead when it was asked, though reports had come just before that."""
    seen_in_listing: float = 0.0
    behind_newest: float = 0.0
    grace_until: float = 0.0
    condemned_since: float | None = None
    was_dead: bool = False
    owes_penalty: bool = False
    penalty: float = 0.0
    penalty_at: float = 0.0
    damped: bool = False
    state: State = State.UNKNOWN
    reason: str = "not judged yet"
    since: float = 0.0
    witnesses: tuple[Witness, ...] = ()
    forwarding: Forwarding = Forwarding.NOT_KNOWN


class Judge:
    """Is fed with what was heard and asked, and says who is dead. `managed` are the agent types whose work is moved."""

    def __init__(self, policy: PolicySettings, managed: Iterable[str] = (L3, DHCP)) -> None:
        self._policy = policy
        self._managed = frozenset(managed)
        self._records: dict[AgentKey, _Record] = {}
        self._probes: dict[str, _Probe] = {}
        self._api_at: float | None = None
        self._api_trouble = "not asked yet"
        self._guard = MassFailureGuard(policy, sorted(self._managed))
        self.hearing = Hearing(policy)

    # --- what comes in -------------------------------------------------------------------------------------------------------------------

    def heard(self, heartbeat: Heartbeat, now: float, wall: float | None = None) -> None:
        """A report came in at `now`; `wall`, seconds since 1970, is needed to tell an operator whose clock is off."""
        record = self._records.get(heartbeat.key)
        if record is None:
            if heartbeat.key.agent_type in OVN or sum(each.listed is None for each in self._records.values()) >= MAX_STRANGERS:
                return
            record = self._records[heartbeat.key] = _Record(since=now)
        self.hearing.heard(heartbeat.key, heartbeat.sent_at, now, wall)
        if record.heard is None or now - record.heard > self._policy.overdue_after:
            record.heard_on_time_since = now
        record.heard_before, record.heard = record.heard, now
        record.abilities = heartbeat.abilities
        if heartbeat.starting:
            self._grant_grace(record, now)

    def listed(self, agents: Iterable[Agent], now: float, asked_at: float | None = None) -> None:
        """Neutron answered with all its agents. `asked_at` is when it was asked, `now` if that is not given."""
        known = [agent for agent in agents if agent.agent_type not in OVN]
        if not known and any(record.listed is not None for record in self._records.values()):
            self._api_trouble = "its list of agents is empty, which it was not before"
            return
        newest = max((agent.heartbeat_at for agent in known), default=0.0)
        self._api_at = now if asked_at is None else asked_at
        self._api_trouble = ""
        for agent in known:
            record = self._records.get(agent.key)
            if record is None:
                record = self._records[agent.key] = _Record(since=now)
            before, record.listed = record.listed, agent
            if before is not None and agent.started_at > before.started_at:
                self._grant_grace(record, now)
            record.listed_at = self._api_at
            reports = (self._api_at - heard for heard in (record.heard, record.heard_before) if heard is not None)
            record.contradicted = not agent.alive and any(0 < age <= self._policy.overdue_after for age in reports)
            record.seen_in_listing = now
            record.behind_newest = newest - agent.heartbeat_at
        for key, record in list(self._records.items()):
            if record.listed is not None and record.seen_in_listing != now:
                del self._records[key]
                self.hearing.forget(key)

    def unanswered(self, trouble: str) -> None:
        """Neutron was asked for its agents, and gave no usable answer."""
        self._api_trouble = trouble

    def probed(self, host: str, *, up: bool | None, detail: str, now: float) -> None:
        """A probe of a host came to an end. `up=False` is a proof that it forwards nothing: power off, fenced; None: it is not known.

        That it is not known takes no proof back.
        """
        before = self._probes.get(host)
        if up is None and before is not None and before.up is False and now - before.at <= self._policy.probe_fresh:
            return
        self._probes[host] = _Probe(up, detail, now)

    def known_down(self, host: str, now: float) -> bool:
        """Whether it is proven that a host forwards nothing."""
        probe = self._probe(host, now)
        return bool(probe) and probe[0].says == "dead"

    def to_probe(self, now: float) -> list[str]:
        """Return the hosts that it is worth to ask: those with a managed agent in doubt, or dead, that were not asked lately."""
        hosts = {key.host for key, record in self._records.items() if key.agent_type in self._managed and record.state in {State.SUSPECT, State.DEAD}}
        return sorted(host for host in hosts if host not in self._probes or now - self._probes[host].at > self._policy.probe_fresh / 2)

    def release(self, now: float) -> list[AgentKey]:
        """Let the mass-failure guard go, at the operator's word; return the agents that are now evacuated if they are dead."""
        return self._guard.release(self._members(now))

    def _grant_grace(self, record: _Record, now: float) -> None:
        said = [abilities.figures for abilities in (record.abilities, record.listed and record.listed.abilities) if abilities]
        # An agent that was just started reports that it hosts nothing yet; Neutron's list may still say what it hosted before.
        hosted = max((figures.get("routers", 0) + figures.get("networks", 0) for figures in said), default=0)
        policy = self._policy
        record.grace_until = now + policy.agent_down_time + min(policy.start_grace_max, policy.start_grace_per_resource * hosted)

    # --- time ----------------------------------------------------------------------------------------------------------------------------

    def tick(self, now: float, wall: float | None = None) -> list[Transition]:
        """Judge all agents anew, and return whose state changed. To be called about every second."""
        self.hearing.tick(now, wall)
        on_host: dict[str, list[tuple[AgentKey, bool]]] = {}
        for key, record in sorted(self._records.items()):
            on_host.setdefault(key.host, []).append((key, self._heard_now(record, now)))
        changes = []
        for record in self._records.values():
            agent = record.listed
            if agent is None:
                continue
            before = record.state
            siblings = {key.agent_type: heard for key, heard in on_host[agent.host] if key != agent.key}
            state, record.reason = self._judge(record, agent, siblings, now)
            if state is not before:
                record.state, record.since = state, now
                changes.append(Transition(agent, before, state, record.reason))
                if state in {State.ALIVE, State.RETURNING} and (probe := self._probes.get(agent.host)) and probe.up is False:
                    # who is heard is not off any more
                    del self._probes[agent.host]
            if self._penalty(record, now) < self._policy.flap_reuse:
                record.damped = False
        self._guard.update(self._members(now), now)
        return changes

    def judgement(self, now: float) -> Judgement:
        """Return all verdicts, as of the last tick."""
        found = {}
        for record in self._records.values():
            if record.listed is not None:
                found[record.listed.id] = self._verdict(record, record.listed, now)
        return Judgement(
            found,
            self._guard.freezes,
            self.hearing.trouble,
            tuple(sorted(key for key, record in self._records.items() if record.listed is None)),
            self.hearing.skews(),
            now,
        )

    def _judge(self, record: _Record, agent: Agent, siblings: Mapping[str, bool], now: float) -> tuple[State, str]:
        bus = self._bus(record, now)
        api = self._api(record, agent, now)
        probe = self._probe(agent.host, now)
        record.witnesses = (bus, api, _siblings(siblings), *probe)
        record.forwarding = _forwarding(bus, siblings, probe)
        if bus.says == "silent" and api.says == "dead":
            return self._condemn(record, f"{bus.detail}, {api.detail}", now)
        if bus.says == "silent" and api.says == "unknown" and record.state is State.DEAD:
            # Neutron is slow to answer, perhaps since we keep it busy; what it said before was not taken back
            return State.DEAD, f"{bus.detail}; {api.detail} since it was called dead"
        if bus.says != "alive":
            record.condemned_since = None
        if bus.says == "unknown":
            return State.UNKNOWN, bus.detail
        if bus.says == "alive":
            return self._judge_heard(record, bus, api, now)
        return State.SUSPECT, f"{bus.detail}, but {api.detail}" if bus.says == "silent" else bus.detail

    def _condemn(self, record: _Record, why: str, now: float) -> tuple[State, str]:
        record.owes_penalty = True
        if record.condemned_since is None:
            record.condemned_since = now
        rest = record.condemned_since + self._policy.hold_off - now
        if rest > 0:
            return State.SUSPECT, f"{why}; dead in {rest:.0f} s if nothing changes (hold_off)"
        record.was_dead = True
        return State.DEAD, why

    def _judge_heard(self, record: _Record, bus: Witness, api: Witness, now: float) -> tuple[State, str]:
        record.condemned_since = None
        if record.owes_penalty:
            record.owes_penalty = False
            record.penalty = self._penalty(record, now) + 1.0
            record.penalty_at = now
            record.damped = record.damped or record.penalty >= self._policy.flap_limit
        if record.was_dead:
            if not self._returned(record, now):
                return State.RETURNING, f"{bus.detail}; it was dead, and counts as alive after {self._policy.return_after:.0f} s with no report late"
            record.was_dead = False
        if api.says == "dead":
            return State.SUSPECT, f"{bus.detail}, but {api.detail}: the server does not process its reports"
        return State.ALIVE, bus.detail

    def _returned(self, record: _Record, now: float) -> bool:
        return record.heard_on_time_since is not None and now - record.heard_on_time_since >= self._policy.return_after

    def _penalty(self, record: _Record, now: float) -> float:
        return float(record.penalty * 0.5 ** ((now - record.penalty_at) / self._policy.flap_half_life))

    def _heard_now(self, record: _Record, now: float) -> bool:
        return record.heard is not None and now - record.heard <= self._policy.overdue_after

    # --- the witnesses -------------------------------------------------------------------------------------------------------------------

    def _bus(self, record: _Record, now: float) -> Witness:
        policy, since = self._policy, self.hearing.since
        if record.heard is not None and self._heard_now(record, now):
            return Witness("bus", "alive", f"heard on the bus {now - record.heard:.0f} s ago")
        if since is None:
            return Witness("bus", "unknown", f"we can't hear it: {self.hearing.why}")
        silence = now - max(since, record.heard if record.heard is not None else since)
        unheard = record.heard is None or record.heard < since
        limit = policy.unheard_after if unheard else policy.agent_down_time
        if silence <= policy.overdue_after:
            return Witness("bus", "unknown", f"not heard yet in the {silence:.0f} s since we listen ({self.hearing.why})")
        said = f"not heard on the bus in the {silence:.0f} s since we listen" if unheard else f"silent on the bus for {silence:.0f} s"
        if silence <= limit:
            return Witness("bus", "overdue", f"{said}: its report is overdue")
        if unheard and silence - limit <= self.hearing.reconnecting_until - since:
            return Witness("bus", "overdue", f"{said}: the bus was away, and agents have {policy.reconnect_grace:.0f} s more to come back")
        if now <= record.grace_until:
            return Witness("bus", "overdue", f"{said}: it was just started, and has {record.grace_until - now:.0f} s more")
        return Witness("bus", "silent", said)

    def _api(self, record: _Record, agent: Agent, now: float) -> Witness:
        if self._api_at is None or now - self._api_at > self._policy.api_fresh:
            return Witness("neutron", "unknown", f"Neutron's API has said nothing new about it ({self._api_trouble or 'it was not asked'})")
        if agent.alive:
            return Witness("neutron", "alive", "Neutron's server hears it")
        if record.heard is not None and record.heard >= record.listed_at and not record.contradicted:
            return Witness("neutron", "unknown", "Neutron was not asked since")
        return Witness("neutron", "dead", "Neutron's server says that it is not alive")

    def _probe(self, host: str, now: float) -> tuple[Witness, ...]:
        probe = self._probes.get(host)
        if probe is None or now - probe.at > self._policy.probe_fresh:
            return ()
        says = "unknown" if probe.up is None else "alive" if probe.up else "dead"
        return (Witness("probe", says, probe.detail),)

    # --- what goes out -------------------------------------------------------------------------------------------------------------------

    def _members(self, now: float) -> list[Member]:
        found = []
        for key, record in self._records.items():
            if record.listed is None or self._is_retired(record):
                continue
            found.append(
                Member(
                    key,
                    record.listed.zone,
                    self._silent_since(record, now),
                    record.state is State.DEAD,
                    self.known_down(key.host, now),
                )
            )
        return found

    def _silent_since(self, record: _Record, now: float) -> float | None:
        """Return since when the agent is silent; of one that was never heard, by how much Neutron heard it before the newest of all."""
        since = record.heard if record.heard is not None else record.listed_at - record.behind_newest
        return since if now - since > self._policy.overdue_after else None

    def _is_retired(self, record: _Record) -> bool:
        return record.heard is None and record.behind_newest > self._policy.retired_after

    def _verdict(self, record: _Record, agent: Agent, now: float) -> Verdict:
        penalty = self._penalty(record, now)
        reluctance = ""
        if record.damped:
            reluctance = f"it died and came back too often lately (penalty {penalty:.1f}, used again below {self._policy.flap_reuse:g})"
        elif record.state is State.RETURNING:
            reluctance = record.reason
        held_back = ""
        if record.state is State.DEAD:
            freeze = self._guard.freeze_of(agent.agent_type, agent.zone)
            if freeze is not None:
                held_back = f"mass-failure guard: {freeze.reason}"
            elif self._is_retired(record):
                held_back = (
                    f"Neutron has not heard it for {record.behind_newest / 3600:.0f} hours, longer than retired_after: it is evacuated only if its "
                    "host is drained"
                )
        return Verdict(
            agent,
            record.state,
            record.reason,
            record.witnesses,
            self._heard_now(record, now),
            None if record.heard is None else now - record.heard,
            record.forwarding,
            reluctance,
            held_back,
            penalty,
            now - record.since,
        )


def _siblings(heard: Mapping[str, bool]) -> Witness:
    """What the other agents of its host, by type, say about an agent."""
    silent = ", ".join(kind for kind, is_heard in heard.items() if not is_heard)
    if alive := ", ".join(kind for kind, is_heard in heard.items() if is_heard):
        return Witness("siblings", "alive", f"the host is up: {alive} heard" + (f", {silent} not heard" if silent else ""))
    return Witness("siblings", "unknown", f"nothing else of its host is heard ({silent or 'it has no other agent'})")


def _forwarding(bus: Witness, siblings: Mapping[str, bool], probe: tuple[Witness, ...]) -> Forwarding:
    if probe and probe[0].says != "unknown":
        return Forwarding.STOPPED if probe[0].says == "dead" else Forwarding.MAY_FORWARD
    return Forwarding.MAY_FORWARD if bus.says == "alive" or any(siblings.values()) else Forwarding.NOT_KNOWN
