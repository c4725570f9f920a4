# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What happens beside us: somebody else moves things, nobody hosts a router, and how much we may move of our own accord. No clock.

Neutron's own failover and other tools move the same routers. What two of them move at a time can end on the wrong agent: the API answers 201 to
both. So we stand back for a while from what changed without us, and from the agent that it was taken from.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection

from .maintenance import Windows
from .policy import PolicySettings
from .snapshot import DHCP, L3, Agent, Snapshot

HOUR = 3600.0
ALWAYS = Windows()


class Coexistence:
    """Compares what each agent hosts with what it hosted when that was read before."""

    def __init__(self, policy: PolicySettings) -> None:
        self._policy = policy
        self._hosting: dict[str, frozenset[str]] = {}
        self._until: dict[str, tuple[float, str]] = {}
        self._unhosted_since: dict[str, float] = {}

    def observe(self, snapshot: Snapshot, ours: Collection[tuple[str, str]], now: float) -> list[str]:
        """Take the next snapshot; return what others did, in words. `ours` are the (thing, agent) pairs that we added or removed ourselves."""
        said = []
        mine = frozenset(ours)
        for agent in sorted(snapshot.agents.values(), key=lambda agent: (agent.agent_type, agent.host)):
            if agent.id in snapshot.hosting:
                lost = self._hosting.get(agent.id, frozenset()) - snapshot.hosting[agent.id]
                gone = sorted(each for each in lost if (each, agent.id) not in mine and (each in snapshot.routers or each in snapshot.networks))
                said += [self._moved(snapshot, thing, agent, now) for thing in gone]
        self._hosting = {agent: snapshot.hosting.get(agent, self._hosting.get(agent, frozenset())) for agent in snapshot.agents}
        self._note_unhosted(snapshot, now)
        return said

    def _moved(self, snapshot: Snapshot, thing: str, agent: Agent, now: float) -> str:
        new = ", ".join(sorted(snapshot.agents[each].host for each in snapshot.hosts_of.get(thing, ()) if each in snapshot.agents))
        kind = "router" if thing in snapshot.routers else "network"
        what = f"something else took {kind} {thing} from {agent}" + (f"; it is on {new} now" if new else "; no agent hosts it now")
        until = now + self._policy.stand_back
        self._until[thing] = (until, what)
        self._until[agent.id] = (until, f"{what}: we stand back (stand_back)")
        return what

    def stand_back(self, now: float) -> dict[str, str]:
        """Return by id the things and agents that are to be left alone now, with the reason."""
        self._until = {each: (until, why) for each, (until, why) in self._until.items() if until > now}
        return {each: why for each, (_until, why) in self._until.items()}

    def _note_unhosted(self, snapshot: Snapshot, now: float) -> None:
        since: dict[str, float] = {}
        for agent_type, things in ((L3, snapshot.routers), (DHCP, snapshot.networks)):
            if snapshot.is_whole(agent_type):
                since |= {each: self._unhosted_since.get(each, now) for each in things if each not in snapshot.hosts_of}
            else:
                since |= {each: began for each, began in self._unhosted_since.items() if each in things}
        self._unhosted_since = since

    def orphans(self, now: float) -> frozenset[str]:
        """Return the routers and networks that had no agent in any snapshot for `orphan_after`."""
        return frozenset(each for each, since in self._unhosted_since.items() if now - since >= self._policy.orphan_after)


class MoveBudget:
    """How many moves are allowed within an hour, and in which windows, for what nobody is in need of."""

    def __init__(self, per_hour: int, windows: Windows = ALWAYS) -> None:
        self._per_hour = per_hour
        self._windows = windows
        self._spent: deque[float] = deque()

    def left(self, now: float, wall: float) -> int:
        """Return how many moves may be made now. `wall`, in seconds since 1970, is for the windows."""
        if self._windows.opens_in(wall):
            return 0
        while self._spent and now - self._spent[0] >= HOUR:
            self._spent.popleft()
        return max(0, self._per_hour - len(self._spent))

    def again_in(self, now: float, wall: float) -> float:
        """Return in how many seconds a move may be made that may not be made now; infinity if none may ever, or one may now."""
        if not self._per_hour or self.left(now, wall):
            return math.inf
        return self._windows.opens_in(wall) or self._spent[0] + HOUR - now

    def spend(self, now: float) -> None:
        """Note that a move was made."""
        self._spent.append(now)
