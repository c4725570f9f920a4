# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""rpcdaemon with real packets: how long a client has no way out when its router's node is drained, loses its L3 agent, or its power."""

from __future__ import annotations

import contextlib
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cloud_contents import create_network, create_router_on
from lab import Lab
from lab_size import keep
from neutron_services import LabSettings
from real_nodes import Client, RealNode, RealNodes, create_external_network, lost_seconds
from rpcdaemon_process import RpcdaemonProcess

TENANT = {"provider:network_type": "vlan", "provider:physical_network": "physnet1", "provider:segmentation_id": 200}
GATEWAY = "10.0.1.1"
FIRST, SECOND = "real1", "real2"
PATIENCE = 240.0
"""Agents of real nodes take long to do what they are told when the machine has much else to do."""


@dataclass(frozen=True)
class Scene:
    """Two nodes, a router, and a client on the second node."""

    lab: Lab
    nodes: dict[str, RealNode]
    router: str
    client: Client

    def bound_to(self) -> set[str]:
        return {host for host, routers in self.lab.routers_by_host().items() if self.router in routers}

    def built_on(self) -> set[str]:
        """Return the nodes that have power and a namespace of the router."""
        return {host for host, node in self.nodes.items() if node.is_on and f"qrouter-{self.router}" in node.namespaces()}

    def works_on(self, host: str) -> bool:
        """Tell whether Neutron has all the router's ports active on the host."""
        ports = self.lab.api.list("ports", device_id=self.router)
        return {(port["binding:host_id"], port["status"]) for port in ports} == {(host, "ACTIVE")}

    def await_on(self, host: str) -> None:
        """Return when the router works on that host."""
        self.lab.wait_until(lambda: self.bound_to() == {host} and self.works_on(host), f"the router works on {host}", PATIENCE)

    def await_only_on(self, host: str) -> None:
        """Return when there is exactly one live router: one namespace, on that host, and one answer to who has the gateway's address."""
        self.await_on(host)
        self.lab.wait_until(lambda: self.built_on() == {host}, f"the router is built on {host} only", PATIENCE)
        self.lab.wait_until(lambda: self.client.answering(GATEWAY) == 1, "one answers for the gateway's address", PATIENCE)
        assert self.client.reaches()

    def drain_to(self, daemon: RpcdaemonProcess, host: str) -> None:
        """Have the other host drained, and used again once it is empty."""
        other = next(iter({FIRST, SECOND} - {host}))
        done = daemon.command("drain", other, "--timeout", str(int(PATIENCE)))
        assert done.returncode == 0, done
        self.await_on(host)
        assert daemon.command("undrain", other).returncode == 0

    def revive_agent(self, host: str) -> None:
        """Start the L3 agent of a node that has power."""
        self.nodes[host].start_agent("l3")
        self.nodes[host].await_alive(["l3"])


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab(LabSettings(agent_down_time=15, report_interval=5.0)) as lab, RealNodes(lab, FIRST, SECOND) as real:
        outside = create_external_network(lab)
        network, subnet = create_network(lab.api, "tenant", 1, **TENANT)
        router = create_router_on(lab.api, "way-out", subnet, ha=False, external_gateway_info={"network_id": outside})
        client = Client(lab, real.nodes[SECOND], network)
        client.lease()
        lab.wait_until(client.reaches, "the client reaches the outside", PATIENCE)
        yield Scene(lab, real.nodes, router, client)


@contextlib.contextmanager
def watched_by(scene: Scene, name: str, policy: dict[str, object] | None = None, fence: Path | None = None) -> Iterator[RpcdaemonProcess]:
    """Let a daemon watch, and let the router be on the first node."""
    more = {"fence_command": fence} if fence else {}
    with RpcdaemonProcess(scene.lab, name, "L3Agent DHCPAgent", {"reconnect_grace": 3, **(policy or {})}, more) as daemon:
        daemon.await_calm()
        if scene.bound_to() != {FIRST}:
            scene.drain_to(daemon, FIRST)
        scene.await_only_on(FIRST)
        yield daemon


def measured(scene: Scene, daemon: RpcdaemonProcess, title: str, happens: Callable[[], object]) -> float:
    """Return how long the client lost its way out when something happened, and keep it for the table."""
    told, struck = len(daemon.audit()), time.time()
    record = lost_seconds(scene.client, happens, PATIENCE)
    settled = [f"works {each['seconds']:.1f} s after it was moved" for each in daemon.audit()[told:] if each["event"] == "settled"]
    figures = daemon.figures(told, struck).partition(": ")[2].partition(";")[0]
    stuck = ["a flow that went on meanwhile got no answer any more"] if record.stuck else []
    keep(f"{title}: the client lost {record.lost:.1f} s ({', '.join([figures, *settled, *stuck])})")
    return record.lost


def fence_hook(scene: Scene, succeeds: bool = True) -> Path:
    """Return a program that takes all routers off the node it is told of, as an operator's would by SSH; while `refuses` is there, it fails."""
    place = scene.lab.directory / "fence"
    place.mkdir(exist_ok=True)
    for left in ("refuses", "calls"):
        (place / left).unlink(missing_ok=True)
    if not succeeds:
        (place / "refuses").touch()
    remove = "ip netns list | cut -d ' ' -f 1 | grep ^qrouter- | xargs -r -n 1 ip netns delete"
    cases = "\n".join(f"{host}) {shlex.join(node.command('sh', '-c', remove))} ;;" for host, node in scene.nodes.items() if node.is_on)
    hook = place / "hook"
    hook.write_text(
        f"#!/bin/sh\necho $RPCDAEMON_HOST >>{place}/calls\n"
        f"if [ -e {place}/refuses ]; then echo 'the power switch does not answer' >&2; exit 1; fi\n"
        f"case $RPCDAEMON_HOST in\n{cases}\n*) exit 1 ;;\nesac\n",
        encoding="utf-8",
    )
    hook.chmod(0o755)
    return hook


