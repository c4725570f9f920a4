# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What is planned, kind by kind of router and network."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from brokerless.ha import planner as planner_module
from brokerless.ha.liveness import Forwarding, Judgement, State
from brokerless.ha.mass_failure import Freeze, Scope
from brokerless.ha.plan import Action, Kind, Plan, apply
from brokerless.ha.planner import NO_WISHES, Wishes, plan_rebalance, plan_undrain, plan_watch, what_if
from brokerless.ha.policy import Fencing, PolicySettings
from brokerless.ha.snapshot import DHCP, L3, Snapshot
from clouds import Cloud, loads
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

POLICY = PolicySettings()
ONLY_L3 = Wishes(managed=frozenset({L3}))
ONLY_DHCP = Wishes(managed=frozenset({DHCP}))


def drained(snapshot: Snapshot, judgement: Judgement, policy: PolicySettings, host: str, wanted: Wishes = NO_WISHES) -> Plan:
    return plan_watch(snapshot, judgement, policy, replace(wanted, draining=wanted.draining | {host}))


@pytest.fixture
def cloud() -> Cloud:
    """Three network nodes."""
    cloud = Cloud()
    for host in ("net1", "net2", "net3"):
        cloud.node(host)
    return cloud


def watch(cloud: Cloud, policy: PolicySettings = POLICY, wishes: Wishes = ONLY_L3) -> Plan:
    snapshot = cloud.snapshot()
    return plan_watch(snapshot, cloud.judgement(snapshot), policy, wishes)


def steps(plan: Plan) -> list[tuple[str, str, str, str]]:
    return [(action.kind.value, action.thing, _host(action.source), _host(action.target)) for action in plan.actions]


def _host(agent: object) -> str:
    return getattr(agent, "host", "")


def only(plan: Plan) -> Action:
    (action,) = plan.actions
    return action


# --- evacuation --------------------------------------------------------------------------------------------------------------------------


def test_nothing_is_planned_while_all_is_well(cloud: Cloud) -> None:
    cloud.network("n1", on=("net1", "net2", "net3"))
    cloud.router("r1", "net1", networks=("n1",))
    plan = watch(cloud, wishes=Wishes())
    assert not plan
    assert plan == Plan("watch", **POLICY.carried_out(hurry=False))


def test_sixty_routers_of_a_dead_agent_are_spread_evenly(cloud: Cloud) -> None:
    for number in range(60):
        cloud.router(f"r{number:02}", "net1")
    for number in range(7):
        cloud.router(f"other{number}", "net2")
    cloud.dead("net1")
    plan = watch(cloud)
    assert len(plan.actions) == 60
    assert {action.kind for action in plan.actions} == {Kind.MOVE_ROUTER}
    after = loads(apply(cloud.snapshot(), plan))
    assert after["net1"] == 0
    assert sorted((after["net2"], after["net3"])) == [33, 34]


def test_an_early_choice_makes_room_for_later_ones() -> None:
    cloud = Cloud()
    for host, zone in (("net0", "az0"), ("net1", "az1"), ("net2", "az2"), ("net3", "az3")):
        cloud.node(host, zone=zone)
    cloud.router("ra", "net0", availability_zone_hints=["az1", "az2"])
    cloud.router("rb", "net0", availability_zone_hints=["az1", "az3"])
    cloud.router("rc", "net0", availability_zone_hints=["az1", "az3"])
    cloud.dead("net0")
    assert loads(apply(cloud.snapshot(), watch(cloud))) == {"net0": 0, "net1": 1, "net2": 1, "net3": 1}


def test_the_reason_names_the_death_and_the_choice(cloud: Cloud) -> None:
    cloud.router("r1", "net1")
    cloud.router("r2", "net2")
    cloud.dead("net1")
    action = only(watch(cloud))
    assert str(action) == (
        "1. move router r1 (router r1) from net1 to net3: L3 agent on net1 is dead: silent; net3 will host 1, of 2 that can take it (others: net2 1)"
    )
    assert action.refused == {"l3-net1": "dead: silent"}


def test_what_was_carried_out_leaves_nothing_to_plan(cloud: Cloud) -> None:
    for number in range(5):
        cloud.router(f"r{number}", "net1")
    cloud.router("h", ("net1", "net2"), ha=True)
    cloud.network("n", on=("net1", "net2"))
    cloud.dead("net1")
    snapshot = cloud.snapshot()
    plan = plan_watch(snapshot, cloud.judgement(), POLICY, Wishes())
    after = apply(snapshot, plan)
    assert after != snapshot
    assert apply(after, plan) == after
    assert not plan_watch(after, cloud.judgement(), POLICY, Wishes()).actions


@pytest.mark.parametrize("state", [State.SUSPECT, State.UNKNOWN, State.RETURNING])
def test_only_the_dead_are_evacuated(cloud: Cloud, state: State) -> None:
    cloud.router("r1", "net1")
    cloud.says("l3-net1", state)
    assert not watch(cloud)


