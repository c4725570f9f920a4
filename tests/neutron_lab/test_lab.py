# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The lab itself: it does what tests of rpcdaemon will ask of it, and leaves nothing behind."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import kombu
import pytest
from cloud_api import CloudApi
from cloud_contents import create_network, create_router_on
from failover_figures import api_ceiling, table, watch_evacuation
from lab import Lab, processes_of
from neutron_services import LabSettings
from simulated_nodes import DHCP_AGENT, L3_AGENT, OVS_AGENT, NodeSpec


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(LabSettings(agent_down_time=6, report_interval=2.0)) as started:
        started.add_nodes(NodeSpec("net1"), NodeSpec("net2", agent_mode="dvr_snat", availability_zone="west", bridge_mappings={"physnet2": "br-b"}))
        directory = started.directory
        assert len(processes_of(directory)) > 5
        yield started
    assert processes_of(directory) == []
    assert not directory.exists()


def test_agents_are_what_the_test_asked_for(lab: Lab) -> None:
    assert {(agent["host"], agent["agent_type"]) for agent in lab.agents() if agent["alive"]} >= {
        (host, kind) for host in ("net1", "net2") for kind in (OVS_AGENT, L3_AGENT, DHCP_AGENT)
    }
    second = lab.agent("net2")
    assert second["availability_zone"] == "west"
    assert second["configurations"]["agent_mode"] == "dvr_snat"
    assert lab.agent("net2", OVS_AGENT)["configurations"]["bridge_mappings"] == {"physnet2": "br-b"}


def test_router_and_network_are_bound_and_their_ports_bind(lab: Lab) -> None:
    network, subnet = create_network(lab.api, "bound", 1)
    router = create_router_on(lab.api, "bound", subnet, ha=False)
    (host,) = [host for host, routers in lab.routers_by_host().items() if router in routers]
    (server,) = [host for host, networks in lab.networks_by_host().items() if network in networks]
    lab.wait_until(lambda: router in lab.nodes[host].view().routers, "the node knows its router")
    lab.wait_until(lambda: network in lab.nodes[server].view().networks, "the node knows its network")

    def bound() -> bool:
        ports = {port["device_owner"]: port["binding:vif_type"] for port in lab.api.list("ports", network_id=network)}
        return ports == {"network:router_interface": "ovs", "network:dhcp": "ovs"}

    lab.wait_until(bound, "both ports are bound")
    lab.wait_until(lambda: lab.agent(host)["configurations"]["routers"] >= 1, "the agent reports its router")


def test_routers_and_networks_are_put_where_a_test_wants_them(lab: Lab) -> None:
    network, subnet = create_network(lab.api, "placed", 2)
    router = create_router_on(lab.api, "placed", subnet, ha=False)
    for host in ("net1", "net2"):
        lab.bind_routers({host: [router]})
        lab.bind_networks({host: [network], "net1": [network]})
        assert [at for at, routers in lab.routers_by_host().items() if router in routers] == [host]
        assert {at for at, networks in lab.networks_by_host().items() if network in networks} == {host, "net1"}
        node = lab.nodes[host]
        lab.wait_until(lambda node=node: router in node.view().routers, f"{host} knows the router")  # type: ignore[misc]


def test_bare_calls_move_a_router_and_the_access_log_tells_who_asked(lab: Lab) -> None:
    _network, subnet = create_network(lab.api, "moved", 3)
    router = create_router_on(lab.api, "moved", subnet, ha=False)
    lab.bind_routers({"net1": [router]})
    mover = CloudApi(lab.api_url("mover").removeprefix("http://"), user_agent="mover/1.0")
    assert mover.call("DELETE", f"agents/{lab.agent('net1')['id']}/l3-routers/{router}").status == 204
    assert mover.call("POST", f"agents/{lab.agent('net2')['id']}/l3-routers", {"router_id": router}).status == 201
    assert router in lab.routers_by_host()["net2"]
    assert lab.nodes["net2"].view().asked["router_added_to_agent"] >= 1
    writes = [(request.method, request.status) for request in lab.neutron_api.requests("mover/1.0") if request.writes]
    assert writes == [("DELETE", 204), ("POST", 201)]