@pytest.mark.timeout(900)
def test_a_drain_costs_seconds_and_is_told_how_long_the_router_took(scene: Scene) -> None:
    with watched_by(scene, "drained") as daemon:
        measured(scene, daemon, "planned drain", lambda: scene.drain_to(daemon, SECOND))
        scene.await_only_on(SECOND)
        assert [each["target"] for each in daemon.audit() if each["event"] == "settled"][-1] == SECOND
        measured(scene, daemon, "planned drain, back", lambda: scene.drain_to(daemon, FIRST))
        scene.await_only_on(FIRST)


@pytest.mark.timeout(900)
def test_a_router_that_does_not_come_to_work_is_told_of_until_it_does(scene: Scene) -> None:
    with watched_by(scene, "unsettled", {"settle_within": 3}) as daemon:
        switch = scene.nodes[SECOND]
        told = len(daemon.audit())
        assert switch.kill("neutron-openvswitch-agent", signal.SIGSTOP)
        try:
            assert daemon.command("drain", FIRST).returncode == 0
            daemon.wait_until(lambda: "does not work on real2" in daemon.alarms().get("unsettled", ""), "it says that the router does not work")
            assert not scene.works_on(SECOND)
        finally:
            switch.kill("neutron-openvswitch-agent", signal.SIGCONT)
        daemon.wait_until(lambda: "unsettled" not in daemon.alarms(), "it says that the router works", PATIENCE)
        assert [each["event"] for each in daemon.audit()[told:] if each["event"] in {"settled", "unsettled"}] == ["unsettled", "settled"]
        assert daemon.command("undrain", FIRST).returncode == 0
        scene.await_only_on(SECOND)


@pytest.mark.timeout(900)
def test_routers_of_a_killed_agent_stay_until_its_host_is_fenced_if_that_is_required(scene: Scene) -> None:
    hook = fence_hook(scene, succeeds=False)
    with watched_by(scene, "required", {"fencing": "require"}, hook) as daemon:
        before = len(daemon.writes())

        def die_and_refuse_to_be_fenced() -> None:
            scene.nodes[FIRST].kill_agent("l3")
            daemon.wait_until(lambda: "the power switch does not answer" in daemon.alarms().get("failed", ""), "it says why", PATIENCE)

        measured(scene, daemon, "killed agent, fencing = require, fencing failed: 0 moves", die_and_refuse_to_be_fenced)
        assert scene.built_on() == scene.bound_to() == {FIRST}
        assert len(daemon.writes()) == before
        assert "L3 agent on real1 is dead and hosts 1" in daemon.alarms()["dead"]

        def let_be_fenced() -> None:
            (hook.parent / "refuses").unlink()
            scene.await_on(SECOND)

        lost = measured(scene, daemon, "killed agent, fencing = require, fencing succeeds at last", let_be_fenced)
        assert lost > 0.5, "who is fenced does not forward"
        scene.await_only_on(SECOND)
        calls = (hook.parent / "calls").read_text(encoding="utf-8").split()
        assert set(calls) == {FIRST}
        assert 2 <= len(calls) <= 4, "it is tried again after pauses, not in every tick"
        scene.revive_agent(FIRST)
        daemon.await_calm()
        scene.await_only_on(SECOND)


@pytest.mark.timeout(900)
def test_a_killed_agent_whose_namespace_forwards_is_fenced_first(scene: Scene) -> None:
    with watched_by(scene, "tried", {"fencing": "try"}, fence_hook(scene)) as daemon:

        def die() -> None:
            scene.nodes[FIRST].kill_agent("l3")
            scene.await_on(SECOND)

        measured(scene, daemon, "killed agent, fencing = try", die)
        scene.await_only_on(SECOND)
        scene.revive_agent(FIRST)
        daemon.await_calm()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fencing", ["none", "try"])
def test_without_a_fencing_that_succeeds_two_answer_and_it_is_said(scene: Scene, fencing: str) -> None:
    with watched_by(scene, f"{fencing}-unfenced", {"fencing": fencing}, fence_hook(scene, succeeds=False)) as daemon:

        def die() -> None:
            scene.nodes[FIRST].kill_agent("l3")
            scene.await_on(SECOND)

        measured(scene, daemon, f"killed agent, fencing = {fencing}{', fencing failed' if fencing == 'try' else ''}", die)
        assert scene.built_on() == {FIRST, SECOND}
        assert scene.client.answering(GATEWAY) == 2, "both answer for the gateway's address"
        assert "there may be two of this router" in daemon.log or "could not be fenced" in daemon.log
        began = time.monotonic()
        scene.revive_agent(FIRST)
        scene.await_only_on(SECOND)
        keep(f"   two routers answered until the agent was started anew, {time.monotonic() - began:.1f} s for it to clear away what was not its own")
        daemon.await_calm()


@pytest.mark.timeout(900)
def test_a_node_loses_its_power(scene: Scene) -> None:
    with watched_by(scene, "bereft") as daemon:

        def fail() -> None:
            scene.nodes[FIRST].power_off()
            scene.await_on(SECOND)

        lost = measured(scene, daemon, "power-off of the router's node", fail)
        assert lost > scene.lab.settings.agent_down_time / 2, "the failure met nobody"
        scene.await_only_on(SECOND)
        scene.client.lease()
        scene.nodes[FIRST].power_on()
        daemon.await_calm()
        scene.await_only_on(SECOND)
