# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Each alarm is told once; the rest is compared with what the daemon writes in tests/functional/ha/test_replay.py."""

from __future__ import annotations

from typing import Any

from brokerless.ha.decisions import Decisions
from brokerless.ha.plan import Plan, Unplaced
from brokerless.ha.snapshot import L3, Snapshot


def alarm(name: str, text: str) -> dict[str, str]:
    return {"level": "critical", "name": name, "subject": "", "text": text}


def test_an_alarm_is_told_when_it_begins_and_not_when_its_text_changes() -> None:
    told: list[dict[str, Any]] = []
    decisions = Decisions(lambda event, **members: told.append({"event": event, **members}))
    assert decisions.alarms([alarm("deaf", "for 1 s")]) == (["for 1 s"], [])
    assert decisions.alarms([alarm("deaf", "for 2 s"), alarm("api", "away")]) == (["away"], [])
    assert decisions.alarms([]) == ([], ["for 2 s", "away"])
    assert decisions.alarms([alarm("deaf", "again")]) == (["again"], [])
    assert told == [{"event": "alarm", "text": text} for text in ("for 1 s", "away", "again")]


def test_a_plan_that_finds_nothing_to_do_is_no_decision() -> None:
    told: list[str] = []
    decisions = Decisions(lambda event, **_members: told.append(event))
    decisions.plan(Plan("watch"), Snapshot({}))
    assert not told
    decisions.plan(Plan("watch", unplaced=(Unplaced("r1", "", L3, "no room"),)), Snapshot({}))
    assert told == ["plan"]
