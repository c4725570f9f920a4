# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Whether routers that were moved work where they went, as far as Neutron tells. No sockets or clocks: time comes in as `now`, in seconds.

Neutron says that a router is bound as soon as the API has answered. That its new agent built it shows in its ports: the agent has them bound to its
host, which makes them DOWN, and the switch agent there makes them ACTIVE when they are wired (seen with Neutron 29). Floating IPs are ACTIVE once the
agent has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .snapshot import Agent

QUICK_SECONDS = 1.0
"""What is watched is asked about so often, if it is no more than `QUICK_NUMBER` routers."""
QUICK_NUMBER = 2
OFTEN_SECONDS = 5.0
LATE_SECONDS = 30.0
"""What did not settle in time is asked about so often, as long as it is bound there."""
AT_ONCE = 50
"""So many routers are asked about in one call: their ids make up its address, and servers take no long ones."""
ON_ONE_HOST = frozenset({"network:router_interface", "network:router_gateway", "network:router_centralized_snat"})
"""Owners of the ports of a router that are on its agent's host and nowhere else."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A router works on the agent that it was moved to, after `seconds`; or, with what is `missing`, does not in time."""

    router: str
    agent: Agent
    seconds: float
    missing: str = ""

    def __str__(self) -> str:
        if self.missing:
            return f"router {self.router} does not work on {self.agent.host}, {self.seconds:.0f} s after it was moved there: {self.missing}"
        return f"router {self.router} works on {self.agent.host}, {self.seconds:.1f} s after it was moved there"


@dataclass(slots=True)
class _Watched:
    agent: Agent
    since: float
    missing: str = "nothing was read of its ports yet"
    late: float = 0.0
    """After so many seconds it had no more time; 0 while it has."""
    asked_at: float = float("-inf")


class Settling:
    """The routers that were moved and are not known to work yet."""

    def __init__(self, within: float) -> None:
        """A router ought to work `within` seconds; with 0 none is watched."""
        self._within = within
        self._watched: dict[str, _Watched] = {}

    def moved(self, router: str, agent: Agent, now: float) -> None:
        """Watch a router that an agent has got just now."""
        if self._within:
            self._watched[router] = _Watched(agent, now)

    def forget(self, routers: Iterable[str]) -> None:
        """Watch these routers no more: they were deleted, or moved on."""
        for router in routers:
            self._watched.pop(router, None)

    def waits_for(self, router: str) -> bool:
        """Whether the router is watched and still has time."""
        return router in self._watched and not self._watched[router].late

    @property
    def waiting(self) -> list[str]:
        """Return the routers that are watched and still have time."""
        return [router for router in self._watched if self.waits_for(router)]

    def where(self) -> dict[str, Agent]:
        """Return where each router that is watched went."""
        return {router: each.agent for router, each in self._watched.items()}

    def late(self) -> list[Settled]:
        """Return the routers that did not settle in time, and still have not."""
        return [Settled(router, each.agent, each.late, each.missing) for router, each in self._watched.items() if each.late]

    def slow(self) -> dict[str, str]:
        """Return by id the agents on which routers did not settle in time, with what is to be said of them."""
        found = {}
        for agent, late in self.late_by_agent().items():
            more = f", and {len(late) - 1} others" if late[1:] else ""
            found[agent] = f"it was given routers that do not work there: {late[0].router}{more}"
        return found

    def late_by_agent(self) -> dict[str, list[Settled]]:
        """Return what `late` does, by the id of the agent."""
        found: dict[str, list[Settled]] = {}
        for each in self.late():
            found.setdefault(each.agent.id, []).append(each)
        return found

    def to_ask(self, now: float) -> tuple[str, ...]:
        """Return the routers whose ports are to be read now; they count as asked about."""
        often = QUICK_SECONDS if len(self.waiting) <= QUICK_NUMBER else OFTEN_SECONDS
        due = [router for router, each in self._watched.items() if now - each.asked_at >= (LATE_SECONDS if each.late else often)]
        due.sort(key=lambda router: self._watched[router].asked_at)
        for router in due[:AT_ONCE]:
            self._watched[router].asked_at = now
        return tuple(due[:AT_ONCE])

    def read(self, asked: Iterable[str], ports: Iterable[Mapping[str, Any]], floating_ips: Iterable[Mapping[str, Any]], now: float) -> list[Settled]:
        """Take in the ports and floating IPs of the routers that were `asked` about, as the API lists them; return those that work now.

        Their elements have `device_id`, `device_owner`, `status`, `admin_state_up` and `binding:host_id`; `router_id` and `status`.
        """
        by_router: dict[str, list[Mapping[str, Any]]] = {}
        for port in ports:
            if port.get("device_owner") in ON_ONE_HOST and port.get("admin_state_up", True):
                by_router.setdefault(str(port.get("device_id")), []).append(port)
        down: dict[str, int] = {}
        for address in floating_ips:
            if address.get("status") != "ACTIVE":
                down[str(address.get("router_id"))] = down.get(str(address.get("router_id")), 0) + 1
        found = []
        for router in asked:
            watched = self._watched.get(router)
            if watched is None:
                continue
            if router not in by_router:
                # it was deleted, or has nothing that could be wired
                del self._watched[router]
                continue
            watched.missing = _missing(by_router[router], down.get(router, 0), watched.agent.host)
            if not watched.missing:
                found.append(Settled(router, watched.agent, now - watched.since))
                del self._watched[router]
        return found

    def overdue(self, now: float) -> list[Settled]:
        """Return the routers that have no more time from now on."""
        found = []
        for router, each in self._watched.items():
            if not each.late and now - each.since >= self._within:
                each.late = now - each.since
                found.append(Settled(router, each.agent, each.late, each.missing))
        return found


def _missing(ports: list[Mapping[str, Any]], floating_ips_down: int, host: str) -> str:
    elsewhere = [port for port in ports if port.get("binding:host_id") != host]
    down = [port for port in ports if port.get("binding:host_id") == host and port.get("status") != "ACTIVE"]
    said = []
    if elsewhere:
        said.append(f"{len(elsewhere)} of its {len(ports)} ports are not bound there, so its agent has not taken it up")
    if down:
        said.append(f"{len(down)} of its {len(ports)} ports are not ACTIVE")
    if floating_ips_down:
        said.append(f"{floating_ips_down} of its floating IPs are not ACTIVE")
    return ", ".join(said)