def test_nothing_is_moved_while_we_are_deaf(cloud: Cloud) -> None:
    cloud.router("r1", "net1")
    cloud.dead("net1")
    cloud.deaf = "the connection is lost"
    plan = watch(cloud)
    assert not plan
    assert plan.notes == ("nothing is moved: the connection is lost",)
    for other in (
        drained(cloud.snapshot(), cloud.judgement(), POLICY, "net1"),
        plan_rebalance(cloud.snapshot(), cloud.judgement(), POLICY),
        plan_undrain(cloud.snapshot(), cloud.judgement(), POLICY, "net1"),
    ):
        assert not other.actions
        assert other.notes == plan.notes


def test_what_the_guard_holds_back_stays_and_is_said(cloud: Cloud) -> None:
    cloud.router("r1", "net1")
    cloud.dead("net1", held_back="mass-failure guard: 2 of 3")
    plan = watch(cloud)
    assert not plan
    assert plan.notes == ("L3 agent on net1 is dead, but nothing leaves it: mass-failure guard: 2 of 3",)


def test_nothing_goes_to_an_agent_that_was_not_heard_just_now(cloud: Cloud) -> None:
    cloud.router("r1", "net1")
    cloud.dead("net1")
    cloud.says("l3-net2", State.SUSPECT)
    cloud.says("l3-net3", State.ALIVE, heard_now=False)
    plan = watch(cloud)
    assert not plan
    (left,) = plan.unplaced
    assert left.thing == "r1"
    assert left.reason == "L3 agent on net1 is dead: silent; no agent can take it"
    assert left.refused == {
        "l3-net1": "dead: silent",
        "l3-net2": "suspect: suspect",
        "l3-net3": "it was not heard on the bus just now",
    }


def test_a_returning_or_damped_agent_gets_something_only_if_nobody_else_can(cloud: Cloud) -> None:
    cloud.router("r1", "net1")
    cloud.dead("net1")
    cloud.says("l3-net2", State.RETURNING, heard_now=True, reluctance="it was dead")
    action = only(watch(cloud))
    assert _host(action.target) == "net3"
    assert action.refused["l3-net2"] == "only if nobody else can: it was dead"
    cloud.says("l3-net3", State.SUSPECT)
    assert _host(only(watch(cloud)).target) == "net2"


def test_important_routers_come_first(cloud: Cloud) -> None:
    cloud.network("n1")
    cloud.network("n2")
    cloud.router("plain", "net1")
    cloud.router("off", "net1", admin_state_up=False, fips=9)
    cloud.router("busy", "net1", fips=2)
    cloud.router("busier", "net1", fips=3)
    cloud.router("wired", "net1", networks=("n1", "n2"))
    cloud.router("tagged", "net1", tags=["rpcdaemon:first"])
    cloud.dead("net1")
    assert [action.thing for action in watch(cloud).actions] == ["tagged", "busier", "busy", "wired", "plain", "off"]


def test_a_disabled_dead_agent_is_evacuated_as_the_policy_says(cloud: Cloud) -> None:
    cloud.router("r1", "net1")
    cloud.dead("net1")
    cloud.agents["l3-net1"]["admin_state_up"] = False
    assert only(watch(cloud)).thing == "r1"
    plan = watch(cloud, replace(POLICY, evacuate_disabled=False))
    assert not plan
    assert "evacuate_disabled is off" in plan.notes[0]


def test_the_hands_off_tag_is_respected(cloud: Cloud) -> None:
    cloud.router("mine", "net1", tags=["rpcdaemon:hands-off"])
    cloud.network("mine-too", on=("net1",), tags=["rpcdaemon:hands-off"])
    cloud.dead("net1")
    plan = watch(cloud, wishes=Wishes())
    assert not plan
    assert plan.notes == (
        "router mine (router mine) is left alone: it has the tag rpcdaemon:hands-off",
        "network mine-too (net mine-too) is left alone: it has the tag rpcdaemon:hands-off",
    )


def test_we_stand_back_from_what_others_move(cloud: Cloud) -> None:
    cloud.router("r1", "net1")
    cloud.router("r2", "net1")
    cloud.dead("net1")
    plan = watch(cloud, wishes=replace(ONLY_L3, stand_back={"r1": "something else moved it"}))
    assert steps(plan) == [("move router", "r2", "net1", "net2")]
    plan = watch(cloud, wishes=replace(ONLY_L3, stand_back={"l3-net1": "something else moves"}))
    assert not plan
    assert plan.notes == ("L3 agent on net1 is dead, but nothing leaves it for now: something else moves",)


def test_an_agent_whose_routers_were_not_read_is_named(cloud: Cloud) -> None:
    cloud.dead("net1")
    del cloud.hosting["l3-net1"]
    assert watch(cloud).notes == ("L3 agent on net1 is to be left, but what it hosts was not read",)


# --- distributed routers -----------------------------------------------------------------------------------------------------------------


def test_of_a_distributed_router_the_snat_part_moves_between_snat_agents() -> None:
    cloud = Cloud()
    for host, mode in (("net1", "dvr_snat"), ("net2", "legacy"), ("net3", "dvr_snat"), ("comp1", "dvr"), ("comp2", "dvr_no_external")):
        cloud.node(host, agent_mode=mode)
    cloud.network("ext", physnet="physnet1", dhcp=False)
    cloud.router("r1", "net1", distributed=True, gateway="ext")
    cloud.dead("net1")
    action = only(watch(cloud))
    assert _host(action.target) == "net3"
    assert action.refused == {
        "l3-net1": "dead: silent",
        "l3-net2": "its agent_mode is legacy: a distributed router needs dvr_snat",
        "l3-comp1": "its agent_mode is dvr: it hosts only the distributed part of routers",
        "l3-comp2": "its agent_mode is dvr_no_external: it hosts only the distributed part of routers",
    }


