# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""rpcdaemon's figures for Prometheus: how long deaths took from the last heartbeat to the last move, and what the daemon sees and does now.

Labels are bounded: states, kinds of agents and of actions, results and names of alarms are words of ours. Hosts and routers are in the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..soft_import import soft_import
from ..version import VERSION
from .liveness import Judgement, State, Transition
from .plan import Action, Plan
from .snapshot import DHCP, L3, Snapshot

if TYPE_CHECKING:
    from prometheus_client import core as families
else:
    families = soft_import("prometheus_client.core", "prometheus_client")

PREFIX = "rpcdaemon_"
BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1800.0)
"""The upper ends of a histogram's buckets in seconds; another one has no end."""

_HISTOGRAMS = {
    "detect_seconds": "Seconds from the last heartbeat of an agent until it was called dead, of agents that were heard.",
    "decide_seconds": "Seconds from then until there was a plan that moves something off it.",
    "converge_seconds": "Seconds from then until nothing was left on it.",
    "settle_seconds": "Seconds from when a router was on its new agent until its ports and floating IPs were ACTIVE there.",
}
_GAUGES = {
    "leader": "1 if this replica leads.",
    "deaf": "1 if nobody can be judged, as the agents are not heard.",
    "guard_frozen": "How many freezes of the mass-failure guard hold.",
    "lag_seconds": "By how much what is heard is behind.",
    "open_moves": "Moves that were begun and not ended: their routers may have no agent.",
    "under_way": "Actions that are under way.",
    "waiting": "Actions of the plan that have not begun.",
    "settling": "Routers that were moved and are waited for until they work where they went.",
    "unsettled": "Routers that were moved and did not come to work in time.",
    "unplaced": "Routers and networks that have nowhere to go.",
    "api_faults": "Questions to Neutron that had no answer the last time.",
    "dry_run": "1 if nothing is changed.",
}


@dataclass(slots=True)
class Histogram:
    """How many values were seen, by the bucket that they fall into, and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count a value."""
        self.counts[sum(seconds > end for end in BUCKETS)] += 1
        self.total += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """Return for each end of a bucket how many values were not above it, as Prometheus wants them."""
        found, count = [], 0
        for end, number in zip([*map(str, BUCKETS), "+Inf"], self.counts, strict=True):
            count += number
            found.append((end, float(count)))
        return found


class Deaths:
    """Follows each dead agent from its last heartbeat until nothing is left on it. No clock: `now` is monotonic seconds."""

    def __init__(self) -> None:
        """No agent has died yet."""
        self.seconds = {name: Histogram() for name in _HISTOGRAMS}
        self.moves: dict[str, Histogram] = {}
        self._undecided: dict[str, float] = {}
        self._unfinished: dict[str, float] = {}

    def changed(self, change: Transition, judgement: Judgement, now: float) -> None:
        """An agent's state changed."""
        agent = change.agent
        if agent.agent_type not in {L3, DHCP}:
            return
        self._undecided.pop(agent.id, None)
        if change.after in {State.ALIVE, State.RETURNING}:
            self._unfinished.pop(agent.id, None)
        if change.after is State.DEAD:
            self._undecided[agent.id] = now
            self._unfinished.setdefault(agent.id, now)
            verdict = judgement.verdicts.get(agent.id)
            if verdict is not None and verdict.silence is not None:
                self.seconds["detect_seconds"].observe(verdict.silence)

    def planned(self, plan: Plan, now: float) -> None:
        """There is a plan."""
        for agent in {action.source.id for action in plan.actions if action.source is not None} & self._undecided.keys():
            self.seconds["decide_seconds"].observe(now - self._undecided.pop(agent))

    def ended(self, action: Action, seconds: float, snapshot: Snapshot, now: float) -> None:
        """An action came to its end, after so many `seconds`; `snapshot` is how the cloud is since."""
        self.moves.setdefault(action.kind.value, Histogram()).observe(seconds)
        source = action.source
        if source is not None and source.id in self._unfinished and not snapshot.hosted_by(source.id):
            self.seconds["converge_seconds"].observe(now - self._unfinished.pop(source.id))

    def settled(self, seconds: float) -> None:
        """A router that was moved works after so long."""
        self.seconds["settle_seconds"].observe(seconds)

    def figures(self) -> dict[str, list[tuple[str, str, list[tuple[str, float]], float]]]:
        """Return a copy for another thread: (metric, kind of action, buckets, sum) of each histogram, under `histograms`."""
        named = [(name, "", histogram) for name, histogram in self.seconds.items()]
        named += [("action_seconds", kind, histogram) for kind, histogram in sorted(self.moves.items())]
        return {"histograms": [(name, kind, histogram.cumulative(), histogram.total) for name, kind, histogram in named]}


def metric_families(figures: Mapping[str, Any], started_at: float) -> Iterator[families.Metric]:
    """Yield the metrics that show `figures`, as the daemon gives them; `started_at` is UNIX time."""
    yield families.InfoMetricFamily(f"{PREFIX}build", "What runs.", value={"version": VERSION})
    yield families.GaugeMetricFamily(f"{PREFIX}start_time_seconds", "When the daemon was started, in UNIX time.", value=started_at)
    moves = families.HistogramMetricFamily(f"{PREFIX}action_seconds", "Seconds that actions took, by what they do.", labels=["action"])
    for name, kind, buckets, total in figures["histograms"]:
        if kind:
            moves.add_metric([kind], buckets, total)
        else:
            yield families.HistogramMetricFamily(f"{PREFIX}{name}", _HISTOGRAMS[name], buckets=buckets, sum_value=total)
    yield moves
    for name, meaning in _GAUGES.items():
        yield families.GaugeMetricFamily(f"{PREFIX}{name}", meaning, value=figures[name])
    yield families.CounterMetricFamily(f"{PREFIX}heartbeats", "Reports of agents that were heard.", value=figures["heartbeats"])
    yield _labelled(families.GaugeMetricFamily, "agents", "Agents, by their state.", ["agent_type", "state"], figures["agents"])
    yield _labelled(families.GaugeMetricFamily, "alarms", "Alarms, by name and level.", ["name", "level"], figures["alarms"])
    yield _labelled(families.CounterMetricFamily, "actions", "Actions that ended, by what became of them.", ["action", "result"], figures["outcomes"])
    yield _labelled(families.CounterMetricFamily, "api_calls", "Calls of Neutron's API.", ["call"], figures["calls"])


def _labelled(kind: Any, name: str, meaning: str, labels: Iterable[str], numbers: Mapping[tuple[str, ...], float]) -> families.Metric:
    family = kind(f"{PREFIX}{name}", meaning, labels=list(labels))
    for values, number in sorted(numbers.items()):
        family.add_metric(list(values), number)
    shown: families.Metric = family
    return shown
