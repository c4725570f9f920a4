# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""rpcdaemon against a real Neutron: what must not make it move anything, and then the deaths after which it must move all.

The tests share a lab and run in this order: all the faults come over one and the same daemon, which afterwards has to do its work. SIZE=full in the
environment, as `make neutron-lab-test` sets it, makes outages longer and evacuations larger.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from evacuation_lab import POLICY, ROUTERS, assert_spread, evacuation_lab, legacy_routers
from failover_figures import watch_evacuation
from lab import Lab
from lab_size import FULL, show
from neutron_services import LabSettings
from rpcdaemon_process import RpcdaemonProcess, leader_of

OUTAGE = 4.0 if FULL else 1.0
"""How many agent_down_times an outage lasts."""
KILLS = 20 if FULL else 2


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with evacuation_lab(LabSettings(agent_down_time=6, report_interval=2.0)) as started:
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


def test_replicas_are_killed_in_the_middle_of_an_evacuation(lab: Lab, daemon: RpcdaemonProcess) -> None:
    """Each time the leader dies after some of its calls, whatever it was about; the last leader is frozen, and woken when another has led."""
    daemon.stop()
    routers = legacy_routers(lab)
    replicas = {name: RpcdaemonProcess(lab, name, policy=POLICY) for name in ("one", "two", "three")}
    began = time.time()
    moments = random.Random(20131)
    with contextlib.ExitStack() as running:
        lab.bind_routers({"net1": routers})
        for replica in replicas.values():
            running.enter_context(replica)
        for number in range(KILLS + 1):
            if not lab.routers_by_host()["net1"]:
                assert_spread(lab, routers, {"net2", "net3"}, patience=60.0)
                lab.bind_routers({"net1": routers})
                _leader(replicas).restart()
            steps = {name: replica.events("stage", "called") for name, replica in replicas.items()}
            several = moments.randint(1, 9)
            leader = _await_steps(replicas, steps, several)
            if number < KILLS:
                leader.kill()
                leader.start()
        leader.freeze()
        took_part = writers(lab, began)
        lab.wait_until(lambda: len(took_part) < len(writers(lab, began)), "another replica goes on", 90.0)
        assert_spread(lab, routers, {"net2", "net3"}, patience=120.0)
        lab.wait_until(lambda: not leader_of(lab).get("broken", [""]), "no move is left unfinished", 60.0)
        written, ended = len(leader.writes()), leader.events("leads no more")
        leader.thaw()
        leader.wait_until(
            lambda: len([each for each in leader.audit() if each["event"] == "leads no more"]) > ended, "it knows that it leads no more"
        )
        assert len(leader.writes()) == written
        # each leader writes, and no other replica does before it is gone
        assert len(writers(lab, began)) <= KILLS + 2
        assert_spread(lab, routers, {"net2", "net3"})


def writers(lab: Lab, since: float) -> list[str]:
    """Return who wrote to the API, in the order of the requests, each as often as its turn came."""
    writes = sorted(
        (request.time, request.user_agent) for request in lab.neutron_api.requests("rpcdaemon") if request.writes and request.time > since
    )
    return [who for who, _turns in itertools.groupby(agent for _time, agent in writes)]


def _leader(replicas: dict[str, RpcdaemonProcess]) -> RpcdaemonProcess:
    return replicas[leader_of(next(iter(replicas.values())).lab)["instance"]]


def _await_steps(replicas: dict[str, RpcdaemonProcess], before: dict[str, int], several: int) -> RpcdaemonProcess:
    """Return the replica that has taken so many more steps of moves."""
    found: list[RpcdaemonProcess] = []

    def taken() -> bool:
        found[:] = [replica for name, replica in replicas.items() if replica.events("stage", "called") >= before[name] + several]
        return bool(found)

    next(iter(replicas.values())).wait_until(taken, f"a replica takes {several} steps")
    return found[0]