def test_agents_on_compute_nodes_are_never_evacuated(cloud: Cloud) -> None:
    cloud.node("comp1", agent_mode="dvr")
    cloud.router("r1", "comp1", distributed=True)
    cloud.dead("comp1")
    plan = watch(cloud)
    assert not plan
    assert "is in agent_mode dvr" in plan.unplaced[0].reason


# --- HA routers --------------------------------------------------------------------------------------------------------------------------


def test_an_ha_router_gets_a_new_member_before_the_dead_one_goes(cloud: Cloud) -> None:
    cloud.node("net4")
    cloud.router("h", ("net1", "net2", "net3"), ha=True)
    cloud.dead("net1")
    plan = watch(cloud)
    assert steps(plan) == [("add router", "h", "", "net4"), ("remove router", "h", "net1", "")]
    assert plan.actions[1].needs == (1,)


def test_legacy_routers_go_before_spares_of_ha_routers(cloud: Cloud) -> None:
    cloud.router("a-spare", ("net1", "net2"), ha=True, fips=5)
    cloud.router("legacy", "net1")
    cloud.dead("net1")
    assert [action.thing for action in watch(cloud).actions] == ["legacy", "a-spare", "a-spare"]


def test_a_half_done_repair_of_an_ha_router_is_finished_not_begun_anew(cloud: Cloud) -> None:
    for host in ("net4", "net5"):
        cloud.node(host)
    cloud.router("h", ("net1", "net2", "net3", "net4"), ha=True)
    cloud.dead("net1")
    assert steps(watch(cloud)) == [("remove router", "h", "net1", "")]


def test_an_ha_router_without_another_agent_keeps_its_dead_member(cloud: Cloud) -> None:
    cloud.router("h", ("net1", "net2", "net3"), ha=True)
    cloud.dead("net1")
    plan = watch(cloud)
    assert not plan
    assert plan.unplaced[0].reason.endswith("no other agent can take a member")


def test_an_ha_router_of_which_all_members_are_dead_moves_wholly(cloud: Cloud) -> None:
    for host in ("net4", "net5"):
        cloud.node(host)
    cloud.router("h", ("net1", "net2"), ha=True)
    cloud.dead("net1", "net2")
    plan = watch(cloud)
    assert sorted(steps(plan)) == [
        ("add router", "h", "", "net3"),
        ("add router", "h", "", "net4"),
        ("remove router", "h", "net1", ""),
        ("remove router", "h", "net2", ""),
    ]


def test_a_new_member_goes_to_a_zone_that_has_none() -> None:
    cloud = Cloud()
    for host, zone in (("net1", "a"), ("net2", "b"), ("net3", "b"), ("net4", "c")):
        cloud.node(host, zone=zone)
    cloud.router("h", ("net1", "net2"), ha=True)
    cloud.router("r", "net4")
    cloud.dead("net1")
    assert steps(watch(cloud))[0] == ("add router", "h", "", "net4")


# --- fencing -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fencing", "needs", "after"), [(Fencing.REQUIRE, (1,), ()), (Fencing.TRY, (), (1,))])
def test_a_host_that_may_still_forward_is_fenced_first(cloud: Cloud, fencing: Fencing, needs: tuple[int, ...], after: tuple[int, ...]) -> None:
    cloud.router("r1", "net1")
    cloud.router("r2", "net1")
    cloud.dead("net1", kinds=("l3",), forwarding=Forwarding.MAY_FORWARD)
    plan = watch(cloud, replace(POLICY, fencing=fencing))
    assert [action.kind for action in plan.actions] == [Kind.FENCE, Kind.MOVE_ROUTER, Kind.MOVE_ROUTER]
    assert plan.actions[0].thing == "net1"
    assert all((action.needs, action.after) == (needs, after) for action in plan.actions[1:])


def test_a_host_that_is_off_or_fenced_is_not_fenced_again(cloud: Cloud) -> None:
    cloud.router("r1", "net1")
    cloud.dead("net1")
    policy = replace(POLICY, fencing=Fencing.REQUIRE)
    assert only(watch(cloud, policy)).needs == ()
    cloud.dead("net1", forwarding=Forwarding.NOT_KNOWN)
    assert only(watch(cloud, policy, replace(ONLY_L3, fenced=frozenset({"net1"})))).needs == ()


def test_after_a_fencing_that_failed_routers_stay_if_it_is_required_and_leave_if_it_was_tried(cloud: Cloud) -> None:
    cloud.router("r1", "net1")
    cloud.dead("net1", kinds=("l3",), forwarding=Forwarding.MAY_FORWARD)
    failed = replace(ONLY_L3, stand_back={"net1": "the power switch does not answer"})
    required = watch(cloud, replace(POLICY, fencing=Fencing.REQUIRE), failed)
    assert (required.actions, required.unplaced) == ((), ())
    assert any("its routers stay" in note and "the power switch does not answer" in note for note in required.notes)
    tried = only(watch(cloud, replace(POLICY, fencing=Fencing.TRY), failed))
    assert (tried.kind, tried.after) == (Kind.MOVE_ROUTER, ())
    assert "there may be two of this router: the power switch does not answer" in tried.reason


