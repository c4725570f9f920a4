# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
from brokerless.ha.coexistence import HOUR, Coexistence, MoveBudget
from brokerless.ha.maintenance import parse_windows
from brokerless.ha.policy import PolicySettings
from clouds import Cloud

POLICY = PolicySettings()


@pytest.fixture
def cloud() -> Cloud:
    cloud = Cloud()
    cloud.node("net1")
    cloud.node("net2")
    cloud.router("r1", "net1")
    cloud.router("r2", "net1")
    cloud.network("n1", on=("net1",))
    return cloud


def move(cloud: Cloud, router: str, source: str, target: str) -> None:
    cloud.hosting[source] = [each for each in cloud.hosting[source] if each["id"] != router]
    cloud.hosting[target].append({"id": router})


def test_what_others_move_is_left_alone_for_a_while(cloud: Cloud) -> None:
    watcher = Coexistence(POLICY)
    assert watcher.observe(cloud.snapshot(), (), 100.0) == []
    move(cloud, "r1", "l3-net1", "l3-net2")
    said = "something else took router r1 from L3 agent on net1; it is on net2 now"
    assert watcher.observe(cloud.snapshot(), (), 101.0) == [said]
    assert watcher.stand_back(101.0) == {"r1": said, "l3-net1": f"{said}: we stand back (stand_back)"}
    assert watcher.observe(cloud.snapshot(), (), 102.0) == []
    assert watcher.stand_back(101.0 + POLICY.stand_back) == {}


def test_what_we_moved_is_no_surprise(cloud: Cloud) -> None:
    watcher = Coexistence(POLICY)
    watcher.observe(cloud.snapshot(), (), 100.0)
    move(cloud, "r1", "l3-net1", "l3-net2")
    assert watcher.observe(cloud.snapshot(), [("r1", "l3-net1"), ("r1", "l3-net2")], 101.0) == []


def test_what_was_deleted_is_nobodys_move(cloud: Cloud) -> None:
    watcher = Coexistence(POLICY)
    watcher.observe(cloud.snapshot(), (), 100.0)
    cloud.hosting["l3-net1"] = []
    cloud.hosting["dhcp-net1"] = []
    del cloud.routers["r1"], cloud.routers["r2"], cloud.networks["n1"]
    assert watcher.observe(cloud.snapshot(), (), 101.0) == []


def test_a_list_that_was_not_read_in_between_hides_nothing(cloud: Cloud) -> None:
    watcher = Coexistence(POLICY)
    watcher.observe(cloud.snapshot(), (), 100.0)
    hosting, cloud.hosting = cloud.hosting, {}
    watcher.observe(cloud.snapshot(), (), 101.0)
    cloud.hosting = hosting
    cloud.hosting["dhcp-net1"] = []
    assert watcher.observe(cloud.snapshot(), (), 102.0) == [
        "something else took network n1 from DHCP agent on net1; no agent hosts it now",
    ]


def test_orphans_are_those_that_had_no_agent_for_long(cloud: Cloud) -> None:
    watcher = Coexistence(POLICY)
    cloud.router("alone")
    cloud.network("unserved")
    watcher.observe(cloud.snapshot(), (), 100.0)
    assert watcher.orphans(100.0 + POLICY.orphan_after - 1) == frozenset()
    assert watcher.orphans(100.0 + POLICY.orphan_after) == {"alone", "unserved"}
    hosting, cloud.hosting = cloud.hosting, {}
    watcher.observe(cloud.snapshot(), (), 120.0)
    cloud.hosting = hosting
    cloud.hosting["l3-net1"].append({"id": "alone"})
    watcher.observe(cloud.snapshot(), (), 130.0)
    assert watcher.orphans(200.0) == {"unserved"}
    cloud.hosting["l3-net1"] = [{"id": "r1"}, {"id": "r2"}]
    watcher.observe(cloud.snapshot(), (), 201.0)
    assert watcher.orphans(201.0 + POLICY.orphan_after - 1) == {"unserved"}


def test_a_budget_is_for_an_hour() -> None:
    budget = MoveBudget(3)
    assert budget.left(0.0, 0.0) == 3
    assert budget.again_in(0.0, 0.0) == math.inf
    for now in (0.0, 10.0, 20.0, 30.0):
        budget.spend(now)
    assert budget.left(31.0, 0.0) == 0
    assert budget.again_in(31.0, 0.0) == HOUR - 31.0
    assert budget.left(HOUR + 10.0, 0.0) == 1
    assert budget.left(2 * HOUR, 0.0) == 3


def test_outside_its_windows_a_budget_is_empty() -> None:
    budget = MoveBudget(3, parse_windows("thu 01:00-02:00"))
    assert (budget.left(5.0, 0.0), budget.again_in(5.0, 0.0)) == (0, HOUR)
    assert (budget.left(5.0, HOUR), budget.again_in(5.0, HOUR)) == (3, math.inf)
    assert MoveBudget(0, parse_windows("thu 01:00-02:00")).again_in(5.0, 0.0) == math.inf
