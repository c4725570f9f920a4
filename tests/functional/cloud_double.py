# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A cloud in memory, for what a real Neutron is too slow or too small for: an HTTP server with its lists and bindings, and agents that report.

with CloudDouble({"net1": 10, "net2": 0}) as cloud, BusAgents(broker.url, cloud):
    conffile = cloud.conffile(path, agent_down_time=4)

Bindings are as in Neutron 29: a legacy router has one agent at most (POST for another is 409 RouterHostedByL3Agent, for the same 201), an HA router
any number, DELETE from an agent that does not have it is 204.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import kombu
from server_process import ADDRESS

KINDS = (("L3 agent", "l3", {"agent_mode": "legacy"}), ("Open vSwitch agent", "ovs", {"bridge_mappings": {}, "tunnel_types": ["vxlan"]}))
"""The agents of each host: type, the beginning of the id, and what they say of themselves."""


@dataclass(frozen=True)
class Request:
    """A request that came in; `who` is its User-Agent."""

    method: str
    path: str
    who: str

    @property
    def writes(self) -> bool:
        """Whether it changes something."""
        return self.method != "GET"


class CloudDouble:
    """The cloud; a context that serves it. Hosts in `silent` do not report, and their agents are not alive."""

    def __init__(self, routers: Mapping[str, int], ha_routers: Mapping[str, list[str]] | None = None) -> None:
        """`routers` says how many legacy routers each host has; `ha_routers` which hosts each HA router is on, by its id."""
        self.hosts = list(routers)
        self.hosting: dict[str, list[str]] = {f"l3-{host}": [] for host in routers}
        self.legacy: list[str] = []
        for host, number in routers.items():
            for _each in range(number):
                self.legacy.append(f"r{len(self.legacy)}")
                self.hosting[f"l3-{host}"].append(self.legacy[-1])
        self.redundant = sorted(ha_routers or {})
        for router, hosts in (ha_routers or {}).items():
            for host in hosts:
                self.hosting[f"l3-{host}"].append(router)
        self.silent: set[str] = set()
        self.moved: dict[str, str] = {}
        """The host on which each router was put last."""
        self.wired: set[str] = set()
        """Of the routers that were moved, those whose ports are ACTIVE."""
        self.calls: Counter[str] = Counter()
        self.requests: list[Request] = []
        """Those that change something, in the order in which they came."""
        self.on_request: Callable[[Request, str], None] = _pass_by
        """Called with the phases `came`, `done` and `answered` of each request. What it raises ends the request there, without an answer."""
        self.lock = threading.Lock()
        self._server = _Server((ADDRESS, 0), _handler(self))

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        """Where it is served."""
        return int(self._server.server_address[1])

    def conffile(self, path: Path, **options: object) -> Path:
        """Write a service's configuration file that leads here, with these options of `[DEFAULT]`; return its path."""
        lines = "".join(f"{name} = {value}\n" for name, value in options.items() if name != "report_interval")
        interval = f"[AGENT]\nreport_interval = {options['report_interval']}\n" if "report_interval" in options else ""
        endpoint = f"[keystone_authtoken]\nauth_type = none\nendpoint = http://{ADDRESS}:{self.port}\n"
        path.write_text(f"[DEFAULT]\n{lines}{interval}{endpoint}", encoding="utf-8")
        return path

    # --- what is asked ---------------------------------------------------------------------------------------------------------------------

    def get(self, path: str) -> tuple[int, Any]:
        """Answer a question."""
        self.calls[f"GET {path}"] += 1
        if path in {"/", "/v2.0", "/v2.0/"}:
            return 200, {"versions": [{"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": "/v2.0"}]}]}
        kind, *rest = path.removeprefix("/v2.0/").split("/")
        with self.lock:
            if kind == "agents" and rest:
                return 200, {"routers": [{"id": router} for router in self.hosting[rest[0]]]}
            if kind == "routers" and rest:
                return 200, {"agents": [{"id": agent} for agent in self.bound(rest[0])]}
            return 200, {kind: {"agents": self.agents, "routers": self.routers, "ports": self.ports}.get(kind, list)()}

    def agents(self) -> list[dict[str, Any]]:
        """Return Neutron's list of agents."""
        now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        return [
            {
                "id": f"{short}-{host}",
                "agent_type": kind,
                "host": host,
                "admin_state_up": True,
                "alive": host not in self.silent,
                "availability_zone": "nova",
                "heartbeat_timestamp": now,
                "started_at": "2026-11-20 00:00:00",
                "configurations": said,
            }
            for host in self.hosts
            for kind, short, said in KINDS
        ]

    def routers(self) -> list[dict[str, Any]]:
        """Return Neutron's list of routers."""
        every = [(router, False) for router in self.legacy] + [(router, True) for router in self.redundant]
        return [{"id": router, "name": f"router {router}", "ha": ha, "distributed": False} for router, ha in every]

    def ports(self) -> list[dict[str, Any]]:
        """Return Neutron's list of ports, so far as they are of routers that were moved."""
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

    def bound(self, router: str) -> list[str]:
        """Return the agents that a router is bound to."""
        return [agent for agent, routers in self.hosting.items() if router in routers]

    def change(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Bind or unbind a router."""
        self.calls[f"{method} change"] += 1
        _empty, _version, _agents, agent, _what, *router = path.split("/")
        with self.lock:
            if method == "DELETE":
                if router[0] in self.hosting[agent]:
                    self.hosting[agent].remove(router[0])
                return 204, None
            wanted = body["router_id"]
            if wanted in self.hosting[agent]:
                return 201, {}
            if wanted in self.legacy and self.bound(wanted):
                return 409, {"NeutronError": {"type": "RouterHostedByL3Agent", "message": f"{wanted} is hosted", "detail": ""}}
            self.hosting[agent].append(wanted)
            self.moved[wanted] = agent.removeprefix("l3-")
            return 201, {}


def _pass_by(_request: Request, _phase: str) -> None:
    """Nothing happens at a request."""


def report_of(agent: Mapping[str, Any], **more: object) -> dict[str, Any]:
    """Return what an agent of Neutron's list reports."""
    state = {name: agent[name] for name in ("agent_type", "host", "configurations")}
    return {"method": "report_state", "args": {"agent_state": {"agent_state": state | {"binary": "neutron"}}, **more}, "version": "1.4"}


class BusAgents:
    """The agents' reports on a real RabbitMQ, each host's every `every` seconds; a context that sends them."""

    def __init__(self, url: str, cloud: CloudDouble, exchange: str = "neutron", every: float = 0.5) -> None:
        """The exchange is declared as Neutron does it. Nothing is sent yet."""
        self._url = url
        self._cloud = cloud
        self._exchange = exchange
        self._every = every
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        with kombu.Connection(self._url) as connection:
            channel = connection.channel()
            channel.exchange_declare(self._exchange, "topic", durable=False, auto_delete=False)
            producer = kombu.Producer(channel)
            while not self._closed.is_set():
                for agent in self._cloud.agents():
                    if agent["alive"]:
                        inner = report_of(agent, time=time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()))
                        body = json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(inner)})
                        producer.publish(body, exchange=self._exchange, routing_key="q-reports-plugin", content_type="application/json")
                self._closed.wait(self._every)
            channel.exchange_delete(self._exchange)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: who asked was killed."""


def _handler(cloud: CloudDouble) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(lambda: cloud.get(self.path.partition("?")[0]))

        def do_DELETE(self) -> None:
            self.answer(lambda: cloud.change("DELETE", self.path, None))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer(lambda: cloud.change("POST", self.path, body))

        def answer(self, made: Callable[[], tuple[int, Any]]) -> None:
            request = Request(self.command, self.path.partition("?")[0], str(self.headers["User-Agent"]))
            if request.writes:
                cloud.requests.append(request)
            cloud.on_request(request, "came")
            status, body = made()
            cloud.on_request(request, "done")
            text = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            with contextlib.suppress(OSError):
                self.end_headers()
                self.wfile.write(text)
                self.wfile.flush()
                cloud.on_request(request, "answered")

        def log_message(self, *_told: object) -> None:
            """Say nothing."""

    return Handler