def test_without_fencing_the_risk_is_said(cloud: Cloud) -> None:
    cloud.router("r1", "net1")
    cloud.dead("net1", kinds=("l3",), forwarding=Forwarding.MAY_FORWARD)
    assert "there may be two of this router" in only(watch(cloud)).reason
    fenced = replace(POLICY, fencing_by_host={"net1": Fencing.TRY})
    assert watch(cloud, fenced).actions[0].kind is Kind.FENCE


# --- orphans -----------------------------------------------------------------------------------------------------------------------------


def test_orphans_are_adopted_only_if_wanted_and_known_for_long(cloud: Cloud) -> None:
    cloud.network("n1")
    cloud.router("wired", networks=("n1",))
    cloud.router("bare")
    cloud.router("mine", networks=("n1",), tags=["rpcdaemon:hands-off"])
    orphans = replace(ONLY_L3, orphans=frozenset({"wired", "bare", "mine"}))
    adopt = replace(POLICY, adopt_orphans=True)
    assert not watch(cloud, POLICY, orphans)
    assert not watch(cloud, adopt, ONLY_L3)
    assert steps(watch(cloud, adopt, orphans)) == [("add router", "wired", "", "net1")]
    frozen = replace(cloud.judgement(), freezes=(Freeze(Scope(L3, "nova"), 0.0, "2 of 3", ()),))
    assert not plan_watch(cloud.snapshot(), frozen, adopt, orphans)
    del cloud.hosting["l3-net3"]
    assert not watch(cloud, adopt, orphans)


# --- networks ----------------------------------------------------------------------------------------------------------------------------


def test_networks_are_served_by_every_live_agent(cloud: Cloud) -> None:
    cloud.network("n1", on=("net1",))
    cloud.network("off", dhcp=False, on=("net1",))
    assert steps(watch(cloud, wishes=ONLY_DHCP)) == [("add network", "n1", "", "net2"), ("add network", "n1", "", "net3")]


def test_networks_leave_dead_agents_after_another_has_them(cloud: Cloud) -> None:
    cloud.network("lone", on=("net1",))
    cloud.network("shared", on=("net1", "net2", "net3"))
    cloud.dead("net1")
    plan = watch(cloud, wishes=ONLY_DHCP)
    assert steps(plan) == [
        ("add network", "lone", "", "net2"),
        ("add network", "lone", "", "net3"),
        ("remove network", "lone", "net1", ""),
        ("remove network", "shared", "net1", ""),
    ]
    assert plan.actions[2].needs == (1,)
    assert plan.actions[3].needs == ()


def test_a_network_that_nobody_else_can_serve_stays(cloud: Cloud) -> None:
    cloud.node("net4", physnets=("physnet2",))
    cloud.network("n1", physnet="physnet2", on=("net4",))
    cloud.dead("net4")
    plan = watch(cloud, wishes=ONLY_DHCP)
    assert not plan
    (left,) = plan.unplaced
    assert left.refused["dhcp-net1"] == "its host can't reach vlan on physnet2"


def test_so_many_agents_serve_a_network_as_the_policy_says(cloud: Cloud) -> None:
    cloud.node("net4")
    for number in range(8):
        cloud.network(f"n{number}", on=("net1",))
    policy = replace(POLICY, dhcp_agents_per_network=2)
    snapshot = cloud.snapshot()
    plan = plan_watch(snapshot, cloud.judgement(), policy, ONLY_DHCP)
    after = apply(snapshot, plan)
    assert all(len(hosts) == 2 for hosts in after.hosts_of.values())
    assert loads(after, DHCP) == {"net1": 8, "net2": 3, "net3": 3, "net4": 2}


def test_surplus_servers_are_trimmed_only_if_wanted(cloud: Cloud) -> None:
    cloud.network("n1", on=("net1", "net2", "net3"))
    cloud.network("n2", on=("net3",))
    policy = replace(POLICY, dhcp_agents_per_network=2)
    assert steps(watch(cloud, policy, ONLY_DHCP)) == [("add network", "n2", "", "net1")]
    assert ("remove network", "n1", "net3", "") in steps(watch(cloud, replace(policy, dhcp_trim=True), ONLY_DHCP))


def test_a_deleted_network_leaves_nothing_to_plan(cloud: Cloud) -> None:
    cloud.network("n1", on=("net1",))
    del cloud.networks["n1"]
    assert not watch(cloud, wishes=ONLY_DHCP)


def test_a_network_in_zones_is_served_there_only() -> None:
    cloud = Cloud()
    for host, zone in (("net1", "a"), ("net2", "a"), ("net3", "b")):
        cloud.node(host, zone=zone)
    cloud.network("n1", on=("net1",), availability_zone_hints=["a"])
    action = only(watch(cloud, wishes=ONLY_DHCP))
    assert _host(action.target) == "net2"
    assert action.refused == {"dhcp-net3": "its zone is b, wanted a"}


