# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The mass-failure guard: when so many agents fall silent that a broken bus is likelier than broken hosts, nothing is moved.

Three limits, of which each holds for all agents of a kind, for those of a zone, and the first one also for all hosts of the cloud:
* at most `mass_failure_share` of them, and at most `mass_failure_number`, may fall silent within `mass_failure_window`; one always may.
* at least `survivors_share` of them must be left, however slowly the others died.
An agent counts as silent from its first late report on, so that the first death of many finds the others counted. One whose death a probe has
proven, or for which the operator has let go, does not count against the first limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from .policy import PolicySettings
from .snapshot import AgentKey


class Scope(NamedTuple):
    """Of what agents there were too many silent ones: all of a kind, those of it in a zone, or, without a kind, hosts of any kind of agent."""

    agent_type: str
    zone: str | None = None

    def covers(self, agent_type: str, zone: str) -> bool:
        """Whether an agent is held back by a freeze of this scope."""
        return self.agent_type in {"", agent_type} and self.zone in {None, zone}

    def __str__(self) -> str:
        if not self.agent_type:
            return "hosts"
        return f"{self.agent_type}s" + (f" in zone {self.zone}" if self.zone is not None else "")


@dataclass(frozen=True, slots=True)
class Member:
    """An agent as the guard sees it. `silent_since` (seconds, monotonic) is None if it is heard; `dead` agents are about to be evacuated."""

    key: AgentKey
    zone: str
    silent_since: float | None
    dead: bool
    proven: bool = False


@dataclass(frozen=True, slots=True)
class Freeze:
    """Why nothing is moved, within a scope, and since when (seconds, monotonic). `silent` are those that were counted."""

    scope: Scope
    since: float
    reason: str
    silent: tuple[AgentKey, ...]

    def to_json(self, now: float) -> dict[str, object]:
        """Return it for `--json`; `for_seconds` says how long it has held."""
        return {
            "scope": str(self.scope),
            "for_seconds": round(now - self.since, 1),
            "reason": self.reason,
            "silent": [{"agent_type": key.agent_type, "host": key.host} for key in self.silent],
        }


class MassFailureGuard:
    """Keeps the freezes. `managed` are the agent types that are evacuated, for which the limits hold."""

    def __init__(self, policy: PolicySettings, managed: Sequence[str]) -> None:
        self._policy = policy
        self._managed = tuple(managed)
        self._freezes: dict[Scope, Freeze] = {}
        self._within_since: dict[Scope, float] = {}
        self._let_go: set[AgentKey] = set()

    @property
    def freezes(self) -> tuple[Freeze, ...]:
        """Return what is frozen now, the oldest first."""
        return tuple(sorted(self._freezes.values(), key=lambda freeze: (freeze.since, str(freeze.scope))))

    def freeze_of(self, agent_type: str, zone: str) -> Freeze | None:
        """Return the freeze that holds back an agent, if there is one."""
        return next((freeze for freeze in self.freezes if freeze.scope.covers(agent_type, zone)), None)

    def release(self, members: Iterable[Member]) -> list[AgentKey]:
        """Let go at the operator's word: those silent now are not counted again until they were heard. Return them."""
        released = sorted(member.key for member in members if member.silent_since is not None)
        self._let_go.update(released)
        self._freezes.clear()
        self._within_since.clear()
        return released

    def update(self, members: Sequence[Member], now: float) -> None:
        """Look at all agents that count: freeze where a limit is exceeded, let go where none was for `guard_release_after`."""
        self._let_go -= {member.key for member in members if member.silent_since is None}
        exceeded = {scope: (reason, silent) for scope, reason, silent in self._exceeded(members)}
        for scope, (reason, silent) in exceeded.items():
            self._within_since.pop(scope, None)
            since = self._freezes[scope].since if scope in self._freezes else now
            self._freezes[scope] = Freeze(scope, since, reason, silent)
        for scope in list(self._freezes):
            if scope in exceeded:
                continue
            if now - self._within_since.setdefault(scope, now) >= self._policy.guard_release_after:
                del self._freezes[scope], self._within_since[scope]

    def _exceeded(self, members: Sequence[Member]) -> list[tuple[Scope, str, tuple[AgentKey, ...]]]:
        # Late reports alone are no reason to freeze, there must be a death; but a freeze that holds stays as long as its agents are silent.
        if not self._freezes and not any(member.dead for member in members):
            return []
        groups: dict[Scope, list[Member]] = {}
        for member in members:
            if member.key.agent_type in self._managed:
                groups.setdefault(Scope(member.key.agent_type), []).append(member)
                groups.setdefault(Scope(member.key.agent_type, member.zone), []).append(member)
        groups[Scope("")] = _hosts([replace(member, proven=member.proven or member.key in self._let_go) for member in members], self._managed)
        return [
            (scope, *problem)
            for scope, group in groups.items()
            if (scope in self._freezes or any(member.dead for member in group)) and (problem := self._problem(scope, group))
        ]

    def _problem(self, scope: Scope, group: Sequence[Member]) -> tuple[str, tuple[AgentKey, ...]] | None:
        if problem := self._too_many_at_once(scope, group):
            return problem
        silent = [member for member in group if member.silent_since is not None]
        counted = [member for member in silent if not member.proven and member.key not in self._let_go]
        left = len(group) - len(silent)
        # Of a zone all may die one by one: the agents of other zones are left.
        if scope.agent_type and scope.zone is None and len(counted) > 1 and left < self._policy.survivors_share * len(group):
            return (
                f"only {left} of {len(group)} {scope} are left alive, less than survivors_share ({self._policy.survivors_share:g})",
                tuple(sorted(member.key for member in silent)),
            )
        return None

    def _too_many_at_once(self, scope: Scope, group: Sequence[Member]) -> tuple[str, tuple[AgentKey, ...]] | None:
        policy = self._policy
        allowed = max(1, int(policy.mass_failure_share * len(group) + 1e-9))
        if scope.agent_type:
            allowed = min(allowed, policy.mass_failure_number)
        silent = sorted(
            (member.silent_since, member.key, member.dead)
            for member in group
            if member.silent_since is not None and not member.proven and member.key not in self._let_go
        )
        first = deaths = 0
        most: list[tuple[float, AgentKey, bool]] = []
        for last, (since, _key, dead) in enumerate(silent):
            deaths += dead
            while since - silent[first][0] > policy.mass_failure_window:
                deaths -= silent[first][2]
                first += 1
            if last + 1 - first > len(most) and (deaths or scope in self._freezes):
                most = silent[first : last + 1]
        if len(most) <= allowed:
            return None
        keys = tuple(sorted(key for _since, key, _dead in most))
        what = ", ".join(key.host for key in keys[:5]) + (", ..." if len(keys) > 5 else "")
        reason = (
            f"{len(keys)} of {len(group)} {scope} fell silent within {policy.mass_failure_window:g} s ({what}), at most {allowed} may: the bus, "
            "Neutron's server or a switch is likelier to be broken than all of them"
        )
        return reason, keys


def _hosts(members: Sequence[Member], managed: Sequence[str]) -> list[Member]:
    """Return the hosts as members: a host is silent if all its agents are, since the last of them was heard."""
    by_host: dict[str, list[Member]] = {}
    for member in members:
        by_host.setdefault(member.key.host, []).append(member)
    return [
        Member(
            AgentKey("", host),
            "",
            max((member.silent_since for member in group if member.silent_since is not None), default=None)
            if all(member.silent_since is not None for member in group)
            else None,
            any(member.dead and member.key.agent_type in managed for member in group),
            any(member.proven for member in group),
        )
        for host, group in by_host.items()
    ]
