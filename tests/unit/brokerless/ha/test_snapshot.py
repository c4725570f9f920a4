# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What Neutron's API and the bus give, read."""

from __future__ import annotations

from typing import Any

import pytest
from brokerless.ha.snapshot import (
    DHCP,
    L3,
    Abilities,
    Agent,
    AgentKey,
    Network,
    Router,
    Segment,
    Snapshot,
    SnapshotError,
    agent_from_api,
    heartbeat_from_message,
    network_from_api,
    router_from_api,
    snapshot_from_api,
    time_of,
)
from hypothesis import given
from hypothesis import strategies as st

# as Neutron 29 answered and sent them
AGENT: dict[str, Any] = {
    "id": "9a4dbca5-bd0a-4c0f-b5c7-5b5a9d5a7f4e",
    "agent_type": "L3 agent",
    "binary": "neutron-l3-agent",
    "topic": "l3_agent",
    "host": "net1",
    "admin_state_up": True,
    "created_at": "2026-11-21 09:30:00",
    "started_at": "2026-11-21 09:31:00",
    "heartbeat_timestamp": "2026-11-21 09:33:14",
    "description": None,
    "resource_versions": {},
    "alive": True,
    "availability_zone": "nova",
    "resources_synced": None,
    "ha_chassis_priority": None,
    "configurations": {
        "agent_mode": "dvr_snat",
        "handle_internal_only_routers": False,
        "interface_driver": "openvswitch",
        "log_agent_heartbeats": False,
        "extensions": [],
        "routers": 4,
        "ex_gw_ports": 2,
        "interfaces": 5,
        "floating_ips": 1,
    },
}
ROUTER: dict[str, Any] = {
    "id": "a4cf9c2f-ec0a-4383-8801-2617402b82b7",
    "name": "r",
    "admin_state_up": True,
    "status": "ACTIVE",
    "ha": True,
    "distributed": False,
    "availability_zone_hints": ["az1"],
    "availability_zones": ["az1"],
    "tags": ["gold"],
    "external_gateway_info": {"network_id": "ext", "external_fixed_ips": [], "enable_snat": True},
    "external_gateways": [{"network_id": "ext"}, {"network_id": "ext2"}],
}
NETWORK: dict[str, Any] = {
    "id": "d23c558a-7f26-4581-97e2-8da9b0f81074",
    "name": "n",
    "subnets": ["s1"],
    "availability_zone_hints": [],
    "tags": [],
    "provider:network_type": "vxlan",
    "provider:physical_network": None,
    "provider:segmentation_id": 7414,
}
REPORT: dict[str, Any] = {
    "method": "report_state",
    "args": {
        "agent_state": {
            "agent_state": {
                "binary": "neutron-openvswitch-agent",
                "host": "net2",
                "topic": "N/A",
                "agent_type": "Open vSwitch agent",
                "configurations": {
                    "bridge_mappings": {"physnet1": "br-ex"},
                    "tunnel_types": ["vxlan"],
                    "l2_population": False,
                    "devices": 3,
                    "datapath_type": "system",
                },
                "uuid": "12feeaf3-8945-41f6-8fdd-a64704a1c643",
            }
        },
        "time": "2026-11-21T09:33:30.604418",
    },
    "version": "1.4",
}


def test_an_agent_is_read() -> None:
    agent = agent_from_api(AGENT)
    assert agent.key == AgentKey(L3, "net1")
    assert str(agent) == str(agent.key) == "L3 agent on net1"
    assert (agent.zone, agent.alive, agent.admin_state_up) == ("nova", True, True)
    assert agent.heartbeat_at - agent.started_at == 134
    assert agent.abilities.mode == "dvr_snat"
    assert not agent.abilities.handles_internal_only
    assert not agent.abilities.is_switch
    assert agent.abilities.figures == {"routers": 4, "ex_gw_ports": 2, "interfaces": 5, "floating_ips": 1}


def test_a_router_is_read_with_all_its_gateways() -> None:
    assert router_from_api(ROUTER) == Router(
        ROUTER["id"], "r", ha=True, zones=frozenset({"az1"}), tags=frozenset({"gold"}), gateway="ext", networks=frozenset({"ext", "ext2"})
    )
    plain = router_from_api({"id": "r", "external_gateway_info": None, "ha": None})
    assert plain == Router("r")


def test_a_network_is_read_with_its_segments() -> None:
    assert network_from_api(NETWORK) == Network(NETWORK["id"], "n", (Segment("vxlan", ""),))
    several = {
        "id": "n",
        "segments": [
            {"provider:network_type": "vlan", "provider:physical_network": "p1"},
            {"provider:network_type": "vlan", "provider:physical_network": "p2"},
        ],
    }
    assert [str(segment) for segment in network_from_api(several).segments] == ["vlan on p1", "vlan on p2"]
    assert not network_from_api(several).dhcp