def test_networks_of_agents_that_were_not_read_stay(cloud: Cloud) -> None:
    cloud.network("n1", on=("net1",))
    cloud.dead("net1")
    del cloud.hosting["dhcp-net2"]
    plan = watch(cloud, wishes=ONLY_DHCP)
    assert not plan
    assert plan.notes == ("networks are left as they are: it was not read which are served on net2",)


def test_a_frozen_cloud_gets_no_new_servers(cloud: Cloud) -> None:
    cloud.network("n1", on=("net1",))
    judgement = replace(cloud.judgement(), freezes=(Freeze(Scope(DHCP), 0.0, "2 of 3", ()),))
    assert not plan_watch(cloud.snapshot(), judgement, POLICY, ONLY_DHCP)


# --- drain, undrain, rebalance -----------------------------------------------------------------------------------------------------------


def test_a_drain_empties_the_host_and_disables_it_last(cloud: Cloud) -> None:
    cloud.router("r1", "net1")
    cloud.router("h", ("net1", "net2"), ha=True)
    cloud.network("n1", on=("net1",))
    policy = replace(POLICY, disable_after_drain=True, dhcp_agents_per_network=1)
    snapshot = cloud.snapshot()
    plan = drained(snapshot, cloud.judgement(), policy, "net1")
    assert plan.in_flight == policy.drain_in_flight
    after = apply(snapshot, plan)
    assert (loads(after)["net1"], loads(after, DHCP)["net1"]) == (0, 0)
    disabled = [action for action in plan.actions if action.kind is Kind.DISABLE_AGENT]
    assert [action.thing for action in disabled] == ["dhcp-net1", "l3-net1"]
    for action in disabled:
        leaving = {each.number for each in plan.actions if each.source == action.source and each.kind is not Kind.DISABLE_AGENT}
        assert set(action.needs) == leaving
        assert all(number < action.number for number in leaving)
    assert not drained(after, cloud.judgement(), policy, "net1").actions


def test_a_drained_agent_on_which_something_stays_is_not_disabled(cloud: Cloud) -> None:
    cloud.node("net4", physnets=("physnet9",))
    cloud.network("ext", physnet="physnet9", dhcp=False)
    cloud.router("stuck", "net4", gateway="ext")
    cloud.router("free", "net4")
    plan = drained(cloud.snapshot(), cloud.judgement(), replace(POLICY, disable_after_drain=True), "net4", ONLY_L3)
    assert [action.kind for action in plan.actions] == [Kind.MOVE_ROUTER]
    assert [each.thing for each in plan.unplaced] == ["stuck"]


def test_a_drain_takes_a_member_away_if_others_are_left(cloud: Cloud) -> None:
    cloud.router("h", ("net1", "net2", "net3"), ha=True)
    plan = drained(cloud.snapshot(), cloud.judgement(), POLICY, "net1", ONLY_L3)
    assert steps(plan) == [("remove router", "h", "net1", "")]
    assert "less redundancy" in only(plan).reason


def test_of_a_dead_and_a_drained_member_the_dead_one_is_replaced(cloud: Cloud) -> None:
    cloud.router("h", ("net1", "net2"), ha=True)
    cloud.dead("net2")
    plan = watch(cloud, wishes=replace(ONLY_L3, draining=frozenset({"net1"})))
    assert steps(plan) == [("add router", "h", "", "net3"), ("remove router", "h", "net2", ""), ("remove router", "h", "net1", "")]
    assert [action.needs for action in plan.actions] == [(), (1,), (1,)]


def test_a_cordoned_host_keeps_what_it_has_and_gets_nothing(cloud: Cloud) -> None:
    cloud.router("r1", "net1")
    cloud.router("r2", "net2")
    cloud.router("r3", "net3")
    cloud.dead("net1")
    action = only(watch(cloud, wishes=replace(ONLY_L3, cordoned=frozenset({"net2"}))))
    assert _host(action.target) == "net3"
    assert action.refused["l3-net2"] == "its host is cordoned"


def test_a_watch_goes_on_with_a_drain(cloud: Cloud) -> None:
    cloud.router("r1", "net1")
    assert steps(watch(cloud, wishes=replace(ONLY_L3, draining=frozenset({"net1"})))) == [("move router", "r1", "net1", "net2")]


def test_undrain_gives_a_host_its_share_within_the_budget(cloud: Cloud) -> None:
    for number in range(12):
        cloud.router(f"r{number:02}", f"net{2 + number % 2}")
    snapshot, judgement = cloud.snapshot(), cloud.judgement()
    policy = replace(POLICY, rebalance_threshold=1)
    cordoned = replace(ONLY_L3, draining=frozenset({"net1"}), cordoned=frozenset({"net1"}))
    plan = plan_undrain(snapshot, judgement, policy, "net1", cordoned)
    assert loads(apply(snapshot, plan)) == {"net1": 4, "net2": 4, "net3": 4}
    assert len(plan_undrain(snapshot, judgement, policy, "net1", cordoned, budget=3).actions) == 3


def test_rebalance_stops_at_the_threshold_and_the_budget(cloud: Cloud) -> None:
    for number in range(9):
        cloud.router(f"r{number}", "net1")
    snapshot, judgement = cloud.snapshot(), cloud.judgement()
    plan = plan_rebalance(snapshot, judgement, POLICY)
    after = apply(snapshot, plan)
    assert max(loads(after).values()) - min(loads(after).values()) <= POLICY.rebalance_threshold
    assert not plan_rebalance(after, judgement, POLICY).actions
    assert len(plan_rebalance(snapshot, judgement, POLICY, budget=2).actions) == 2
    assert plan.actions[0].reason == "net1 hosts 9 routers and net2 0"


