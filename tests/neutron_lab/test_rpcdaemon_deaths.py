# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Deaths that Neutron's own failover does not get over."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from cloud_contents import create_network, create_router_on
from evacuation_lab import NODES, POLICY, assert_spread, bindings, evacuation_lab, legacy_routers
from lab import Lab
from lab_size import show
from neutron_services import LabSettings
from rpcdaemon_process import RpcdaemonProcess
from simulated_nodes import NodeSpec


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with evacuation_lab(LabSettings()) as started:
        yield started


def test_a_second_agent_dies_while_the_routers_of_the_first_are_moved(lab: Lab) -> None:
    """Some of them are highly available, which stops Neutron's own failover: their other members stay, and a new one takes the place of the dead."""
    routers = legacy_routers(lab)
    redundant = [create_router_on(lab.api, f"ha-{n}", create_network(lab.api, f"ha-{n}", 2000 + n)[1], ha=True) for n in range(3)]
    lab.wait_until(lambda: all(hosts == list(NODES) for hosts in bindings(lab, redundant).values()), "each of the HA routers has three members")
    lab.add_nodes(NodeSpec("net4", fetch_routers=False))
    with RpcdaemonProcess(lab, "calm", policy=POLICY) as calm:
        calm.await_calm()
        died = time.time()
        lab.nodes["net1"].kill()
        calm.wait_until(lambda: len(lab.routers_by_host()["net1"] & {*routers}) < 0.75 * len(routers), "a quarter of the routers is moved")
        lab.nodes["net2"].kill()
        assert_spread(lab, routers, {"net3", "net4"}, patience=120.0)
        calm.wait_until(lambda: all({"net3", "net4"} <= {*hosts} for hosts in bindings(lab, redundant).values()), "HA routers have two live members")
        calm.wait_until(lambda: not calm.status().get("under_way", [""]), "nothing is under way")
        show("a second agent dies during the evacuation of the first", [], calm.figures(0, died))
