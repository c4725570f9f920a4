# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Neutron's server as the three services it consists of since release 28 (API under uWSGI, RPC server, periodic workers), and its configuration."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab_programs import neutron_environment
from receiver_process import PATIENCE, free_port, wait_until
from server_process import ADDRESS, ServerProcess

START_SECONDS = 120.0
"""How long a service may take until it serves; ten seconds on a machine that has nothing else to do."""


@dataclass(frozen=True)
class LabSettings:
    """Neutron's options that tests choose, by Neutron's names where it has them, with small times as defaults; times are in seconds."""

    agent_down_time: int = 10
    report_interval: float = 3.0
    rpc_response_timeout: int = 10
    rpc_response_max_timeout: int = 20
    allow_automatic_l3agent_failover: bool = False
    allow_automatic_dhcp_failover: bool = False
    dhcp_agents_per_network: int = 1
    api_processes: int = 2
    quorum_queues: bool = False
    """Durable quorum queues and a durable exchange, instead of classic ones that are not."""


def neutron_conf(settings: LabSettings, host: str, place: Path, database: str, bus: str) -> str:
    """Return neutron.conf for the servers or the agents of a host, with `place` for what Neutron keeps, and the URLs of database and bus.

    No message is sent as a notification: a queue of notifications that nobody reads grows for ever.
    """
    tables: dict[str, dict[str, object]] = {
        "DEFAULT": {
            "core_plugin": "ml2",
            "service_plugins": "router",
            "auth_strategy": "noauth",
            "api_paste_config": neutron_environment() / "etc" / "neutron" / "api-paste.ini",
            "state_path": place,
            "host": host,
            "transport_url": bus,
            "rpc_workers": 1,
            "rpc_state_report_workers": 1,
            "rpc_response_timeout": settings.rpc_response_timeout,
            "rpc_response_max_timeout": settings.rpc_response_max_timeout,
            "agent_down_time": settings.agent_down_time,
            "allow_automatic_l3agent_failover": settings.allow_automatic_l3agent_failover,
            "allow_automatic_dhcp_failover": settings.allow_automatic_dhcp_failover,
            "dhcp_agents_per_network": settings.dhcp_agents_per_network,
            "notify_nova_on_port_status_changes": False,
            "notify_nova_on_port_data_changes": False,
        },
        "AGENT": {"report_interval": settings.report_interval},
        "database": {"connection": database},
        "oslo_concurrency": {"lock_path": place / "locks"},
        "oslo_messaging_notifications": {"driver": "noop"},
        "quotas": dict.fromkeys(("quota_network", "quota_subnet", "quota_port", "quota_router", "quota_floatingip"), -1),
        "ml2": {
            "type_drivers": "flat,vlan,vxlan",
            "project_network_types": "vxlan",
            "mechanism_drivers": "openvswitch",
            "extension_drivers": "port_security",
        },
        "ml2_type_flat": {"flat_networks": "*"},
        "ml2_type_vlan": {"network_vlan_ranges": "physnet1:100:3999,physnet2:100:3999"},
        "ml2_type_vxlan": {"vni_ranges": "1:9999"},
    }
    if settings.quorum_queues:
        queues = dict.fromkeys(("rabbit_quorum_queue", "rabbit_transient_quorum_queue", "use_queue_manager"), True)
        tables["oslo_messaging_rabbit"] = {**queues, "rabbit_qos_prefetch_count": 10}
    return "\n".join(f"[{table}]\n" + "".join(f"{name} = {value}\n" for name, value in options.items()) for table, options in tables.items())