def test_failback_waits_until_nothing_is_wrong(cloud: Cloud) -> None:
    for number in range(9):
        cloud.router(f"r{number}", "net1")
    budget = replace(ONLY_L3, failback_moves=2)
    assert len(watch(cloud, wishes=budget).actions) == 2
    assert not watch(cloud).actions
    cloud.router("r-dead", "net3")
    cloud.dead("net3")
    assert [action.thing for action in watch(cloud, wishes=budget).actions] == ["r-dead"]


def test_what_if_tells_who_would_get_what(cloud: Cloud) -> None:
    for number in range(4):
        cloud.router(f"r{number}", "net1")
    cloud.node("net4", physnets=("physnet9",))
    cloud.network("ext", physnet="physnet9", dhcp=False)
    cloud.router("stuck", "net4", gateway="ext")
    plan = what_if(cloud.snapshot(), cloud.judgement(), POLICY, ["net4", "net1"], ONLY_L3)
    assert plan.purpose == "what if net1, net4 died"
    assert loads(apply(cloud.snapshot(), plan)) == {"net1": 0, "net2": 2, "net3": 2, "net4": 1}
    assert [each.thing for each in plan.unplaced] == ["stuck"]


# --- as JSON -----------------------------------------------------------------------------------------------------------------------------


def test_a_plan_is_json_and_says_shared_refusals_once(cloud: Cloud) -> None:
    for number in range(4):
        cloud.router(f"r{number}", "net1")
    cloud.dead("net1")
    said = json.loads(json.dumps(watch(cloud).to_json(cloud.snapshot())))
    assert said["purpose"] == "watch"
    assert said["refusals"] == [{"net1": "dead: silent"}]
    assert [action["refused"] for action in said["actions"]] == [0, 0, 0, 0]
    assert said["actions"][0]["from"] == {"agent": "l3-net1", "host": "net1"}
    assert said["actions"][0]["number"] == 1


# --- whatever the cloud looks like -------------------------------------------------------------------------------------------------------

HOSTS = ("net1", "net2", "net3", "net4", "net5")
MODES = ("legacy", "legacy", "legacy", "dvr_snat", "dvr_snat", "dvr", "dvr_no_external")
CONDITIONS = ("alive",) * 8 + ("dead",) * 4 + ("held back", "suspect", "unknown", "returning", "not heard now", "damped")
TAGS: tuple[list[str], ...] = ([], [], [], [], ["rpcdaemon:hands-off"], ["rpcdaemon:first"])


@st.composite
def clouds(draw: st.DrawFn) -> Cloud:
    """Any cloud of up to five network nodes. One seed decides all: left to Hypothesis, nearly every choice would be the simplest."""
    chance = random.Random(draw(st.integers(0, 1 << 32)))
    pick = chance.choice
    cloud = Cloud()
    hosts = HOSTS[: pick((2, 3, 4, 5, 5))]

    def some(at_most: int) -> tuple[str, ...]:
        return tuple(chance.sample(hosts, chance.randint(0, min(at_most, len(hosts)))))

    for host in hosts:
        says = {"agent_mode": pick(MODES), "handle_internal_only_routers": chance.random() < 0.8}
        physnets = pick([("p1",), ("p1", "p2"), ("p2",), ()])
        cloud.node(host, zone=pick(["az1", "az2"]), physnets=physnets, tunnels=pick([("vxlan",), ("vxlan",), ("vxlan",), ()]), **says)
        for kind in ("l3", "dhcp", "ovs"):
            cloud.agents[f"{kind}-{host}"]["admin_state_up"] = chance.random() < 0.85
            _condition(cloud, f"{kind}-{host}", pick(CONDITIONS) if kind != "ovs" or chance.random() < 0.3 else "alive")
    cloud.network("tunnel", on=some(3))
    cloud.network("p1", physnet="p1", dhcp=chance.random() < 0.5, on=some(3))
    cloud.network("zoned", availability_zone_hints=["az1"], tags=pick(TAGS), on=some(3))
    for number in range(chance.randint(0, 12)):
        ha = chance.random() < 0.3
        cloud.router(
            f"r{number}",
            some(3 if ha else 1),
            ha=ha,
            distributed=chance.random() < 0.3,
            gateway=pick(["", "p1"]),
            networks=pick([(), ("tunnel",)]),
            availability_zone_hints=pick([[], [], ["az1"], ["az1", "az2"]]),
            tags=pick(TAGS),
            fips=chance.randint(0, 2),
        )
    return cloud


def _condition(cloud: Cloud, agent: str, condition: str) -> None:
    if condition == "held back":
        cloud.says(agent, State.DEAD, held_back="mass-failure guard")
    elif condition == "not heard now":
        cloud.says(agent, State.ALIVE)
    elif condition in {"returning", "damped"}:
        state = State.RETURNING if condition == "returning" else State.ALIVE
        cloud.says(agent, state, heard_now=True, reluctance=condition)
    elif condition != "alive":
        cloud.says(agent, State(condition))


