# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Nova's services, placement, and their configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lab_programs import nova_environment
from openstack_service import OpenStackService, Tables, WsgiService, written
from server_process import ADDRESS

REPORT_SECONDS = 2
DOWN_SECONDS = 10
"""Nova's `report_interval` and `service_down_time`."""


def nova_conf(host: str, place: Path, bus: Tables, placement: str, database: str, api_database: str) -> str:
    """Return nova.conf for the services of a host; `bus` has `transport_url` and what the driver needs, the databases are empty for a compute.

    Placement and the databases are URLs. There is no Neutron and no Glance.
    """
    nowhere: dict[str, object] = {"auth_type": "none", "endpoint_override": "http://127.0.0.1:9"}
    tables: Tables = {
        "DEFAULT": {
            "host": host,
            "my_ip": "127.0.0.1",
            "state_path": place,
            "compute_driver": "fake.FakeDriver",
            "rpc_ping_enabled": True,
            "report_interval": REPORT_SECONDS,
            "service_down_time": DOWN_SECONDS,
            "rpc_response_timeout": 20,
            **bus.get("DEFAULT", {}),
        },
        "oslo_concurrency": {"lock_path": place / "locks"},
        "oslo_messaging_notifications": {"driver": "noop"},
        "conductor": {"workers": 2},
        "scheduler": {"workers": 1},
        # placement's `noauth2` takes this token for an administrator's
        "placement": {"auth_type": "admin_token", "token": "admin", "endpoint": placement, "endpoint_override": placement},
        "neutron": nowhere,
        "glance": nowhere,
    }
    if database:
        tables |= {"database": {"connection": database}, "api_database": {"connection": api_database}}
    return written(tables | {table: options for table, options in bus.items() if table != "DEFAULT"})


class NovaService(OpenStackService):
    """One of Nova's services, with native threads."""

    def __init__(self, name: str, place: Path, configuration: Path) -> None:
        """As `OpenStackService`."""
        super().__init__(name, place, configuration, nova_environment())

    @property
    def _environment(self) -> Mapping[str, str]:
        return {**super()._environment, "OS_NOVA_DISABLE_EVENTLET_PATCHING": "1"}


class Placement(WsgiService):
    """The placement API, which keeps account of the computes' resources; it asks for no authentication."""

    def __init__(self, place: Path, database: str) -> None:
        """Take a free port; `database` is a URL. Nothing is started yet."""
        configuration = place / "placement.conf"
        tables: Tables = {"api": {"auth_strategy": "noauth2"}, "placement_database": {"connection": database, "sync_on_startup": True}}
        configuration.write_text(written(tables), encoding="utf-8")
        files = {"OS_PLACEMENT_CONFIG_DIR": str(place)}
        super().__init__("placement", place, configuration, nova_environment(), "placement.wsgi.api:application", "/", 1, files)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{ADDRESS}:{self.port}"
