# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A cloud of 100 network nodes and 2,000 routers: what the daemon asks of its API, counted where the calls arrive.

Its lists come from a small HTTP server, since no test can have so many nodes; moves are done in its memory.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from brokerless.ha.bus.base import Event, HearingBegan, Heartbeat
from brokerless.ha.config import read_settings
from brokerless.ha.daemon import Daemon, Parts
from brokerless.ha.journal import FileJournal, HostWish
from brokerless.ha.leader.single import SingleLeader
from brokerless.ha.neutron_api import NeutronApi, connect, read_conffile
from brokerless.ha.plugins import load_plugins
from brokerless.ha.policy import PolicySettings
from receiver_process import wait_until

AGENTS, ROUTERS = 100, 2000
POLICY = PolicySettings.for_intervals(10.0, 3.0)


class Cloud:
    """What the API says, and the calls that came."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.hosting: dict[str, list[str]] = {f"l3-{number}": [] for number in range(AGENTS)}
        for number in range(ROUTERS):
            # every tenth of all is on one agent
            self.hosting["l3-7" if number % 10 == 0 else f"l3-{number % AGENTS}"].append(f"r{number}")
        self.silent: set[str] = set()
        self.moved: dict[str, str] = {}
        self.wired: set[str] = set()
        """Of the routers that were moved, those whose ports are ACTIVE."""
        self.lock = threading.Lock()

    def get(self, path: str) -> tuple[int, Any]:
        self.calls[f"GET {path}"] += 1
        if path in {"/", "/v2.0", "/v2.0/"}:
            return 200, {"versions": [{"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": "/v2.0"}]}]}
        kind, *rest = path.removeprefix("/v2.0/").split("/")
        if kind == "agents" and rest:
            with self.lock:
                return 200, {"routers": [{"id": router} for router in self.hosting[rest[0]]]}
        if kind == "routers" and rest:
            with self.lock:
                return 200, {"agents": [{"id": agent} for agent, routers in self.hosting.items() if rest[0] in routers]}
        return 200, {kind: getattr(self, kind, list)()}

    def agents(self) -> list[dict[str, Any]]:
        now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        kinds = (("L3 agent", "l3", {"agent_mode": "legacy"}), ("Open vSwitch agent", "ovs", {"bridge_mappings": {}, "tunnel_types": ["vxlan"]}))
        return [
            {
                "id": f"{short}-{number}",
                "agent_type": kind,
                "host": f"net{number}",
                "admin_state_up": True,
                "alive": f"net{number}" not in self.silent,
                "availability_zone": "nova",
                "heartbeat_timestamp": now,
                "started_at": "2026-11-20 00:00:00",
                "configurations": said,
            }
            for number in range(AGENTS)
            for kind, short, said in kinds
        ]

    def routers(self) -> list[dict[str, Any]]:
        return [{"id": f"r{number}", "name": f"router {number}", "ha": False, "distributed": False} for number in range(ROUTERS)]

    def ports(self) -> list[dict[str, Any]]:
        return [
            {
                "id": f"port-{router}",
                "device_id": router,
                "device_owner": "network:router_interface",
                "network_id": "n",
                "binding:host_id": host,
                "status": "ACTIVE" if router in self.wired else "DOWN",
            }
            for router, host in list(self.moved.items())
        ]

    def change(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.calls[f"{method} change"] += 1
        _empty, _version, _agents, agent, _what, *router = path.split("/")
        with self.lock:
            if method == "DELETE":
                self.hosting[agent].remove(router[0])
                return 204, None
            self.hosting[agent].append(body["router_id"])
            self.moved[body["router_id"]] = agent.replace("l3-", "net")
            return 201, {}


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def api(cloud: Cloud, tmp_path: Path) -> Iterator[NeutronApi]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(*cloud.get(self.path.partition("?")[0]))

        def do_DELETE(self) -> None:
            self.answer(*cloud.change("DELETE", self.path, None))

        def do_POST(self) -> None:
            self.answer(*cloud.change("POST", self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def answer(self, status: int, body: Any) -> None:
            text = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_told: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        conffile = tmp_path / "neutron.conf"
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        conffile.write_text(f"[keystone_authtoken]\nauth_type = none\nendpoint = {endpoint}\n", encoding="utf-8")
        yield NeutronApi(connect(read_conffile(str(conffile))[0], str(conffile)))
        server.shutdown()


class Reports:
    """A source of the reports of all agents that are not silent, each every second."""

    def __init__(self, cloud: Cloud, tell: Callable[[Event], None]) -> None:
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
                    state = {name: agent[name] for name in ("agent_type", "host", "configurations")}
                    message = {"method": "report_state", "args": {"agent_state": {"agent_state": state}}}
                    self._tell(Heartbeat(time.monotonic(), "neutron", "q-reports-plugin", message, agent["host"], agent["agent_type"], "", state))


@pytest.fixture
def daemon(cloud: Cloud, api: NeutronApi, tmp_path: Path) -> Iterator[Daemon]:
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


def test_an_idle_daemon_asks_for_little(cloud: Cloud, daemon: Daemon) -> None:
    lists: list[float] = []

    def asks_for_agents_only() -> bool:
        cloud.calls.clear()
        began = time.monotonic()
        wait_until(lambda: cloud.calls["GET /v2.0/agents"] >= 3, "some time has passed")
        lists.append(sum(count for call, count in cloud.calls.items() if call.startswith("GET")) / (time.monotonic() - began))
        return set(cloud.calls) <= {"GET /v2.0/agents", "GET /v2.0/routers"}

    wait_until(asks_for_agents_only, "what was unknown at the start is known")
    assert lists[-1] <= 2.0, "list calls in a second, which is a tick"


def test_an_agent_of_a_hundred_dies_and_the_others_get_its_routers(cloud: Cloud, daemon: Daemon) -> None:
    cloud.silent.add("net7")
    wait_until(lambda: not cloud.hosting["l3-7"], "nothing is left on the dead agent", 120.0)
    wait_until(lambda: daemon.status()["waiting"] == 0 and not daemon.status()["under_way"], "all has ended")
    bound = Counter(router for routers in cloud.hosting.values() for router in routers)
    assert len(bound) == ROUTERS
    assert set(bound.values()) == {1}
    assert cloud.calls["DELETE change"] == cloud.calls["POST change"]


def test_a_host_that_is_drained_loses_a_router_only_when_the_one_before_works(cloud: Cloud, tmp_path: Path, request: pytest.FixtureRequest) -> None:
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
