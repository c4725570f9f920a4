# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""How fast the routers of a dead agent move: whoever moves them, Neutron's own failover, and bare calls of the API as fast as it takes them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cloud_api import CloudApi
from lab import Lab
from receiver_process import wait_until
from server_process import ADDRESS

LOOKS_PER_SECOND = 5
"""How often the bindings are looked at, in the database, which costs the API nothing."""


@dataclass(frozen=True)
class Evacuation:
    """What was seen after an agent's end, in seconds after it; `None` for what was not seen."""

    routers: int
    """How many were bound to it."""
    called_dead: float | None
    """When its last heartbeat was `agent_down_time` ago."""
    first_moved: float | None
    all_moved: float | None
    """When each was bound to another agent, and to one only."""
    left: int
    """How many were still bound to it, or to nobody, when nobody looked any longer."""
    spread: dict[str, int]
    """How many routers each agent had then."""

    @property
    def per_second(self) -> float | None:
        """Routers moved in each second between the first and the last of them."""
        if self.first_moved is None or self.all_moved is None or self.all_moved <= self.first_moved:
            return None
        return (self.routers - 1) / (self.all_moved - self.first_moved)


def watch_evacuation(lab: Lab, host: str, strike: Callable[[], object], patience: float = 600.0) -> Evacuation:
    """Call `strike`, which ends the L3 agent of `host`, and watch until all its legacy routers are elsewhere, or `patience` seconds are over."""
    routers = lab.routers_by_host()[host]
    assert routers, f"{host} has no routers"
    strike()
    began = time.monotonic()
    called_dead = first = last = None
    bound = lab.routers_by_host()
    for look in itertools.count(1):
        passed = time.monotonic() - began
        if called_dead is None and _silent(lab, host) > lab.settings.agent_down_time:
            called_dead = passed
        if first is None and bound[host] != routers:
            first = passed
        if not _homeless(bound, host, routers):
            last = passed
        if last is not None or passed > patience:
            break
        time.sleep(max(0.0, look / LOOKS_PER_SECOND - passed))
        bound = lab.routers_by_host()
    return Evacuation(len(routers), called_dead, first, last, len(_homeless(bound, host, routers)), {at: len(had) for at, had in bound.items()})


def _homeless(bound: dict[str, set[str]], host: str, routers: set[str]) -> set[str]:
    elsewhere = {router for at, had in bound.items() if at != host for router in had}
    return routers - (elsewhere - bound[host])


def _silent(lab: Lab, host: str) -> float:
    select = "select timestampdiff(microsecond, heartbeat_timestamp, utc_timestamp(6)) from agents"
    ((microseconds,),) = lab.mariadb.query(f"{select} where host = '{host}' and agent_type = 'L3 agent';")
    return int(microseconds) / 1e6


def native_failover(lab: Lab, host: str, patience: float = 600.0) -> Evacuation:
    """Kill a node and let Neutron's own failover move its legacy routers; it is switched on for that, and off again."""
    lab.restart_periodic_workers(native_failover=True)
    # the first look at the agents comes at a random time within this
    time.sleep(lab.settings.agent_down_time)
    try:
        return watch_evacuation(lab, host, lab.nodes[host].kill, patience)
    finally:
        lab.restart_periodic_workers(native_failover=False)


@dataclass(frozen=True)
class Ceiling:
    """What the API takes when it is asked to move routers by so many callers at once."""

    callers: int
    routers: int
    seconds: float
    refused: list[str]
    """What the API answered instead of 204 and 201."""

    @property
    def per_second(self) -> float:
        """Moves in each second."""
        return self.routers / self.seconds


def api_ceiling(lab: Lab, source: str, targets: Sequence[str], callers: int) -> Ceiling:
    """Move all routers from one host's L3 agent to those of the targets, in turn, with bare DELETE and POST and nothing else; then put them back."""
    api = CloudApi(f"{ADDRESS}:{lab.neutron_api.port}", user_agent="neutron-lab-ceiling")
    routers = sorted(lab.routers_by_host()[source])
    agents = {host: lab.agent(host)["id"] for host in (source, *targets)}

    def move(router: str, target: str) -> list[str]:
        removed = api.call("DELETE", f"agents/{agents[source]}/l3-routers/{router}")
        added = api.call("POST", f"agents/{agents[target]}/l3-routers", {"router_id": router})
        return [f"{answer.status} {answer.body}" for answer, wanted in ((removed, 204), (added, 201)) if answer.status != wanted]

    # Neutron gives a router that is nowhere to whichever agent asks for all of its own just then, and ours would be nowhere between two calls
    wait_until(lambda: not any(node.view().pending for node in lab.nodes.values() if node.running), "no node has anything to do", 120.0)
    began = time.monotonic()
    with ThreadPoolExecutor(callers) as pool:
        refused = list(itertools.chain.from_iterable(pool.map(move, routers, itertools.cycle(targets))))
    took = time.monotonic() - began
    # what the nodes fetch afterwards must not slow the next measurement down
    if not refused:
        _await_fetched(lab, {*routers}, targets)
    lab.bind_routers({source: routers})
    return Ceiling(callers, len(routers), took, refused)


def _await_fetched(lab: Lab, routers: set[str], hosts: Sequence[str]) -> None:
    """Return when the nodes know all these routers; fail with what they and Neutron know."""

    def missing() -> set[str]:
        return routers - {router for host in hosts for router in lab.nodes[host].view().routers}

    try:
        wait_until(lambda: not missing(), "the nodes have fetched all", 120.0)
    except AssertionError as error:
        bound = {router: [host for host, had in lab.routers_by_host().items() if router in had] for router in sorted(missing())}
        views = "\n".join(str(lab.nodes[host].view()) for host in hosts)
        raise AssertionError(f"{error}; missing, and where Neutron has it: {bound}\n{views}") from None


def table(rows: Iterable[tuple[str, Evacuation]], ceilings: Iterable[Ceiling] = ()) -> str:
    """Return the figures as text: one line for each who moved routers, then what the API takes."""
    lines = [("who moved", "routers", "called dead", "first moved", "all moved", "moves/s", "left", "routers per agent")]
    for who, seen in rows:
        times = (_seconds(seen.called_dead), _seconds(seen.first_moved), _seconds(seen.all_moved))
        spread = ", ".join(f"{host} {count}" for host, count in sorted(seen.spread.items()))
        rate = "-" if seen.per_second is None else f"{seen.per_second:.1f}"
        lines.append((who, str(seen.routers), *times, rate, str(seen.left), spread))
    for bare in ceilings:
        who = f"bare calls, {bare.callers} at once"
        lines.append((who, str(bare.routers), "-", "-", _seconds(bare.seconds), f"{bare.per_second:.1f}", str(len(bare.refused)), "-"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"
