# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What a watch is told is noted, and read again as it was; decisions are compared in test_replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from brokerless.ha.bus.base import Event, HearingBegan, Overheard
from brokerless.ha.bus.oslo_message import heard
from brokerless.ha.bus.recording import Noted, ProcessBegan, Recorder, Replay
from brokerless.ha.errands import Outcome, Result
from brokerless.ha.plan import Action, Kind
from brokerless.ha.policy import Fencing, PolicySettings
from brokerless.ha.recorded_watch import RecordedWatch, policy_of, tell
from brokerless.ha.snapshot import L3, Snapshot
from brokerless.ha.watch import Watch
from clouds import Cloud

POLICY = PolicySettings.for_intervals(10.0, 3.0, fencing=Fencing.TRY, fencing_by_host={"net1": Fencing.REQUIRE})
REPORT = {"method": "report_state", "args": {"agent_state": {"agent_state": {"host": "net1", "agent_type": L3, "binary": "b"}}}}


class Listener(Watch):
    """A watch that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(POLICY, [L3])
        self.told: list[tuple[Any, ...]] = []

    def looked(self, snapshot: Snapshot, now: float, under_way: Any = ()) -> Any:
        self.told.append((snapshot, now, list(under_way)))
        return super().looked(snapshot, now, under_way)

    def ended(self, action: Action, outcome: Outcome, now: float) -> None:
        self.told.append((action, outcome, now))
        super().ended(action, outcome, now)


def snapshot() -> Snapshot:
    cloud = Cloud()
    cloud.node("net1", zone="east", agent_mode="dvr_snat", routers=3)
    cloud.node("net2")
    cloud.network("lan", physnet="physnet1", tags=["a", "b"], on=("net1",))
    cloud.router("r1", on="net1", networks=("lan",), gateway="lan", fips=2, ha=True, availability_zone_hints=["east"])
    return cloud.snapshot()


def recorded(path: Path) -> list[Event | Noted]:
    events: list[Event | Noted | ProcessBegan] = []
    Replay([path]).run(lambda event, _wall: events.append(event))
    return [event for event in events if not isinstance(event, ProcessBegan)]


def test_what_it_is_told_is_told_again_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "heard"
    watch = RecordedWatch(POLICY, [L3], Recorder(path))
    cloud = snapshot()
    agents = cloud.agents
    move = Action(1, Kind.MOVE_ROUTER, "r1", "router r1", "why", agents["l3-net1"], agents["l3-net2"], (2, 3), (), {"l3-net1": "it is dead"})
    watch.looked(cloud, 5.0, iter([move]))
    watch.ended(move, Outcome(Result.STOOD_BACK, "somebody else did", agents["l3-net2"]), 6.0)
    notes = [note for note in recorded(path) if isinstance(note, Noted)]
    listener = Listener()
    assert policy_of(notes[0]) == POLICY
    for note in notes[1:]:
        tell(listener, note)
    assert listener.told == [(cloud, 5.0, [move]), (move, Outcome(Result.STOOD_BACK, "somebody else did", agents["l3-net2"]), 6.0)]


def test_what_the_bus_told_is_recorded_once_and_nothing_else_of_it(tmp_path: Path) -> None:
    path = tmp_path / "heard"
    watch = RecordedWatch(POLICY, [L3], Recorder(path))
    events = [HearingBegan(1.0, "bus"), heard(2.0, "neutron", "q", REPORT)]
    for event in [*events, Overheard(3.0, "neutron", "q", {"method": "other"})]:
        watch.hear(event, 0.0)
    assert [event for event in recorded(path) if not isinstance(event, Noted)] == events


def test_what_has_no_effect_is_not_noted(tmp_path: Path) -> None:
    path = tmp_path / "heard"
    watch = RecordedWatch(POLICY, [L3], Recorder(path))
    watch.tick(1.0, 1.0)
    watch.open_moves(())
    watch.overdue(2.0)
    assert [note.what for note in recorded(path) if isinstance(note, Noted)] == ["policy", "tick"]


@pytest.mark.parametrize("note", [Noted(1.0, "alarms", {}), Noted(1.0, "tick", {}), Noted(1.0, "tick", {"now": 1.0, "wall": 1.0, "more": 1})])
def test_what_is_no_note_is_refused(note: Noted) -> None:
    with pytest.raises(ValueError, match=note.what):
        tell(Watch(POLICY, [L3]), note)
