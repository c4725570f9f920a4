# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Who gets what: the least loaded of those that can take it, counted with all that is planned already.

What has the fewest to choose from is placed first, and then chains of exchanges are looked for that make the loads more even, until there is none:
then no other placement of the same things has a smaller spread (a semi-matching without cost-reducing paths; Harvey, Ladner, Lovász, Tamir 2006).
Everything is deterministic: of equals, the first by host name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from .snapshot import Agent

Choice = tuple[str, ...]
"""The ids of the agents that something can go to. Things that have the same choice can take each other's place."""


class Placement:
    """Loads of agents by id, and where movable things are. `steps` counts agents that were looked at."""

    def __init__(self, loads: Mapping[str, int], agents: Iterable[Agent]) -> None:
        """Begin with what the agents host now. Things that are put down by `put` or `place` may be moved by `even_out`."""
        self.loads = dict(loads)
        self._agents = {agent.id: agent for agent in sorted(agents, key=lambda agent: (agent.host, agent.id))}
        self._rank = {agent: rank for rank, agent in enumerate(self._agents)}
        self._things: dict[str, dict[Choice, list[str]]] = {}
        self.steps = 0

    def least_loaded(self, choice: Choice, shunned_zones: frozenset[str] = frozenset()) -> Agent | None:
        """Return the agent with the fewest things, one outside the `shunned_zones` if there is such; None if there is no choice."""
        self.steps += len(choice)
        best = min(choice, key=lambda agent: (self._agents[agent].zone in shunned_zones, self.loads[agent], self._rank[agent]), default=None)
        return None if best is None else self._agents[best]

    def add(self, agent: Agent, things: int = 1) -> None:
        """Count so many things more on the agent, that stay there."""
        self.loads[agent.id] += things

    def put(self, thing: str, agent: str, choice: Choice) -> None:
        """Note that a thing which is counted in the loads already is on the agent (id), and may go to any of the `choice`."""
        self._things.setdefault(agent, {}).setdefault(choice, []).append(thing)

    def place(self, things: Sequence[tuple[str, Choice]]) -> None:
        """Give all things an agent; each must have a choice."""
        for thing, choice in sorted(things, key=lambda each: len(each[1])):
            agent = self.least_loaded(choice)
            if agent is not None:
                self.add(agent)
                self.put(thing, agent.id, choice)

    def where(self) -> dict[str, Agent]:
        """Return where each movable thing is now."""
        return {thing: self._agents[agent] for agent, groups in self._things.items() for things in groups.values() for thing in things}

    def even_out(self, difference: int = 2, budget: int | None = None) -> None:
        """Move things from agents to others that have fewer by at least `difference`, until there are none, or `budget` moves are made."""
        while (path := self._path(difference)) is not None:
            if budget is not None:
                if len(path) > budget:
                    return
                budget -= len(path)
            for source, choice, target in path:
                things = self._things[source][choice]
                self._things.setdefault(target, {}).setdefault(choice, []).append(things.pop())
                if not things:
                    del self._things[source][choice]
                self.loads[source] -= 1
                self.loads[target] += 1

    def _path(self, difference: int) -> list[tuple[str, Choice, str]] | None:
        """Return the hops, last first, of a shortest way from one of the most loaded agents to one that has fewer by `difference`."""
        for source in sorted(self._things, key=lambda agent: (-self.loads[agent], self._rank[agent])):
            if path := self._path_from(source, self.loads[source] - difference):
                return path
        return None

    def _path_from(self, source: str, at_most: int) -> list[tuple[str, Choice, str]]:
        came: dict[str, tuple[str, Choice]] = {}
        seen: set[Choice] = set()
        waiting = deque([source])
        while waiting:
            agent = waiting.popleft()
            for choice, things in self._things.get(agent, {}).items():
                if not things or choice in seen:
                    continue
                seen.add(choice)
                self.steps += len(choice)
                for target in sorted(choice, key=lambda each: (self.loads[each], self._rank[each])):
                    if target == source or target in came:
                        continue
                    came[target] = (agent, choice)
                    if self.loads[target] <= at_most:
                        return _hops(came, source, target)
                    waiting.append(target)
        return []


def _hops(came: Mapping[str, tuple[str, Choice]], source: str, target: str) -> list[tuple[str, Choice, str]]:
    hops = []
    while target != source:
        agent, choice = came[target]
        hops.append((agent, choice, target))
        target = agent
    return hops