class NeutronService(ServerProcess):
    """One of Neutron's services, with the workers it forks."""

    def __init__(self, name: str, place: Path, configuration: Path) -> None:
        """`configuration` is neutron.conf, read at every start."""
        super().__init__(name, place)
        self.configuration = configuration

    @property
    def _command(self) -> list[str]:
        return [str(neutron_environment() / "bin" / self.name), "--config-file", str(self.configuration)]

    @property
    def _environment(self) -> Mapping[str, str]:
        return {"PYTHONWARNINGS": "ignore"}

    def launch(self) -> None:
        """Start the service and return at once."""
        # a session of its own: the workers are in it as well, and end with it
        self.run(["setsid", *self._command], self._environment)

    def await_ready(self) -> None:
        """Return when the service that was launched serves."""
        self.wait_until_ready(lambda: True)

    def start(self) -> None:
        """Launch the service, and return when it serves. Fails with its log if it ends instead."""
        self.launch()
        self.await_ready()

    def freeze(self) -> None:
        """Let all its processes stand still (SIGSTOP)."""
        os.killpg(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Kill it: an orderly end of these services takes up to a minute and gives tests nothing."""
        self.kill()

    def _end(self, number: signal.Signals) -> None:
        while self._processes:
            process = self._processes[-1]
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            process.wait(PATIENCE)
            wait_until(lambda session=process.pid: not _session(session), f"the processes of {self.name} are gone")  # type: ignore[misc]
            self._processes.pop()


def _session(leader: int) -> bool:
    """Tell whether a process of the session is alive; one that has ended and waits to be reaped is not."""
    done = subprocess.run(["ps", "-o", "stat=", "-s", str(leader)], capture_output=True, text=True, check=False)
    return any(not state.startswith("Z") for state in done.stdout.split())


@dataclass(frozen=True)
class ApiRequest:
    """One request of the API's access log, written when it was answered."""

    time: float
    """When it came, in seconds since the epoch."""
    method: str
    path: str
    status: int
    seconds: float
    user_agent: str
    """Who asked."""

    @property
    def writes(self) -> bool:
        """Whether the request changes anything."""
        return self.method not in {"GET", "HEAD", "OPTIONS"}


class NeutronApi(NeutronService):
    """The API, and its access log."""

    def __init__(self, place: Path, configuration: Path, processes: int) -> None:
        """Take a free port. Nothing is started yet."""
        super().__init__("neutron-api", place, configuration)
        self.port = free_port([ADDRESS])
        self._workers = processes
        self._access_log = self.directory / "access.log"

    @property
    def _command(self) -> list[str]:
        environment = neutron_environment()
        # lazy-apps: Neutron connects while it loads, and connections don't survive a fork
        command = [str(environment / "bin" / "uwsgi"), "--http-socket", f"{ADDRESS}:{self.port}", "--module", "neutron.wsgi.api:application"]
        command += ["--master", "--processes", str(self._workers), "--threads", "1", "--enable-threads", "--need-app", "--lazy-apps", "--die-on-term"]
        command += [
            "--no-orphans",
            "--buffer-size",
            "65535",
            "--listen",
            "100",
            "--virtualenv",
            str(environment),
            "--add-header",
            "Connection: close",
        ]
        command += ["--log-format", "%(tmsecs)\t%(method)\t%(uri)\t%(status)\t%(msecs)\t%(uagent)", "--req-logger", f"file:{self._access_log}"]
        return command

    @property
    def _environment(self) -> Mapping[str, str]:
        configuration = {"OS_NEUTRON_CONFIG_DIR": str(self.configuration.parent), "OS_NEUTRON_CONFIG_FILES": self.configuration.name}
        return {**super()._environment, **configuration}

    def await_ready(self) -> None:
        """Return when the API answers."""
        self.wait_until_ready(self._answers, START_SECONDS)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(ADDRESS, self.port, timeout=START_SECONDS)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", "/v2.0/agents?fields=id")
            return connection.getresponse().status == 200
        return False

    def requests(self, user_agent: str = "") -> list[ApiRequest]:
        """Return what has been answered since the start, by whoever's User-Agent contains `user_agent`."""
        found = []
        for line in self._access_log.read_text(encoding="utf-8").splitlines() if self._access_log.exists() else []:
            milliseconds, method, path, status, took, agent = line.split("\t", 5)
            found.append(ApiRequest(int(milliseconds) / 1000, method, path, int(status), int(took) / 1000, agent))
        return [request for request in found if user_agent in request.user_agent]
