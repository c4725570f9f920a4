# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
from typing import Any

from brokerless.ha.liveness import Judgement, State, Transition, Verdict
from brokerless.ha.metrics import BUCKETS, Deaths, Histogram, metric_families
from brokerless.ha.plan import Action, Kind, Plan
from brokerless.ha.snapshot import L3, Agent, Snapshot

DEAD = Agent("l1", "net1", L3)
TARGET = Agent("l2", "net2", L3)


def state(after: State, silence: float | None = 90.0) -> tuple[Transition, Judgement]:
    return Transition(DEAD, State.SUSPECT, after, "so it is"), Judgement({"l1": Verdict(DEAD, after, "so it is", silence=silence)})


def move(router: str) -> Action:
    return Action(1, Kind.MOVE_ROUTER, router, "", "", DEAD, TARGET)


def hosting(*routers: str) -> Snapshot:
    return Snapshot({"l1": DEAD, "l2": TARGET}, hosting={"l1": frozenset(routers)})


def seen(deaths: Deaths) -> dict[str, tuple[float, float]]:
    """How many values each histogram has, and their sum, but for those that are empty."""
    figures = deaths.figures()["histograms"]
    return {name + kind: (buckets[-1][1], total) for name, kind, buckets, total in figures if buckets[-1][1]}


def test_a_death_is_followed_from_the_last_heartbeat_to_the_last_move() -> None:
    deaths = Deaths()
    deaths.changed(*state(State.DEAD), now=1000.0)
    assert seen(deaths) == {"detect_seconds": (1, 90.0)}
    for now in (1002.0, 1012.0):
        deaths.planned(Plan("watch", (move("r1"), move("r2"))), now)
    assert seen(deaths)["decide_seconds"] == (1, 2.0)
    deaths.ended(move("r1"), 1.5, hosting("r2"), 1004.0)
    assert "converge_seconds" not in seen(deaths)
    deaths.ended(move("r2"), 2.5, hosting(), 1005.0)
    assert seen(deaths)["converge_seconds"] == (1, 5.0)
    assert seen(deaths)["action_secondsmove router"] == (2, 4.0)
    deaths.ended(move("r3"), 1.0, hosting(), 1009.0)
    assert seen(deaths)["converge_seconds"] == (1, 5.0)


def test_an_agent_that_comes_back_is_followed_no_more() -> None:
    deaths = Deaths()
    deaths.changed(*state(State.DEAD, silence=None), now=1000.0)
    deaths.changed(*state(State.RETURNING), now=1001.0)
    deaths.planned(Plan("watch", (move("r1"),)), 1002.0)
    deaths.ended(move("r1"), 1.0, hosting(), 1003.0)
    assert seen(deaths) == {"action_secondsmove router": (1, 1.0)}


def test_of_agents_that_are_not_moved_from_nothing_is_measured() -> None:
    deaths = Deaths()
    other = Agent("o1", "net1", "Open vSwitch agent")
    deaths.changed(Transition(other, State.SUSPECT, State.DEAD, ""), Judgement({"o1": Verdict(other, State.DEAD, "", silence=90.0)}), 1000.0)
    assert seen(deaths) == {}


def test_a_value_is_counted_in_each_bucket_that_it_is_not_above() -> None:
    histogram = Histogram()
    for seconds in (0.1, 0.11, 1e9):
        histogram.observe(seconds)
    counts = dict(histogram.cumulative())
    assert (counts["0.1"], counts["0.25"], counts[str(BUCKETS[-1])], counts["+Inf"]) == (1, 2, 2, 3)
    assert all(before <= after for before, after in itertools.pairwise(counts.values()))


def test_each_figure_becomes_a_sample() -> None:
    deaths = Deaths()
    deaths.changed(*state(State.DEAD), now=1000.0)
    deaths.ended(move("r1"), 1.5, hosting(), 1004.0)
    deaths.settled(6.5)
    gauges = ("leader", "deaf", "guard_frozen", "lag_seconds", "open_moves", "under_way", "waiting", "unplaced", "api_faults", "dry_run")
    gauges += ("settling", "unsettled")
    figures: dict[str, Any] = {
        **deaths.figures(),
        **{name: number for number, name in enumerate(gauges)},
        "heartbeats": 70,
        "agents": {(L3, "alive"): 2, (L3, "dead"): 1},
        "alarms": {("dead", "critical"): 1},
        "outcomes": {("move router", "done"): 20},
        "calls": {("GET agents",): 30},
    }
    samples = {(sample.name, *sample.labels.values()): sample.value for family in metric_families(figures, 5.0) for sample in family.samples}
    assert samples["rpcdaemon_start_time_seconds",] == 5.0
    assert [samples[f"rpcdaemon_{name}",] for name in gauges] == list(range(len(gauges)))
    assert samples["rpcdaemon_detect_seconds_sum",] == 90.0
    assert samples["rpcdaemon_settle_seconds_sum",] == 6.5
    assert samples["rpcdaemon_action_seconds_count", "move router"] == 1
    assert samples["rpcdaemon_agents", L3, "dead"] == 1
    assert samples["rpcdaemon_alarms", "dead", "critical"] == 1
    assert samples["rpcdaemon_actions_total", "move router", "done"] == 20
    assert samples["rpcdaemon_api_calls_total", "GET agents"] == 30
    assert samples["rpcdaemon_heartbeats_total",] == 70
