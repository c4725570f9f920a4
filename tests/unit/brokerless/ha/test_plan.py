# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from brokerless.ha.plan import Action, Kind, Plan, Unplaced, apply
from brokerless.ha.snapshot import L3, Agent, Snapshot

ONE, TWO = Agent("a1", "net1", L3), Agent("a2", "net2", L3)
CLOUD = Snapshot({"a1": ONE, "a2": TWO}, hosting={"a1": frozenset({"r", "h"}), "a2": frozenset()})


def test_actions_are_applied_by_their_kind() -> None:
    plan = Plan(
        "test",
        (
            Action(1, Kind.FENCE, "net1", "net1", "it is dead", ONE),
            Action(2, Kind.MOVE_ROUTER, "r", "", "it is dead", ONE, TWO),
            Action(3, Kind.ADD_ROUTER, "h", "", "it is dead", None, TWO),
            Action(4, Kind.REMOVE_ROUTER, "h", "", "it is dead", ONE, needs=(3,)),
            Action(5, Kind.DISABLE_AGENT, "a1", "", "it is empty", ONE),
        ),
    )
    after = apply(CLOUD, plan)
    assert after.hosting == {"a1": frozenset(), "a2": frozenset({"r", "h"})}
    assert not after.agents["a1"].admin_state_up
    assert CLOUD.hosting["a1"] == {"r", "h"}
    assert apply(after, plan) == after


def test_an_action_reads_as_a_sentence() -> None:
    action = Action(2, Kind.MOVE_ROUTER, "r", "shop", "it is dead", ONE, TWO)
    assert str(action) == "2. move router r (shop) from net1 to net2: it is dead"
    assert str(Action(1, Kind.FENCE, "net1", "net1", "it is dead")) == "1. fence net1: it is dead"


def test_as_json_what_is_shared_is_there_once_and_nothing_is_null() -> None:
    refused = {"a1": "dead", "gone": "not judged"}
    plan = Plan(
        "test",
        (Action(1, Kind.ADD_ROUTER, "r", "", "why", None, TWO, refused=refused), Action(2, Kind.REMOVE_ROUTER, "r", "", "why", ONE)),
        (Unplaced("x", "", L3, "no place", ONE, refused),),
        ("a note",),
    )
    said = plan.to_json(CLOUD)
    assert said["refusals"] == [{"net1": "dead", "gone": "not judged"}]
    assert [each["refused"] for each in said["actions"] + said["unplaced"]] == [0, None, 0]
    assert said["actions"][0]["from"] is None
    assert said["unplaced"][0]["from"] == {"agent": "a1", "host": "net1"}
    assert said["notes"] == ["a note"]
    assert plan
    assert not Plan("test")
