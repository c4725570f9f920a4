# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The filters, one by one: for each an agent that passes and one that does not, with the reason."""

from __future__ import annotations

import pytest
from brokerless.ha.eligibility import Candidates, Eligibility
from brokerless.ha.liveness import Judgement, State
from clouds import OVS, Cloud


def routers_choice(cloud: Cloud, router: str, barred: dict[str, str] | None = None) -> Candidates:
    snapshot = cloud.snapshot()
    return Eligibility(snapshot, cloud.judgement(snapshot), barred or {}).of_router(snapshot.routers[router])


def hosts(candidates: Candidates) -> list[str]:
    return [agent.host for agent in candidates.usable]


@pytest.fixture
def cloud() -> Cloud:
    cloud = Cloud()
    cloud.node("net1")
    cloud.router("r")
    return cloud


def test_a_plain_agent_takes_a_plain_router(cloud: Cloud) -> None:
    assert routers_choice(cloud, "r") == Candidates((cloud.snapshot().agents["l3-net1"],), (), {})


def test_what_the_operator_barred_or_disabled_takes_nothing(cloud: Cloud) -> None:
    cloud.node("net2")
    cloud.agents["l3-net2"]["admin_state_up"] = False
    found = routers_choice(cloud, "r", {"net1": "its host is cordoned"})
    assert found.usable == ()
    assert found.refused == {"l3-net1": "its host is cordoned", "l3-net2": "it is disabled (admin_state_up is false)"}


def test_an_agent_that_was_not_judged_takes_nothing(cloud: Cloud) -> None:
    snapshot = cloud.snapshot()
    found = Eligibility(snapshot, Judgement({}), {}).of_router(snapshot.routers["r"])
    assert found.refused == {"l3-net1": "it was not judged yet"}


def test_a_host_whose_switch_agent_is_silent_takes_nothing(cloud: Cloud) -> None:
    cloud.says("ovs-net1", State.DEAD)
    assert routers_choice(cloud, "r").refused == {"l3-net1": "Open vSwitch agent of its host is not heard: no port would be plugged there"}


def test_zones_that_were_asked_for_are_kept(cloud: Cloud) -> None:
    cloud.node("net2", zone="az2")
    cloud.router("zoned", availability_zone_hints=["az2", "az3"])
    found = routers_choice(cloud, "zoned")
    assert hosts(found) == ["net2"]
    assert found.refused == {"l3-net1": "its zone is nova, wanted az2 or az3"}


def test_routers_without_a_gateway_go_where_they_are_taken(cloud: Cloud) -> None:
    cloud.node("net2", handle_internal_only_routers=False)
    cloud.network("ext", physnet="physnet1")
    cloud.router("outside", gateway="ext")
    assert hosts(routers_choice(cloud, "outside")) == ["net1", "net2"]
    found = routers_choice(cloud, "r")
    assert found.refused == {"l3-net2": "it takes no router without a gateway (handle_internal_only_routers)"}


def test_an_agent_that_is_reserved_takes_its_router_only(cloud: Cloud) -> None:
    cloud.node("net2", router_id="special")
    cloud.router("special")
    assert hosts(routers_choice(cloud, "special")) == ["net1", "net2"]
    assert routers_choice(cloud, "r").refused == {"l3-net2": "it is reserved for router special"}


@pytest.mark.parametrize(
    ("mode", "distributed", "takes"),
    [
        ("legacy", False, True),
        ("legacy", True, False),
        ("dvr_snat", False, True),
        ("dvr_snat", True, True),
        ("dvr", False, False),
        ("dvr", True, False),
        ("dvr_no_external", True, False),
    ],
)
def test_the_mode_of_an_agent_decides(mode: str, distributed: bool, takes: bool) -> None:
    cloud = Cloud()
    cloud.node("net1", agent_mode=mode)
    cloud.router("r", distributed=distributed)
    found = routers_choice(cloud, "r")
    assert bool(found.usable) is takes
    assert takes or f"its agent_mode is {mode}" in found.refused["l3-net1"]


def test_all_networks_of_a_router_must_be_reached(cloud: Cloud) -> None:
    cloud.node("net2", physnets=("physnet2",), tunnels=("vxlan", "gre"))
    cloud.node("net3", physnets=("physnet1", "physnet2"), tunnels=())
    cloud.network("ext", physnet="physnet1")
    cloud.network("lan", physnet="physnet2")
    cloud.network("tunnel")
    cloud.network("gre", **{"provider:network_type": "gre"})
    cloud.router("outside", gateway="ext")
    cloud.router("both", gateway="ext", networks=("lan",))
    cloud.router("inside", networks=("tunnel",))
    cloud.router("old", networks=("gre", "tunnel"))
    cloud.router("unheard-of", networks=("not listed",))
    assert hosts(routers_choice(cloud, "outside")) == ["net1", "net3"]
    assert hosts(routers_choice(cloud, "both")) == ["net3"]
    assert hosts(routers_choice(cloud, "inside")) == ["net1", "net2"]
    assert hosts(routers_choice(cloud, "old")) == ["net2"]
    assert hosts(routers_choice(cloud, "unheard-of")) == ["net1", "net2", "net3"]
    assert routers_choice(cloud, "both").refused == {
        "l3-net1": "its host can't reach vlan on physnet2",
        "l3-net2": "its host can't reach vlan on physnet1",
    }


def test_one_reachable_segment_of_a_network_is_enough(cloud: Cloud) -> None:
    segments = [{"provider:network_type": "vlan", "provider:physical_network": name} for name in ("physnet1", "physnet2")]
    cloud.network("multi", segments=segments)
    cloud.network("loose", segments=[{"provider:network_type": "local"}])
    cloud.router("wide", networks=("multi", "loose"))
    cloud.node("net2", physnets=("physnet2",))
    cloud.node("net3", physnets=("physnet3",))
    found = routers_choice(cloud, "wide")
    assert hosts(found) == ["net1", "net2"]
    assert found.refused == {"l3-net3": "its host can't reach vlan on physnet1 or vlan on physnet2"}


def test_a_host_without_a_switch_agent_is_refused_where_others_have_one(cloud: Cloud) -> None:
    cloud.network("lan")
    cloud.router("inside", networks=("lan",))
    cloud.agent("l3-bare", "L3 agent", "bare")
    assert routers_choice(cloud, "inside").refused == {"l3-bare": "no switch agent of its host says whether it reaches vxlan"}
    cloud.agents = {name: agent for name, agent in cloud.agents.items() if agent["agent_type"] != OVS}
    assert hosts(routers_choice(cloud, "inside")) == ["bare", "net1"]


def test_the_reserve_is_asked_last(cloud: Cloud) -> None:
    cloud.node("net2")
    cloud.says("l3-net1", State.ALIVE, heard_now=True, reluctance="it was dead")
    found = routers_choice(cloud, "r")
    assert [agent.host for agent in found.without(frozenset())] == ["net2"]
    assert [agent.host for agent in found.without(frozenset({"l3-net2"}))] == ["net1"]
    assert found.without(frozenset({"l3-net1", "l3-net2"})) == ()


def test_equal_demands_are_checked_once() -> None:
    cloud = Cloud()
    for number in range(10):
        cloud.node(f"net{number}")
    for number in range(300):
        cloud.network(f"n{number}")
        cloud.router(f"r{number}", networks=(f"n{number}",))
    snapshot = cloud.snapshot()
    eligibility = Eligibility(snapshot, cloud.judgement(snapshot), {})
    for router in snapshot.routers.values():
        eligibility.of_router(router)
    for network in snapshot.networks.values():
        eligibility.of_network(network)
    assert eligibility.checks == 20
