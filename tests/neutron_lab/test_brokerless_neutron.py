# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Neutron as it is, on `zmq://` and on `rabbit://`: the same story happens to the cloud. And rpcdaemon, where there is no broker at all."""

from __future__ import annotations

import functools

import pytest
from brokerless_lab import BrokerlessLab
from cloud_contents import create_network, create_router_on
from cloud_story import HOSTS, CloudStory
from evacuation_lab import POLICY
from lab import Lab
from neutron_services import LabSettings
from rpcdaemon_process import RpcdaemonProcess
from simulated_nodes import L3_AGENT, NodeSpec

SETTINGS = LabSettings(agent_down_time=10, report_interval=2.0, rpc_workers=2)

pytestmark = pytest.mark.timeout(900)


@functools.cache
def told_with_rabbitmq() -> list[str]:
    with Lab(SETTINGS) as lab:
        return CloudStory(lab).tell()


@functools.cache
def told_without_a_broker() -> list[str]:
    with BrokerlessLab(HOSTS, SETTINGS) as lab:
        assert not hasattr(lab, "rabbitmq")
        return CloudStory(lab).tell()


def test_with_rabbitmq() -> None:
    assert len(told_with_rabbitmq()) > 15


def test_the_same_happens_without_a_broker() -> None:
    assert told_without_a_broker() == told_with_rabbitmq()


def test_rpcdaemon_hears_by_the_receiver_and_moves_the_routers_of_a_dead_node() -> None:
    with BrokerlessLab(HOSTS, SETTINGS) as lab:
        lab.add_nodes(*(NodeSpec(host) for host in HOSTS))
        routers = {create_router_on(lab.api, f"r{number}", create_network(lab.api, f"n{number}", number)[1], ha=False) for number in range(4)}
        lab.bind_routers({"net1": routers})
        with RpcdaemonProcess(lab, policy=POLICY) as daemon:

            def judged_alive() -> set[str]:
                changes = [each for each in daemon.audit() if each["event"] == "transition" and each["agent_type"] == L3_AGENT]
                return {each["host"] for each in changes if each["after"] == "alive"}

            daemon.wait_until(lambda: judged_alive() == set(HOSTS), "it has heard all agents")
            lab.nodes["net1"].kill()
            daemon.wait_until(lambda: not lab.routers_by_host()["net1"], "nothing is left on the dead node")
        bound = lab.routers_by_host()
        assert bound["net2"] | bound["net3"] == routers
        assert len(bound["net2"]) == len(bound["net3"]) == 2
