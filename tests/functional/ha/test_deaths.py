# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Deaths of leaders and of agents, at points that only a cloud in memory can choose: Neutron's API is an HTTP server of the test, RabbitMQ is real.

`make test` kills the leader at 20 points, SIZE=full at 200.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from brokerless.ha.control import NobodyLeads, ask
from cloud_double import BusAgents, CloudDouble, Request
from rabbitmq_server import RabbitmqServer
from receiver_process import wait_until
from rpcdaemon_program import Nursery

KILLS = 200 if os.environ.get("SIZE") == "full" else 20
PATIENCE = 90.0
POLICY = {"reconnect_grace": 0, "mass_failure_share": 0.9, "settle_within": 0}


class Cluster:
    """Replicas of a daemon over one cloud."""

    def __init__(self, nursery: Nursery, broker: RabbitmqServer, cloud: CloudDouble) -> None:
        self.cloud = cloud
        self._broker = broker
        self.nursery = nursery
        conffile = cloud.conffile(nursery.place / "neutron.conf", agent_down_time=3, report_interval=0.5)
        self._daemon = {"rpchost": broker.url, "lease": 1.6, "check_interval": 0.2}
        self._l3_agent = {"conffile": conffile, "timeout": 0.6}

    def start(self, name: str, daemon: Mapping[str, object] | None = None, policy: Mapping[str, object] | None = None) -> None:
        """Start a replica, with these keys beside those that all have."""
        self.nursery.start(name, {**self._daemon, **(daemon or {})}, self._l3_agent, {**POLICY, **(policy or {})})

    def unfinished(self) -> list[str]:
        """Return what whoever leads says is not over: moves that are open, under way, or wait."""
        try:
            status = ask([self._broker.url], {"command": "status"}, 2.0)
        except NobodyLeads:
            return ["nobody leads"]
        return [*status["broken"], *status["under_way"], *(["it waits"] * status["waiting"])]

    def logs(self) -> str:
        """Return the ends of the logs."""
        return "\n".join(f"--- {name}\n{self.nursery.log(name)[-3000:]}" for name in ("one", "two", "three"))


