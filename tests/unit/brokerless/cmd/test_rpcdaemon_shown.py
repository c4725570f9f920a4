# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from brokerless.cmd.rpcdaemon_shown import show_plan, show_status
from brokerless.ha.planner import plan_watch
from brokerless.ha.policy import PolicySettings
from clouds import Cloud


def cloud() -> Cloud:
    cloud = Cloud()
    for host in ("net1", "net2"):
        cloud.node(host)
    cloud.network("lan", dhcp=False)
    cloud.router("r1", on="net1", networks=("lan",))
    cloud.dead("net1", kinds=("l3",))
    return cloud


def test_a_plan_says_what_goes_where_and_why(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    snapshot = cloud().snapshot()
    show_plan({"plan": plan_watch(snapshot, cloud().judgement(snapshot), PolicySettings()).to_json(snapshot)})
    shown = capsys.readouterr().out
    assert "router r1" in shown
    assert "L3 agent on net1 is dead" in shown
    show_plan({"plan": {"actions": [], "unplaced": [], "notes": ["nothing is moved: deaf"]}})
    assert capsys.readouterr().out == "nothing to do\nnothing is moved: deaf\n"


def test_a_status_names_agents_alarms_and_who_leads(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    snapshot = cloud().snapshot()
    show_status(
        {
            "instance": "ctl1",
            "dry_run": False,
            "leads": True,
            "term": 7,
            "why_not": "",
            "hearing": {"trouble": "", "for_seconds": 12.0, "lag_seconds": 0.0, "heartbeats": 40},
            "judgement": cloud().judgement(snapshot).to_json(),
            "hosted": {"l3-net1": 1},
            "hosts": {"draining": ["net2"], "cordoned": []},
            "under_way": ["1. move router r1"],
            "settling": ["r2"],
            "waiting": 3,
            "alarms": [{"level": "critical", "name": "dead", "subject": "L3 agent on net1", "text": "L3 agent on net1 is dead [sic]"}],
        }
    )
    shown = capsys.readouterr().out
    for words in (
        "ctl1 leads in term 7",
        "alive draining",
        "under way: 1. move router r1",
        "until they work: routers r2",
        "3 actions wait",
        "CRITICAL dead: L3 agent on net1 is dead [sic]",
    ):
        assert words in shown