def test_cut_links_concern_one_client_only(lab: Lab) -> None:
    lab.api_links.address("cut")
    lab.api_links.cut("cut")
    with pytest.raises((OSError, http.client.HTTPException)):
        CloudApi(lab.api_url("cut").removeprefix("http://")).call("GET", "agents")
    assert CloudApi(lab.api_url("other").removeprefix("http://")).call("GET", "agents").status == 200
    lab.api_links.mend("cut")
    assert CloudApi(lab.api_url("cut").removeprefix("http://")).call("GET", "agents").status == 200
    with kombu.Connection(lab.bus_url("listener"), connect_timeout=5) as connection:
        connection.ensure_connection(max_retries=1)
        lab.bus_links.cut("listener")
        with pytest.raises(OSError, match="Errno"):
            kombu.Connection(lab.bus_url("listener"), connect_timeout=5).connect()
    lab.bus_links.mend("listener")
    with kombu.Connection(lab.bus_url("listener"), connect_timeout=5) as connection:
        connection.connect()


def test_a_hanging_agent_reports_but_answers_no_call(lab: Lab) -> None:
    _network, subnet = create_network(lab.api, "hanging", 4)
    router = create_router_on(lab.api, "hanging", subnet, ha=False)
    lab.bind_routers({"net1": [router]})
    agents = {host: lab.agent(host)["id"] for host in lab.nodes}
    lab.nodes["net2"].hang()
    lab.api.delete(f"agents/{agents['net1']}/l3-routers/{router}")
    with pytest.raises(TimeoutError):
        lab.api.call("POST", f"agents/{agents['net2']}/l3-routers", {"router_id": router}, time_limit=lab.settings.rpc_response_timeout / 2)
    assert lab.agent("net2")["alive"]
    lab.nodes["net2"].answer()
    lab.wait_until(lambda: router in lab.nodes["net2"].view().routers, "the agent has the router at last")


def test_figures_are_taken_from_what_happens_to_the_routers_of_one_agent(lab: Lab) -> None:
    routers = [create_router_on(lab.api, f"figure-{number}", create_network(lab.api, f"figure-{number}", number)[1], ha=False) for number in (11, 12)]
    lab.add_nodes(NodeSpec("spare", fetch_routers=False))
    lab.bind_routers({"spare": routers})
    ceiling = api_ceiling(lab, "spare", ["net1", "net2"], callers=2)
    assert (ceiling.routers, ceiling.refused) == (2, [])
    assert lab.routers_by_host()["spare"] == set(routers)
    seen = watch_evacuation(lab, "spare", lambda: None, patience=0.0)
    assert (seen.routers, seen.left, seen.all_moved) == (2, 2, None)
    seen = watch_evacuation(lab, "spare", lambda: lab.bind_routers({"net1": routers[:1], "net2": routers[1:]}), patience=30.0)
    assert (seen.routers, seen.left, seen.spread["spare"]) == (2, 0, 0)
    assert seen.first_moved is not None
    assert "bare calls, 2 at once" in table([("nobody", seen)], [ceiling])
    lab.nodes["spare"].kill()


def test_agents_are_called_dead_however_they_fall_silent_and_alive_when_they_are_back(lab: Lab) -> None:
    """Neutron throws reports away that seem to be older than its own start: a clock that is behind is as bad as a failure."""
    hosts = ["silent", "cut", "frozen", "killed", "behind", "ahead"]
    lab.add_nodes(*(NodeSpec(host, ovs=False) for host in hosts))
    nodes = lab.nodes
    nodes["silent"].silence(L3_AGENT)
    lab.bus_links.silence("cut")
    nodes["frozen"].freeze()
    nodes["killed"].kill()
    nodes["behind"].set_clock(-600.0)
    nodes["ahead"].set_clock(600.0)

    def alive(kind: str) -> set[str]:
        return {agent["host"] for agent in lab.agents(agent_type=kind) if agent["alive"]} & set(hosts)

    lab.wait_until(lambda: alive(L3_AGENT) == {"ahead"}, "Neutron calls the L3 agents dead")
    lab.wait_until(lambda: alive(DHCP_AGENT) == {"ahead", "silent"}, "Neutron calls the DHCP agents dead")
    nodes["silent"].speak(L3_AGENT)
    lab.bus_links.mend("cut")
    nodes["frozen"].thaw()
    nodes["killed"].start()
    nodes["behind"].set_clock(0.0)
    lab.await_alive(*hosts)