def policies() -> st.SearchStrategy[PolicySettings]:
    return st.builds(
        PolicySettings,
        fencing=st.sampled_from(list(Fencing)),
        adopt_orphans=st.booleans(),
        dhcp_agents_per_network=st.integers(0, 3),
        dhcp_trim=st.booleans(),
        disable_after_drain=st.booleans(),
        evacuate_disabled=st.booleans(),
        ha_members=st.integers(0, 3),
        rebalance_threshold=st.integers(1, 3),
    )


def wishes() -> st.SearchStrategy[Wishes]:
    one = st.sampled_from([frozenset(), frozenset(), *(frozenset({host}) for host in HOSTS)])
    return st.builds(
        Wishes,
        cordoned=one,
        draining=one,
        fenced=one,
        orphans=st.sampled_from([frozenset(), frozenset({"r0", "r1", "r2", "r3", "tunnel"})]),
        stand_back=st.sampled_from([{}, {"r1": "something else moved it"}]),
        failback_moves=st.integers(0, 3),
    )


def plans(cloud: Cloud, policy: PolicySettings, wanted: Wishes) -> list[tuple[Plan, Wishes]]:
    """Return a plan of each kind, with the wishes that it comes from."""
    snapshot, judgement = cloud.snapshot(), cloud.judgement()
    host = HOSTS[0]
    return [
        (plan_watch(snapshot, judgement, policy, wanted), wanted),
        (drained(snapshot, judgement, policy, host, wanted), replace(wanted, draining=wanted.draining | {host})),
        (
            plan_undrain(snapshot, judgement, policy, host, wanted),
            replace(wanted, draining=wanted.draining - {host}, cordoned=wanted.cordoned - {host}),
        ),
        (plan_rebalance(snapshot, judgement, policy, wanted), wanted),
    ]


def faults_of_target(cloud: Cloud, thing: str, agent: dict[str, Any], wanted: Wishes) -> list[str]:
    """Say what is wrong with a target, from the API's own lists: an oracle that knows nothing of the planner's filters."""
    host, said = agent["host"], agent["configurations"]
    verdict = {"state": State.ALIVE, "heard_now": True, **cloud.verdicts.get(agent["id"], {})}
    switch = cloud.agents[f"ovs-{host}"]["configurations"]
    faults = []
    if verdict["state"] not in {State.ALIVE, State.RETURNING} or not verdict["heard_now"]:
        faults.append("not heard")
    if not cloud.verdicts.get(f"ovs-{host}", {"heard_now": True})["heard_now"]:
        faults.append("switch not heard")
    if not agent["admin_state_up"]:
        faults.append("disabled")
    if host in wanted.cordoned | wanted.draining:
        faults.append("barred")
    router = cloud.routers.get(thing)
    hints = (router or cloud.networks[thing]).get("availability_zone_hints")
    if hints and agent["availability_zone"] not in hints:
        faults.append("zone")
    networks = {thing} if router is None else {port["network_id"] for port in cloud.ports if port["device_id"] == thing}
    if router is not None:
        gateway = router["external_gateway_info"]
        networks |= {gateway["network_id"]} if gateway else set()
        mode = said["agent_mode"]
        if mode.startswith("dvr") and mode != "dvr_snat":
            faults.append("compute mode")
        if router["distributed"] and mode != "dvr_snat":
            faults.append("no snat")
        if not gateway and not said["handle_internal_only_routers"]:
            faults.append("internal only")
    for network in networks:
        kind, physnet = cloud.networks[network]["provider:network_type"], cloud.networks[network].get("provider:physical_network")
        if physnet not in switch["bridge_mappings"] if kind == "vlan" else kind not in switch["tunnel_types"]:
            faults.append(f"can't reach {network}")
    return faults


ANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@ANY
@given(clouds(), policies(), wishes())
def test_nothing_goes_to_an_agent_that_should_not_have_it(cloud: Cloud, policy: PolicySettings, wanted: Wishes) -> None:
    for plan, meant in plans(cloud, policy, wanted):
        for action in plan.actions:
            if action.target is not None:
                assert not faults_of_target(cloud, action.thing, cloud.agents[action.target.id], meant), str(action)
                assert action.target.id not in action.refused or "only if nobody else can" in action.refused[action.target.id]


@ANY
@given(clouds(), policies(), wishes())
def test_nothing_is_taken_from_where_it_should_stay(cloud: Cloud, policy: PolicySettings, wanted: Wishes) -> None:
    snapshot, judgement = cloud.snapshot(), cloud.judgement()
    plan = plan_watch(snapshot, judgement, policy, replace(wanted, failback_moves=0))
    removed = [action for action in plan.actions if action.source and action.kind not in {Kind.FENCE, Kind.DISABLE_AGENT}]
    for action in removed:
        assert action.source is not None
        trimmed = action.kind is Kind.REMOVE_NETWORK and policy.dhcp_trim
        assert judgement.verdicts[action.source.id].evacuate or action.source.host in wanted.draining or trimmed, str(action)
        assert action.source.abilities.mode not in {"dvr", "dvr_no_external"}
        assert action.thing not in wanted.stand_back
        tags = (cloud.routers.get(action.thing) or cloud.networks[action.thing]).get("tags") or []
        assert "rpcdaemon:hands-off" not in tags


