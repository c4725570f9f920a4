# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Real packets: a client leases its address and reaches the outside through a router, whose node then loses it in several ways."""

from __future__ import annotations

import pytest
from cloud_contents import create_network, create_router_on
from lab import Lab, processes_of
from neutron_services import LabSettings
from real_nodes import Client, RealNodes, create_external_network, lost_seconds

TENANT = {"provider:network_type": "vlan", "provider:physical_network": "physnet1", "provider:segmentation_id": 200}


@pytest.mark.timeout(600)
def test_a_client_keeps_its_way_out_when_its_router_moves_and_nothing_is_left_behind() -> None:
    with Lab(LabSettings(agent_down_time=15, report_interval=5.0)) as lab, RealNodes(lab, "real1", "real2") as real:
        directory = lab.directory
        outside = create_external_network(lab)
        network, subnet = create_network(lab.api, "tenant", 1, **TENANT)
        router = create_router_on(lab.api, "way-out", subnet, ha=False, external_gateway_info={"network_id": outside})
        namespace = f"qrouter-{router}"
        agents = {host: lab.agent(host)["id"] for host in real.nodes}

        def host() -> str:
            (found,) = [host for host, routers in lab.routers_by_host().items() if router in routers]
            return found

        def move(target: str) -> None:
            """What an operator would do, without asking what else there is."""
            assert lab.api.call("DELETE", f"agents/{agents[host()]}/l3-routers/{router}").status == 204
            assert lab.api.call("POST", f"agents/{agents[target]}/l3-routers", {"router_id": router}).status == 201

        if host() == "real2":
            move("real1")
        first, second = real.nodes["real1"], real.nodes["real2"]
        client = Client(lab, second, network)
        client.lease()
        lab.wait_until(client.reaches, "the client reaches the outside")

        lost_seconds(client, lambda: move("real2"))
        lab.wait_until(lambda: namespace not in first.namespaces() and namespace in second.namespaces(), "the router is on the second node only")
        lost_seconds(client, lambda: move("real1"))
        lab.wait_until(lambda: namespace in first.namespaces() and namespace not in second.namespaces(), "the router is on the first node only")

        first.kill_agent("l3")
        lab.wait_until(lambda: not lab.agent("real1")["alive"], "Neutron calls the killed agent dead")
        assert namespace in first.namespaces()
        assert client.reaches(), "what a dead agent has built goes on forwarding"

        def fail() -> None:
            first.power_off()
            move("real2")

        assert lost_seconds(client, fail).longest_gap > 0.3, "the failure met nobody"
        assert namespace in second.namespaces()
    assert processes_of(directory) == []
    assert not directory.exists()
