# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A cloud of 100 network nodes and 2,000 routers: what the daemon asks of its API, counted where the calls arrive.

Its lists come from a small HTTP server, since no test can have so many nodes; moves are done in its memory.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from brokerless.ha.bus.base import Event, HearingBegan
from brokerless.ha.bus.oslo_message import heard
from brokerless.ha.config import read_settings
from brokerless.ha.daemon import Daemon, Parts
from brokerless.ha.journal import FileJournal, HostWish
from brokerless.ha.leader.single import SingleLeader
from brokerless.ha.neutron_api import NeutronApi, connect, read_conffile
from brokerless.ha.plugins import load_plugins
from brokerless.ha.policy import PolicySettings
from cloud_double import CloudDouble, report_of
from receiver_process import wait_until

AGENTS, ROUTERS = 100, 2000
POLICY = PolicySettings.for_intervals(10.0, 3.0)


@pytest.fixture
def cloud() -> Iterator[CloudDouble]:
    # every tenth router of all is on one host
    loads = {f"net{number}": ROUTERS // 10 + 18 if number == 7 else 18 for number in range(AGENTS)}
    with CloudDouble(loads) as cloud:
        yield cloud


@pytest.fixture
def api(cloud: CloudDouble, tmp_path: Path) -> NeutronApi:
    conffile = str(cloud.conffile(tmp_path / "neutron.conf"))
    return NeutronApi(connect(read_conffile(conffile)[0], conffile)[0])


class Reports:
    """A source of the reports of all agents that are not silent, each every second."""

    def __init__(self, cloud: CloudDouble, tell: Callable[[Event], None]) -> None:
        self._cloud = cloud
        self._tell = tell
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        self._tell(HearingBegan(time.monotonic(), "the test"))
        while not self._closed.wait(1.0):
            for agent in self._cloud.agents():
                if agent["alive"]:
                    self._tell(heard(time.monotonic(), "neutron", "q-reports-plugin", report_of(agent)))


@pytest.fixture
def daemon(cloud: CloudDouble, api: NeutronApi, tmp_path: Path) -> Iterator[Daemon]:
    config = tmp_path / "rpcdaemon.conf"
    config.write_text(f"[Daemon]\nplugins = L3Agent\nleader = single\nstate_dir = {tmp_path}\n", encoding="utf-8")
    settings = read_settings(str(config))
    daemon = Daemon(Parts(settings, POLICY, api, load_plugins(settings), SingleLeader(), (), lambda tell: Reports(cloud, tell)))
    running = threading.Thread(target=daemon.run)
    running.start()
    try:
        wait_until(lambda: len(daemon.watch.snapshot.routers) == ROUTERS, "the cloud was read")
        yield daemon
    finally:
        daemon.stop()
        running.join()


def test_an_idle_daemon_asks_for_little(cloud: CloudDouble, daemon: Daemon) -> None:
    lists: list[float] = []

    def asks_for_agents_only() -> bool:
        cloud.calls.clear()
        began = time.monotonic()
        wait_until(lambda: cloud.calls["GET /v2.0/agents"] >= 3, "some time has passed")
        lists.append(sum(count for call, count in cloud.calls.items() if call.startswith("GET")) / (time.monotonic() - began))
        return set(cloud.calls) <= {"GET /v2.0/agents", "GET /v2.0/routers"}

    wait_until(asks_for_agents_only, "what was unknown at the start is known")
    assert lists[-1] <= 2.0, "list calls in a second, which is a tick"


def test_an_agent_of_a_hundred_dies_and_the_others_get_its_routers(cloud: CloudDouble, daemon: Daemon) -> None:
    cloud.silent.add("net7")
    wait_until(lambda: not cloud.hosting["l3-net7"], "nothing is left on the dead agent", 120.0)
    wait_until(lambda: daemon.status()["waiting"] == 0 and not daemon.status()["under_way"], "all has ended")
    bound = Counter(router for routers in cloud.hosting.values() for router in routers)
    assert len(bound) == ROUTERS
    assert set(bound.values()) == {1}
    assert cloud.calls["DELETE change"] == cloud.calls["POST change"]


def test_a_host_that_is_drained_loses_a_router_only_when_the_one_before_works(
    cloud: CloudDouble, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    journal = FileJournal(tmp_path / "journal")
    journal.put(HostWish("net3", "draining", time.time()))
    journal.close()
    daemon: Daemon = request.getfixturevalue("daemon")
    for number in range(1, 4):
        wait_until(lambda number=number: len(cloud.moved) == number, f"{number} routers have moved")
        (router,) = set(cloud.moved) - cloud.wired
        wait_until(lambda router=router: daemon.status()["settling"] == [router], "it is looked at")
        looks = cloud.calls["GET /v2.0/ports"]
        wait_until(lambda looks=looks: cloud.calls["GET /v2.0/ports"] >= looks + 3, "it was looked at several times")
        assert len(cloud.moved) == number
        cloud.wired.add(router)