class Killer:
    """Kills whoever makes the n-th step of a move from now on, at a random moment of it."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self._cluster = cluster
        self._chance = chance
        self._lock = threading.Lock()
        self._left = 1 << 30
        self._begun = False
        self.killed = ""
        self.moments: Counter[str] = Counter()
        """In which phase of what request it struck."""
        self.cut_off = 0
        """How often a router had no agent then."""
        cluster.cloud.on_request = self.strike

    def arm(self) -> None:
        with self._lock:
            self.killed = ""
            self._begun = False
            self._left = self._chance.randint(1, 20)

    def strike(self, request: Request, phase: str) -> None:
        """Called at the phases of each request."""
        name = request.who.partition("(")[2].rstrip(")")
        if not (request.writes or request.path.endswith(("/l3-agents", "/l3-routers"))) or name not in self._cluster.nursery.pids:
            return
        with self._lock:
            # what it reads counts only after it has begun to write
            self._begun = self._begun or request.writes
            self._left -= self._begun
            if self._left > 0 or self.killed:
                return
            if phase == "answered":
                time.sleep(self._chance.uniform(0.0, 0.03))
            self._cluster.nursery.kill(name)
            self.killed = name
            self.moments[f"{request.method} {phase}"] += 1
            cloud = self._cluster.cloud
            self.cut_off += any(not cloud.bound(router) for router in cloud.legacy)
        if phase == "came" and self._chance.random() < 0.5:
            raise ConnectionAbortedError("it was killed before it had sent this")


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    with Nursery(tmp_path) as nursery:
        yield nursery


@pytest.mark.timeout(60 + 15 * KILLS)
def test_whenever_its_leader_is_killed_an_evacuation_goes_on(nursery: Nursery, broker: RabbitmqServer) -> None:
    """All routers are bound to one live agent each in the end, however often that happens, and between a removal and an addition too."""
    with CloudDouble({"net1": 7 * KILLS, "net2": 0, "net3": 0, "net4": 0}) as cloud, BusAgents(broker.url, cloud):
        cluster = Cluster(nursery, broker, cloud)
        killer = Killer(cluster, random.Random(20131))
        cloud.silent.add("net1")
        for name in ("one", "two", "three"):
            cluster.start(name)
        for number in range(KILLS):
            killer.arm()
            try:
                wait_until(lambda: killer.killed, f"the leader is killed, kill {number + 1}", PATIENCE)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{len(cloud.hosting['l3-net1'])} routers are left\n{cluster.logs()}") from None
            twice = [router for router in cloud.legacy if len(cloud.bound(router)) > 1]
            assert not twice
            cluster.start(killer.killed)
        wait_until(lambda: not cloud.hosting["l3-net1"] and not cluster.unfinished(), "all is over", PATIENCE)
        bound = {router: cloud.bound(router) for router in cloud.legacy}
        assert {router: agents for router, agents in bound.items() if len(agents) != 1 or agents == ["l3-net1"]} == {}
        loads = [len(cloud.hosting[f"l3-{host}"]) for host in ("net2", "net3", "net4")]
        assert max(loads) - min(loads) <= 1 + KILLS // 10, loads
        assert killer.cut_off, "it was killed at least once while a router had no agent"
        assert len(killer.moments) >= 4, killer.moments


def test_an_ha_router_gets_a_member_for_the_dead_one_and_keeps_the_others(nursery: Nursery, broker: RabbitmqServer) -> None:
    with (
        CloudDouble({"net1": 0, "net2": 0, "net3": 0, "net4": 0}, {"redundant": ["net1", "net2", "net3"]}) as cloud,
        BusAgents(broker.url, cloud),
    ):
        cluster = Cluster(nursery, broker, cloud)
        cluster.start("one")
        wait_until(lambda: nursery.log("one").count("L3 agent on") >= 4 and not cluster.unfinished(), "it has seen the cloud", PATIENCE)
        assert not cloud.requests
        cloud.silent.add("net1")
        wait_until(lambda: cloud.bound("redundant") == ["l3-net2", "l3-net3", "l3-net4"], "it has three live members", PATIENCE)
        wait_until(lambda: not cluster.unfinished(), "all is over", PATIENCE)
        assert [(each.method, each.path) for each in cloud.requests] == [
            ("POST", "/v2.0/agents/l3-net4/l3-routers"),
            ("DELETE", "/v2.0/agents/l3-net1/l3-routers/redundant"),
        ]


def test_a_probe_proves_that_a_host_is_off_which_nothing_can_fence(nursery: Nursery, broker: RabbitmqServer, tmp_path: Path) -> None:
    probe, off = tmp_path / "probe", tmp_path / "off"
    probe.write_text(f'#!/bin/sh\necho "$RPCDAEMON_HOST" >>{tmp_path}/asked\ntest -e {off} && exit 2\nexit 1\n', encoding="utf-8")
    probe.chmod(0o700)
    with CloudDouble({"net1": 2, "net2": 0, "net3": 0}) as cloud, BusAgents(broker.url, cloud):
        cluster = Cluster(nursery, broker, cloud)
        cluster.start("one", {"probe": probe}, {"fencing": "require"})
        wait_until(lambda: nursery.log("one").count("-> alive") >= 6 and not cluster.unfinished(), "it has seen the cloud", PATIENCE)
        cloud.silent.add("net1")
        wait_until(lambda: "the probe does not know about net1" in nursery.log("one"), "it is not known whether it is off", PATIENCE)
        wait_until(lambda: "L3 agent on net1: suspect -> dead" in nursery.log("one"), "it is dead", PATIENCE)
        assert not cloud.requests
        off.touch()
        wait_until(lambda: not cloud.hosting["l3-net1"], "nothing is left on it", PATIENCE)
        assert {*(tmp_path / "asked").read_text(encoding="utf-8").split()} == {"net1"}