@ANY
@given(clouds(), policies(), wishes())
def test_a_plan_that_was_carried_out_leaves_nothing_to_plan(cloud: Cloud, policy: PolicySettings, wanted: Wishes) -> None:
    snapshot, judgement = cloud.snapshot(), cloud.judgement()
    wanted = replace(wanted, failback_moves=0)
    for make in (
        lambda cloud_now: plan_watch(cloud_now, judgement, policy, wanted),
        lambda cloud_now: drained(cloud_now, judgement, policy, HOSTS[0], wanted),
        lambda cloud_now: plan_undrain(cloud_now, judgement, policy, HOSTS[0], wanted),
        lambda cloud_now: plan_rebalance(cloud_now, judgement, policy, wanted),
    ):
        plan = make(snapshot)
        after = apply(snapshot, plan)
        assert apply(after, plan) == after
        assert make(after).actions == ()


@ANY
@given(clouds(), policies(), wishes())
def test_everything_on_a_dead_agent_is_moved_or_named(cloud: Cloud, policy: PolicySettings, wanted: Wishes) -> None:
    snapshot, judgement = cloud.snapshot(), cloud.judgement()
    plan = plan_watch(snapshot, judgement, policy, wanted)
    after = apply(snapshot, plan)
    named = {(each.thing, each.source.id) for each in plan.unplaced if each.source}
    for agent, verdict in judgement.verdicts.items():
        if verdict.state is not State.DEAD:
            continue
        if any(note.startswith(f"{verdict.agent} is dead, but nothing leaves it") for note in plan.notes):
            continue
        for thing in after.hosted_by(agent):
            assert (thing, agent) in named or any(f" {thing} (" in note for note in plan.notes), f"{thing} is left on {agent}: {plan}"


@ANY
@given(clouds(), policies(), wishes())
def test_at_every_step_nothing_that_was_served_is_cut_off(cloud: Cloud, policy: PolicySettings, wanted: Wishes) -> None:
    snapshot = cloud.snapshot()
    for plan, _meant in plans(cloud, policy, wanted):
        now = snapshot
        for action in plan.actions:
            assert all(number < action.number for number in action.needs + action.after)
            before, now = now, apply(now, Plan("one", (action,)))
            if action.kind in {Kind.REMOVE_NETWORK, Kind.REMOVE_ROUTER} and (
                action.kind is Kind.REMOVE_ROUTER or snapshot.networks[action.thing].dhcp
            ):
                assert now.hosts_of.get(action.thing), f"{action} leaves nothing of {before.hosts_of[action.thing]}"
            if action.kind is Kind.DISABLE_AGENT:
                assert not now.hosted_by(action.thing) & (frozenset(snapshot.routers) | frozenset(snapshot.networks)), str(action)
            if action.kind is Kind.MOVE_ROUTER:
                assert len(now.hosts_of[action.thing]) == len(before.hosts_of[action.thing])


@ANY
@given(clouds(), policies(), wishes())
def test_what_is_moved_off_the_dead_ends_as_even_as_it_can(cloud: Cloud, policy: PolicySettings, wanted: Wishes) -> None:
    snapshot, judgement = cloud.snapshot(), cloud.judgement()
    plan = plan_watch(snapshot, judgement, replace(policy, adopt_orphans=False), replace(wanted, failback_moves=0))
    after = loads(apply(snapshot, plan))
    for action in plan.actions:
        if action.kind is Kind.MOVE_ROUTER:
            assert action.target is not None
            for agent in snapshot.of_type(L3):
                if agent.id not in action.refused:
                    assert after[action.target.host] <= after[agent.host] + 1, str(action)


@ANY
@given(clouds(), policies(), wishes(), st.randoms(use_true_random=False))
def test_the_order_of_neutrons_lists_changes_nothing(cloud: Cloud, policy: PolicySettings, wanted: Wishes, order: Any) -> None:
    before = [plan for plan, _meant in plans(cloud, policy, wanted)]
    for field in ("agents", "routers", "networks", "hosting"):
        items = list(getattr(cloud, field).items())
        order.shuffle(items)
        setattr(cloud, field, dict(items))
    assert [plan for plan, _meant in plans(cloud, policy, wanted)] == before


def test_two_thousand_routers_and_a_hundred_agents_take_work_in_proportion() -> None:
    cloud = Cloud()
    for number in range(100):
        cloud.node(f"net{number:03}", zone=f"az{number % 3}")
    for number in range(2000):
        cloud.network(f"n{number}")
        hints = [f"az{number % 3}"] if number % 2 else []
        cloud.router(f"r{number:04}", "net000", networks=(f"n{number}",), availability_zone_hints=hints)
    cloud.dead("net000")
    snapshot, judgement = cloud.snapshot(), cloud.judgement()
    planner = planner_module._Planner(snapshot, judgement, POLICY, ONLY_L3)
    planner.leave(planner.dead_agents())
    after = loads(apply(snapshot, planner.finish("test")))
    assert planner.eligibility.checks == 100 * 4
    assert planner._placement.steps <= 2 * 2000 * 100
    assert max(after.values()) - min(after[f"net{number:03}"] for number in range(1, 100)) <= 1
