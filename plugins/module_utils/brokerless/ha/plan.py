# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What a plan is: ordered actions, each with its reason, what has to come before it, and why every other target was refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from .snapshot import DHCP, L3, Agent, Snapshot


class Kind(StrEnum):
    """What an action does.

    A legacy router has one agent at a time, so it is moved: removed from `source` and added to `target`, back to back. Members of HA routers and
    servers of networks are added first and removed after, by two actions of which the second needs the first.
    """

    FENCE = "fence"
    MOVE_ROUTER = "move router"
    ADD_ROUTER = "add router"
    REMOVE_ROUTER = "remove router"
    ADD_NETWORK = "add network"
    REMOVE_NETWORK = "remove network"
    DISABLE_AGENT = "disable agent"


@dataclass(frozen=True, slots=True)
class Action:
    """One step. `thing` is the id of a router or network, the host that is fenced, or the agent that is disabled; `name` what people call it.

    `number` is its place in the plan, from 1; 0 for a move that was begun before and is finished, which is in no plan.

    `needs` are the numbers of actions that must have succeeded before, `after` of those that must have ended. `refused` says by agent id why it was
    not the target; actions that had the same choice share the mapping.
    """

    number: int
    kind: Kind
    thing: str
    name: str
    reason: str
    source: Agent | None = None
    target: Agent | None = None
    needs: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def agent_type(self) -> str:
        """Return the type of the agents that it is about."""
        if self.kind in {Kind.FENCE, Kind.DISABLE_AGENT} and self.source is not None:
            return self.source.agent_type
        return DHCP if self.kind in {Kind.ADD_NETWORK, Kind.REMOVE_NETWORK} else L3

    def __str__(self) -> str:
        way = (f" from {self.source.host}" if self.source else "") + (f" to {self.target.host}" if self.target else "")
        called = f" ({self.name})" if self.name and self.name != self.thing else ""
        return f"{self.number}. {self.kind} {self.thing}{called}{way}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Unplaced:
    """What ought to leave `source`, or to be served, and has nowhere to go. `refused` says why by agent id."""

    thing: str
    name: str
    agent_type: str
    reason: str
    source: Agent | None = None
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order, at most `in_flight` moves at a time; what can't be done; and what is left alone, with the reason (`notes`).

    With `settle` a move is in flight until its router works where it went, or has had its time for that.
    """

    purpose: str
    actions: tuple[Action, ...] = ()
    unplaced: tuple[Unplaced, ...] = ()
    notes: tuple[str, ...] = ()
    in_flight: int = 1
    settle: bool = False

    def __bool__(self) -> bool:
        """Whether there is something to do."""
        return bool(self.actions)

    def to_json(self, snapshot: Snapshot) -> dict[str, Any]:
        """Return it for `--json`, the audit log and check mode. `refusals` holds once what many actions share; they name
        its index, null if nobody was refused."""
        refusals: dict[int, int] = {}
        shared: list[dict[str, str]] = []

        def index_of(refused: Mapping[str, str]) -> int | None:
            if not refused:
                return None
            if id(refused) not in refusals:
                refusals[id(refused)] = len(shared)
                shared.append({snapshot.agents[agent].host if agent in snapshot.agents else agent: why for agent, why in sorted(refused.items())})
            return refusals[id(refused)]

        return {
            "purpose": self.purpose,
            "in_flight": self.in_flight,
            "actions": [
                {
                    "number": action.number,
                    "action": action.kind.value,
                    "id": action.thing,
                    "name": action.name,
                    "from": _agent_json(action.source),
                    "to": _agent_json(action.target),
                    "reason": action.reason,
                    "needs": list(action.needs),
                    "after": list(action.after),
                    "refused": index_of(action.refused),
                }
                for action in self.actions
            ],
            "unplaced": [
                {
                    "id": each.thing,
                    "name": each.name,
                    "agent_type": each.agent_type,
                    "from": _agent_json(each.source),
                    "reason": each.reason,
                    "refused": index_of(each.refused),
                }
                for each in self.unplaced
            ],
            "notes": list(self.notes),
            "refusals": shared,
        }


def _agent_json(agent: Agent | None) -> dict[str, str] | None:
    return None if agent is None else {"agent": agent.id, "host": agent.host}


def apply(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """Return what the cloud looks like once every action of the plan succeeded."""
    hosting = dict(snapshot.hosting)
    agents = dict(snapshot.agents)
    for action in plan.actions:
        if action.kind is Kind.DISABLE_AGENT:
            agents[action.thing] = replace(agents[action.thing], admin_state_up=False)
        if action.source is not None and action.kind in {Kind.MOVE_ROUTER, Kind.REMOVE_ROUTER, Kind.REMOVE_NETWORK}:
            hosting[action.source.id] = hosting.get(action.source.id, frozenset()) - {action.thing}
        if action.target is not None:
            hosting[action.target.id] = hosting.get(action.target.id, frozenset()) | {action.thing}
    return replace(snapshot, agents=agents, hosting=hosting)
