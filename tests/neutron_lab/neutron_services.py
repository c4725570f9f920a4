# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Neutron's server as the three services it consists of since release 28 (API under uWSGI, RPC server, periodic workers), and its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab_programs import neutron_environment
from openstack_service import OpenStackService, Tables, WsgiService, written


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
    rpc_workers: int = 1
    quorum_queues: bool = False
    """Durable quorum queues and a durable exchange, instead of classic ones that are not."""


def neutron_conf(settings: LabSettings, host: str, place: Path, database: str, bus: str, more: Tables | None = None) -> str:
    """Return neutron.conf for the servers or the agents of a host, with `place` for what Neutron keeps, and the URLs of database and bus.

    `more` are sections for the bus. No message is sent as a notification: a queue of notifications that nobody reads grows for ever.
    """
    tables: Tables = {
        "DEFAULT": {
            "core_plugin": "ml2",
            "service_plugins": "router",
            "auth_strategy": "noauth",
            "api_paste_config": neutron_environment() / "etc" / "neutron" / "api-paste.ini",
            "state_path": place,
            "host": host,
            "transport_url": bus,
            "rpc_workers": settings.rpc_workers,
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
    return written(tables | (more or {}))


class NeutronService(OpenStackService):
    """One of Neutron's services."""

    def __init__(self, name: str, place: Path, configuration: Path) -> None:
        """As `OpenStackService`."""
        super().__init__(name, place, configuration, neutron_environment())


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


class NeutronApi(WsgiService):
    """The API, and its access log."""

    def __init__(self, place: Path, configuration: Path, processes: int) -> None:
        """Take a free port. Nothing is started yet."""
        files = {"OS_NEUTRON_CONFIG_DIR": str(configuration.parent), "OS_NEUTRON_CONFIG_FILES": configuration.name}
        module = "neutron.wsgi.api:application"
        super().__init__("neutron-api", place, configuration, neutron_environment(), module, "/v2.0/agents?fields=id", processes, files)
        self._access_log = self.directory / "access.log"

    @property
    def _command(self) -> list[str]:
        log = ["--log-format", "%(tmsecs)\t%(method)\t%(uri)\t%(status)\t%(msecs)\t%(uagent)", "--req-logger", f"file:{self._access_log}"]
        return [*super()._command, *log]

    def requests(self, user_agent: str = "") -> list[ApiRequest]:
        """Return what has been answered since the start, by whoever's User-Agent contains `user_agent`."""
        found = []
        for line in self._access_log.read_text(encoding="utf-8").splitlines() if self._access_log.exists() else []:
            milliseconds, method, path, status, took, agent = line.split("\t", 5)
            found.append(ApiRequest(int(milliseconds) / 1000, method, path, int(status), int(took) / 1000, agent))
        return [request for request in found if user_agent in request.user_agent]