def test_a_report_on_the_bus_is_read() -> None:
    heartbeat = heartbeat_from_message(REPORT)
    assert heartbeat is not None
    assert heartbeat.key == AgentKey("Open vSwitch agent", "net2")
    assert heartbeat.sent_at == pytest.approx(time_of("2026-11-21 09:33:30.604418", "it"))
    assert not heartbeat.starting
    assert heartbeat.abilities == Abilities(
        physical_networks=frozenset({"physnet1"}), tunnel_types=frozenset({"vxlan"}), is_switch=True, figures={"devices": 3}
    )
    assert heartbeat_from_message({"method": "sync_routers", "args": {}}) is None
    first: Any = {**REPORT, "args": {**REPORT["args"], "agent_state": {"agent_state": {"host": "h", "agent_type": L3, "start_flag": True}}}}
    found = heartbeat_from_message(first)
    assert found is not None
    assert found.starting


def test_a_snapshot_joins_the_lists() -> None:
    snapshot = snapshot_from_api(
        agents=[AGENT, {**AGENT, "id": "d", "agent_type": DHCP, "configurations": {"networks": 7}}],
        routers=[ROUTER],
        networks=[NETWORK, {**NETWORK, "id": "ext", "subnets": ["s2"]}],
        subnets=[{"network_id": NETWORK["id"], "enable_dhcp": True}, {"network_id": "ext", "enable_dhcp": False}],
        ports=[
            {"device_owner": "network:router_interface", "device_id": ROUTER["id"], "network_id": NETWORK["id"]},
            {"device_owner": "network:router_ha_interface", "device_id": ROUTER["id"], "network_id": "ha"},
            {"device_owner": "compute:nova", "device_id": "vm", "network_id": NETWORK["id"]},
        ],
        floating_ips=[{"router_id": ROUTER["id"]}, {"router_id": None}],
        hosting={AGENT["id"]: [ROUTER]},
    )
    router = snapshot.routers[ROUTER["id"]]
    assert router.networks == {"ext", "ext2", NETWORK["id"], "ha"}
    assert (router.interfaces, router.floating_ips) == (1, 1)
    assert [network.dhcp for network in snapshot.networks.values()] == [True, False]
    assert snapshot.hosts_of == {ROUTER["id"]: (AGENT["id"],)}
    assert snapshot.load(snapshot.agents[AGENT["id"]]) == 1
    assert snapshot.load(snapshot.agents["d"]) == 7
    assert snapshot.is_whole(L3)
    assert not snapshot.is_whole(DHCP)
    assert snapshot.unconverged() == {AGENT["id"]: (4, 1)}
    assert snapshot.with_hosting("d", added=["n"]).hosted_by("d") == {"n"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": None}, "agent net1: id is None, not a text"),
        ({"host": ""}, f"agent {AGENT['id']}: host is '', not a text"),
        ({"alive": "yes"}, f"agent {AGENT['id']}: alive is 'yes', not true or false"),
        ({"configurations": []}, f"agent {AGENT['id']}: configurations is [], not an object"),
        ({"configurations": {"bridge_mappings": "physnet1:br-ex"}}, f"agent {AGENT['id']}: bridge_mappings is 'physnet1:br-ex', not an object"),
        ({"configurations": {"tunnel_types": "vxlan"}}, f"agent {AGENT['id']}: tunnel_types is 'vxlan', not a list"),
        ({"heartbeat_timestamp": "now"}, f"agent {AGENT['id']}: 'now' is no time, which would look like 2026-11-21 09:33:14"),
    ],
)
def test_a_broken_agent_is_named_with_its_fault(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SnapshotError) as caught:
        agent_from_api({**AGENT, **change})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("read", "data", "message"),
    [
        (router_from_api, {"id": "r", "external_gateway_info": "ext"}, "router r: external_gateway_info is 'ext', not an object"),
        (router_from_api, {"id": "r", "external_gateway_info": {"x": 1}}, "gateway of router r: network_id is None, not a text"),
        (router_from_api, {"id": "r", "tags": [1]}, "router r: tags is [1], not a list of texts"),
        (network_from_api, {"name": "n"}, "network n: id is None, not a text"),
        (heartbeat_from_message, {"method": "report_state"}, "report_state: args is None, not an object"),
        (heartbeat_from_message, {"method": "report_state", "args": {"agent_state": {}}}, "report_state: agent_state is None, not an object"),
    ],
)
def test_broken_data_is_named_with_its_fault(read: Any, data: dict[str, Any], message: str) -> None:
    with pytest.raises(SnapshotError) as caught:
        read(data)
    assert str(caught.value) == message


JSON = st.recursive(
    st.sampled_from([None, True, 0, "", "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "network_id", "agent_state", "host"]), inner, max_size=2),
    max_leaves=4,
)


@given(data=st.data(), sample=st.sampled_from([(agent_from_api, AGENT), (router_from_api, ROUTER), (network_from_api, NETWORK)]), value=JSON)
def test_whatever_comes_in_one_place_is_read_or_refused(data: st.DataObject, sample: tuple[Any, dict[str, Any]], value: Any) -> None:
    read, good = sample
    key = data.draw(st.sampled_from([*good, "segments", "configurations.bridge_mappings", "configurations.tunnel_types"]))
    outer, _dot, inner = key.partition(".")
    changed = {**good, outer: {**good.get(outer, {}), inner: value} if inner else value}
    try:
        read(changed)
    except SnapshotError as problem:
        assert "\n" not in str(problem)


def test_an_empty_cloud_is_a_snapshot() -> None:
    assert snapshot_from_api(agents=[]) == Snapshot({})
    assert Snapshot({"a": Agent("a", "h", L3)}).switches == {}
