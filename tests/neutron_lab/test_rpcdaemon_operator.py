# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What an operator types, and networks that are served by every live agent, against a real Neutron."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from cloud_contents import create_network
from evacuation_lab import POLICY, assert_spread, evacuation_lab, legacy_routers
from lab import Lab
from neutron_services import LabSettings
from rpcdaemon_process import RpcdaemonProcess

REBALANCE_THRESHOLD = 2
"""By default loads that differ by so much are left as they are."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with evacuation_lab(LabSettings()) as started:
        yield started


@pytest.fixture(scope="module")
def daemon(lab: Lab) -> Iterator[RpcdaemonProcess]:
    with RpcdaemonProcess(lab, policy=POLICY) as process:
        process.await_calm()
        yield process


def most_in_flight(daemon: RpcdaemonProcess, since: int) -> int:
    """Return how many routers were removed from one agent and not yet added to another at a time, by the audit file from the line `since` on."""
    in_flight: set[str] = set()
    most = 0
    for line in daemon.audit()[since:]:
        if line["event"] == "stage" and line["text"] == "removing":
            in_flight.add(line["id"])
        elif line["event"] == "ended" or line.get("text") == "added":
            in_flight.discard(line.get("id", ""))
        most = max(most, len(in_flight))
    return most


def even(lab: Lab, routers: list[str]) -> bool:
    """Tell whether all agents host as many routers as a rebalance leaves them with."""
    loads = [len(bound) for bound in lab.routers_by_host().values()]
    return sum(loads) == len(routers) and max(loads) - min(loads) <= REBALANCE_THRESHOLD


def test_who_only_asks_writes_nothing(lab: Lab, daemon: RpcdaemonProcess) -> None:
    for command in (
        ("status", "--json"),
        ("plan", "--json"),
        ("plan", "--what-if", "net1"),
        ("check",),
        ("drain", "net1", "--dry-run"),
        ("undrain", "net1", "--dry-run"),
        ("rebalance", "--dry-run", "--json"),
    ):
        done = daemon.command(*command)
        assert done.returncode == 0, (command, done)
        assert done.stdout, command
    assert len(json.loads(daemon.command("rebalance", "--dry-run", "--json").stdout)["plan"]["actions"]) > len(legacy_routers(lab)) // 2
    assert daemon.requests()
    assert daemon.writes() == []


def test_a_drained_host_is_emptied_one_router_at_a_time_and_gets_its_share_back(lab: Lab, daemon: RpcdaemonProcess) -> None:
    routers = legacy_routers(lab)
    told = len(daemon.audit())
    done = daemon.command("drain", "net1")
    assert done.returncode == 0, done
    assert_spread(lab, routers, {"net2", "net3"})
    assert lab.agent("net1")["admin_state_up"]
    assert most_in_flight(daemon, told) == 1
    assert daemon.command("undrain", "net1").returncode == 0
    lab.wait_until(lambda: even(lab, routers), "net1 has its share again", 120.0)
    lab.wait_until(lambda: not daemon.status()["under_way"], "nothing is under way")
    assert most_in_flight(daemon, told) == 1
    assert even(lab, routers)


def test_rebalance_evens_out_what_somebody_else_put_in_one_place(lab: Lab, daemon: RpcdaemonProcess) -> None:
    routers = legacy_routers(lab)
    daemon.stop()
    lab.bind_routers({"net3": routers})
    daemon.start()
    daemon.await_calm()
    told = len(daemon.audit())
    lab.wait_until(lambda: sum(daemon.status()["hosted"].values()) == len(routers), "it has read who hosts what")
    done = daemon.command("rebalance", "--json")
    assert done.returncode == 0, done

    lab.wait_until(lambda: even(lab, routers), "the numbers of routers are even", 120.0)
    lab.wait_until(lambda: not daemon.status()["under_way"], "nothing is under way")
    assert most_in_flight(daemon, told) == 1


def test_networks_are_served_by_every_live_agent_and_leave_nothing_behind(lab: Lab, daemon: RpcdaemonProcess) -> None:
    daemon.stop()
    networks = {network["id"] for network in lab.api.list("networks")}
    lab.bind_networks({"net1": networks, "net2": networks})
    with RpcdaemonProcess(lab, "dhcp", plugins="DHCPAgent", policy=POLICY) as dhcp:
        lab.wait_until(lambda: set(map(len, lab.networks_by_host().values())) == {len(networks)}, "all agents serve all networks", 180.0)
        network, _subnet = create_network(lab.api, "late", 3000)
        lab.wait_until(lambda: all(network in served for served in lab.networks_by_host().values()), "all agents serve the new network", 90.0)
        lab.nodes["net1"].kill()
        lab.wait_until(lambda: not lab.networks_by_host()["net1"], "the dead agent serves none", 180.0)
        assert {len(lab.networks_by_host()[host]) for host in ("net2", "net3")} == {len(networks) + 1}
        for port in lab.api.list("ports", network_id=network):
            lab.api.delete(f"ports/{port['id']}")
        lab.api.delete(f"networks/{network}")
        lab.wait_until(lambda: not any(network in served for served in lab.networks_by_host().values()), "no agent serves the deleted network")
        dhcp.wait_until(lambda: not dhcp.status().get("under_way", [""]), "nothing is under way")
        assert lab.api.list("ports", network_id=network) == []
