# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""rpcdaemon against a real Neutron: what must not make it move anything, and then the deaths after which it must move all.

The tests share a lab and run in this order: all the faults come over one and the same daemon, which afterwards has to do its work. SIZE=full in the
environment, as `make neutron-lab-test` sets it, makes outages longer and evacuations larger.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from cloud_contents import Contents
from failover_figures import watch_evacuation
from lab import Lab
from lab_size import FULL, show
from neutron_services import LabSettings
from rpcdaemon_process import RpcdaemonProcess
from simulated_nodes import NodeSpec

ROUTERS = 60 if FULL else 20
OUTAGE = 4.0 if FULL else 1.5
"""How many agent_down_times an outage lasts."""
KILLS = 20 if FULL else 3
NODES = ("net1", "net2", "net3")
POLICY = {"reconnect_grace": 3}
"""Agents of the lab are back at once when the bus is."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(LabSettings(agent_down_time=6, report_interval=2.0), Contents(legacy_routers=ROUTERS)) as started:
        started.add_nodes(*(NodeSpec(host, fetch_routers=False) for host in NODES))
        started.bind_routers({"net1": legacy_routers(started)})
        yield started


@pytest.fixture(scope="module")
def daemon(lab: Lab) -> Iterator[RpcdaemonProcess]:
    """A daemon at whose start both the bus and the API are away."""
    process = RpcdaemonProcess(lab, policy=POLICY)
    lab.bus_links.cut(process.name)
    lab.api_links.cut(process.name)
    with process:
        lab.wait_until(lambda: "RabbitMQ" in process.log or "bus" in process.log, "the daemon says that it does not reach the bus")
        time.sleep(lab.settings.agent_down_time * OUTAGE)
        assert process.running, process.log
        lab.bus_links.mend(process.name)
        time.sleep(lab.settings.agent_down_time * OUTAGE)
        lab.api_links.mend(process.name)
        process.await_calm()
        yield process


def legacy_routers(lab: Lab) -> list[str]:
    return [router["id"] for router in lab.api.list("routers") if router["name"].startswith("legacy-")]


def bindings(lab: Lab, routers: list[str]) -> dict[str, list[str]]:
    """Return for each router the hosts that it is bound to."""
    by_host = lab.routers_by_host()
    return {router: sorted(host for host, bound in by_host.items() if router in bound) for router in routers}


def assert_spread(lab: Lab, routers: list[str], alive: set[str]) -> None:
    """Each router is bound to one agent, a live one, and their numbers differ by one at most."""
    bound = bindings(lab, routers)
    assert {router: hosts for router, hosts in bound.items() if len(hosts) != 1 or not alive.issuperset(hosts)} == {}
    loads = [sum(hosts == [host] for hosts in bound.values()) for host in alive]
    assert max(loads) - min(loads) <= 1, loads


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong and is mended, during which nothing may be moved; the daemon says `alarm`, or can say nothing."""

    begin: Callable[[Lab, RpcdaemonProcess], None]
    mend: Callable[[Lab, RpcdaemonProcess], None]
    alarm: str


def cut_bus(lab: Lab, daemon: RpcdaemonProcess) -> None:
    lab.bus_links.cut(daemon.name)


def silence_bus(lab: Lab, daemon: RpcdaemonProcess) -> None:
    lab.bus_links.silence(daemon.name)


def mend_bus(lab: Lab, daemon: RpcdaemonProcess) -> None:
    lab.bus_links.mend(daemon.name)


def cut_api(lab: Lab, daemon: RpcdaemonProcess) -> None:
    lab.api_links.cut(daemon.name)


def mend_api(lab: Lab, daemon: RpcdaemonProcess) -> None:
    lab.api_links.mend(daemon.name)


def freeze(_lab: Lab, daemon: RpcdaemonProcess) -> None:
    daemon.freeze()


def thaw(_lab: Lab, daemon: RpcdaemonProcess) -> None:
    daemon.thaw()


def silence_agents_and_let_one_speak(lab: Lab, daemon: RpcdaemonProcess) -> None:
    for node in lab.nodes.values():
        node.silence()
    daemon.wait_until(lambda: "no agent at all" in daemon.alarms().get("deaf", ""), "it says that it hears nobody")
    lab.nodes["net3"].speak()


def let_agents_speak(lab: Lab, _daemon: RpcdaemonProcess) -> None:
    for node in lab.nodes.values():
        node.speak()


def set_clocks_wrong(lab: Lab, _daemon: RpcdaemonProcess) -> None:
    lab.nodes["net1"].set_clock(-600.0)
    lab.nodes["net2"].set_clock(600.0)


def set_clocks_right(lab: Lab, _daemon: RpcdaemonProcess) -> None:
    for node in lab.nodes.values():
        node.set_clock(0.0)


FAULTS = {
    "RabbitMQ is away": Fault(cut_bus, mend_bus, "nothing is moved: "),
    "RabbitMQ says nothing": Fault(silence_bus, mend_bus, "no agent at all was heard"),
    "Neutron's API is away": Fault(cut_api, mend_api, "Neutron's API gives no answer"),
    "the daemon stands still": Fault(freeze, thaw, ""),
    "all agents fall silent and one speaks again": Fault(silence_agents_and_let_one_speak, let_agents_speak, "mass-failure guard"),
    "clocks are ten minutes off": Fault(set_clocks_wrong, set_clocks_right, "the server does not process its reports"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_moved_while(lab: Lab, daemon: RpcdaemonProcess, fault: str) -> None:
    daemon.await_calm()
    told = len(daemon.audit())
    FAULTS[fault].begin(lab, daemon)
    time.sleep(lab.settings.agent_down_time * OUTAGE)
    if FAULTS[fault].alarm:
        daemon.wait_until(lambda: FAULTS[fault].alarm in daemon.alarms_told(told), f"an alarm that says {FAULTS[fault].alarm!r}")
    FAULTS[fault].mend(lab, daemon)
    daemon.await_calm()
    assert daemon.writes() == []
    assert lab.routers_by_host()["net1"] == set(legacy_routers(lab))


def test_all_routers_of_a_dead_agent_are_moved(lab: Lab, daemon: RpcdaemonProcess) -> None:
    daemon.await_calm()
    told = len(daemon.audit())
    routers = legacy_routers(lab)
    died = time.time()
    seen = watch_evacuation(lab, "net1", lab.nodes["net1"].kill, patience=120.0)
    show(f"{ROUTERS} legacy routers, agent_down_time {lab.settings.agent_down_time}", [("rpcdaemon", seen)], daemon.figures(told, died))
    assert seen.left == 0
    assert_spread(lab, routers, {"net2", "net3"})
    assert {request.method for request in daemon.writes()} == {"DELETE", "POST"}
