# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A watch that was recorded, and its replay: the same decisions with the same thresholds, others with others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from brokerless.ha.bus.base import HearingInterrupted, Lag
from brokerless.ha.bus.recording import Recorder, recordings_of
from brokerless.ha.journal import HostWish, OpenMove
from brokerless.ha.policy import PolicySettings
from brokerless.ha.recorded_watch import RecordedWatch
from brokerless.ha.replay import Decision, Summary, replay
from brokerless.ha.snapshot import DHCP, L3
from clouds import Cloud
from watched_cloud import WatchedCloud

POLICY = PolicySettings.for_intervals(10.0, 3.0, ha_members=2, settle_within=20.0)
MANAGED = frozenset({L3, DHCP})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "heard.jsonl"


def watched(path: Path, policy: PolicySettings = POLICY, hosts: int = 4, **limits: int) -> WatchedCloud:
    """A cloud with four routers and two networks on net1, of which all is recorded."""
    cloud = Cloud()
    for number in range(hosts):
        cloud.node(f"net{number + 1}")
    cloud.network("lan", on=("net1",))
    cloud.network("wan", physnet="physnet1", on=("net1",))
    for number in range(3):
        cloud.router(f"r{number}", on="net1", networks=("lan",), fips=number, tags=["blue"])
    cloud.router("redundant", on=("net1", "net2"), networks=("lan",), ha=True)
    return WatchedCloud(cloud, RecordedWatch(policy, MANAGED, Recorder(path, **limits)), 3.0)


def replayed(files: list[Path], policy: PolicySettings = POLICY) -> tuple[list[tuple[str, dict[str, Any]]], Summary]:
    found: list[Decision] = []
    summary = replay(files, policy, MANAGED, found.append)
    return [(each.event, dict(each.told)) for each in found], summary


def events(decided: list[tuple[str, dict[str, Any]]]) -> set[str]:
    return {event if event != "transition" else f"{told['host']} {told['after']}" for event, told in decided}


def test_a_replay_decides_what_was_decided(path: Path) -> None:
    """One of everything that a watch can be told."""
    story = watched(path)
    watch = story.watch
    story.passes(10)
    story.silent.add("net1")
    story.fails.add("r1")
    story.passes(40)
    watch.wish(HostWish("net3", "draining", 1.0), "net3")
    story.passes(10)
    port = {"device_id": "r0", "device_owner": "network:router_interface", "status": "DOWN", "binding:host_id": "net2"}
    watch.read_settling(["r0", "r2"], [port], [], story.now)
    story.passes(5)
    watch.overdue(story.now)
    watch.wish(None, "net3")
    watch.polled({"lan", "wan"})
    watch.polled({"lan"})
    story.silent.clear()
    story.passes(30)
    watch.rebalance(story.now, 2)
    watch.hear(HearingInterrupted(story.now, "the test", story.now - 1, "cut"), 0.0)
    story.passes(5)
    watch.hear(Lag(story.now, "the test", 9.0, 6000), 0.0)
    story.answers = False
    watch.open_moves(OpenMove(router, "l3-net1", "net1", "l3-net2", "net2", "adding", "t", 1.0) for router in ("r2",))
    story.passes(5)
    story.answers = True
    story.silent.update({"net2", "net3", "net4"})
    watch.hear(Lag(story.now, "the test", 0.0, 0), 0.0)
    story.passes(40)
    watch.release(story.now)
    watch.overdue(story.now)
    watch.leads_no_more(story.now)
    story.passes(20)
    assert {"net1 dead", "net1 returning", "net1 alive", "plan", "alarm"} <= events(story.decided)
    decided, summary = replayed([path])
    assert decided == story.decided
    assert (summary.damaged, summary.others) == (0, {})
    assert summary.heartbeats > 100
    assert summary.seconds == pytest.approx(165.0, abs=1.0)


def test_other_thresholds_decide_otherwise(path: Path) -> None:
    story = watched(path)
    story.acts = False
    story.passes(10)
    story.silent.add("net1")
    story.passes(30)
    assert "net1 dead" in events(story.decided)
    patient, summary = replayed([path], PolicySettings.for_intervals(30.0, 3.0, ha_members=2))
    assert summary.others["agent_down_time"] == (10.0, 30.0)
    assert "net1 dead" not in events(patient)
    assert not any((action["from"] or {}).get("host") for event, told in patient if event == "plan" for action in told["plan"]["actions"])


def test_where_nobody_looked_the_plan_is_made_of_what_was_seen_last(path: Path) -> None:
    """The daemon that was recorded was too patient to call the agent dead."""
    story = watched(path, PolicySettings.for_intervals(60.0, 3.0))
    story.passes(10)
    story.looks()
    story.silent.add("net1")
    story.passes(40)
    assert "net1 dead" not in events(story.decided)
    decided, _summary = replayed([path])
    assert "net1 dead" in events(decided)
    plans = [told["plan"] for event, told in decided if event == "plan"]
    assert {action["id"] for action in plans[-1]["actions"]} == {"r0", "r1", "r2", "redundant", "lan", "wan"}


def test_the_newest_file_alone_has_all_that_is_needed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    story = watched(path, max_bytes=400_000, files=3)
    monkeypatch.setattr("brokerless.ha.recorded_watch.time.monotonic", lambda: story.now)
    monkeypatch.setattr("brokerless.ha.bus.recording.time.monotonic", lambda: story.now)
    monkeypatch.setattr("brokerless.ha.bus.recording.time.time", lambda: story.now + story.wall_ahead)
    story.watch.wish(HostWish("net2", "draining", 1.0), "net2")
    while len(recordings_of(path)) < 3:
        story.passes(1)
    decided, _summary = replayed([path])
    assert not {each for each in events(decided) if each.endswith(("dead", "suspect"))}
    story.silent.add("net1")
    story.passes(30)
    decided, summary = replayed(recordings_of(path)[-1:])
    assert summary.damaged == 0
    assert "net1 dead" in events(decided)


def test_another_process_begins_anew(path: Path) -> None:
    first = watched(path)
    first.passes(12)
    second = watched(path)
    second.passes(12)
    assert replayed([path])[0] == first.decided + second.decided


def test_what_is_damaged_is_counted(path: Path) -> None:
    watched(path).passes(5)
    notes = [
        {"what": "explode", "data": {}},
        {"what": "tick", "data": {"now": "soon", "wall": 1.0}},
        {"what": "tick", "data": []},
        {"what": "looked", "data": {"snapshot": {"agents": {"a": {"colour": "red"}}}, "now": 1.0}},
        {"what": "ended", "data": {"action": {"kind": "fly"}, "outcome": {}, "now": 1.0}},
        {"what": "policy", "data": {"agent_down_time": "long"}},
    ]
    with path.open("a", encoding="utf-8") as file:
        for note in notes:
            file.write(json.dumps({"event": "noted", "at": 1.0, **note}) + "\n")
    assert replayed([path])[1].damaged == len(notes)
