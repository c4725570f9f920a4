# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Neutron's API as rpcdaemon uses it: lists that come whole, and changes whose answer is looked at, each within a time limit.

openstacksdk makes the connection and finds the endpoint. Its own methods for agents' routers and networks are not used: they return an error's
body as if it were a result, or nothing at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..soft_import import soft_import
from .errands import Answer, Call
from .snapshot import DHCP, L3

if TYPE_CHECKING:
    import openstack
    from keystoneauth1 import exceptions as auth_exceptions
    from keystoneauth1 import loading
    from openstack import exceptions as sdk_exceptions
    from oslo_config import cfg
else:
    openstack = soft_import("openstack", "openstacksdk")
    sdk_exceptions = soft_import("openstack.exceptions", "openstacksdk")
    auth_exceptions = soft_import("keystoneauth1.exceptions", "openstacksdk")
    loading = soft_import("keystoneauth1.loading", "openstacksdk")
    cfg = soft_import("oslo_config.cfg", "oslo.config")

PAGE = 1000
"""Elements that are asked for at a time."""
MOST_PAGES = 1000
HOSTED = {L3: ("l3-routers", "routers"), DHCP: ("dhcp-networks", "networks")}
"""By agent type: where what an agent hosts is listed, and under which key."""
USER_AGENT = "rpcdaemon"


class ApiError(Exception):
    """Neutron's API could not be asked, or did not answer the question. The message says what was asked, and what came."""


class CredentialsError(ValueError):
    """There is no way to get at Neutron's API; the message names the file or section, and the fault."""


@dataclass(frozen=True, slots=True)
class NeutronSettings:
    """What a service's configuration file says: the intervals (seconds) by which Neutron judges, and the URL of its bus."""

    agent_down_time: float
    report_interval: float
    transport_url: str
    failover: tuple[str, ...] = ()
    """The options of Neutron's own failover that are on."""


def read_conffile(path: str) -> tuple[cfg.ConfigOpts, NeutronSettings]:
    """Read a Neutron configuration file. Raises `CredentialsError` if it can't be read."""
    conf = cfg.ConfigOpts()
    conf.register_opts(
        [
            cfg.FloatOpt("agent_down_time", default=75.0),
            cfg.StrOpt("transport_url", default=""),
            cfg.BoolOpt("allow_automatic_l3agent_failover", default=False),
            cfg.BoolOpt("allow_automatic_dhcp_failover", default=True),
            *_former_options(),
        ]
    )
    conf.register_opts([cfg.FloatOpt("report_interval", default=30.0), cfg.FloatOpt("agent_down_time"), *_former_options()], "AGENT")
    try:
        conf(args=[], project="rpcdaemon", default_config_files=[path] if path else [], default_config_dirs=[])
        down = conf.AGENT.agent_down_time or conf.agent_down_time
        failover = [name for name in ("allow_automatic_l3agent_failover", "allow_automatic_dhcp_failover") if conf[name]]
        return conf, NeutronSettings(down, conf.AGENT.report_interval, conf.transport_url, tuple(failover))
    except (cfg.Error, ValueError) as error:
        raise CredentialsError(f"conffile {path}: {error}") from error


def _former_options() -> list[cfg.Opt]:
    """Return the options that the original read the credentials of Keystone's second version from."""
    return [cfg.StrOpt(name, secret=name == "admin_password") for name in ("auth_url", "admin_user", "admin_password", "admin_tenant_name")]


def connect(conf: cfg.ConfigOpts, path: str, cloud: str = "", region: str = "") -> tuple[Any, str]:
    """Return openstacksdk's connection to the cloud, and where its credentials are from, for the log.

    The credentials are, in this order: `cloud`, an entry of clouds.yaml; the section `[keystone_authtoken]` of the configuration file that was read
    from `path`; the keys that the original read there; what `OS_...` variables say. Raises `CredentialsError`.
    """
    try:
        if cloud:
            return openstack.connect(cloud=cloud, region_name=region or None, app_name=USER_AGENT), f"cloud {cloud} of clouds.yaml"
        section = "keystone_authtoken"
        loading.register_auth_conf_options(conf, section)
        loading.register_session_conf_options(conf, section)
        conf.register_opts([cfg.StrOpt("region_name")], section)
        auth = loading.load_auth_from_conf_options(conf, section)
        if auth is not None:
            session = loading.load_session_from_conf_options(conf, section, auth=auth)
            connection = openstack.connection.Connection(session=session, region_name=region or conf[section].region_name, app_name=USER_AGENT)
            return connection, f"section [{section}] of {path}"
        for former, name in ((conf.AGENT, "AGENT"), (conf, "DEFAULT")):
            if former.admin_user and former.auth_url:
                return _connect_as_before(former, region), f"admin_user and auth_url in section [{name}] of {path}"
        return openstack.connect(region_name=region or None, app_name=USER_AGENT), "OS_... variables"
    except (auth_exceptions.ClientException, sdk_exceptions.SDKException, cfg.Error) as error:
        raise CredentialsError(
            f"no credentials for Neutron's API: {error}; they are looked for under `cloud` in clouds.yaml, in section [keystone_authtoken] of "
            f"{path or 'the conffile'}, and in OS_... variables"
        ) from error


def _connect_as_before(former: Any, region: str) -> Any:
    return openstack.connect(
        load_yaml_config=False,
        load_envvars=False,
        auth={
            "auth_url": former.auth_url.removesuffix("/").removesuffix("/v2.0"),
            "username": former.admin_user,
            "password": former.admin_password,
            "project_name": former.admin_tenant_name,
            "user_domain_id": "default",
            "project_domain_id": "default",
        },
        region_name=region or None,
        app_name=USER_AGENT,
    )


class NeutronApi:
    """Neutron's API. All methods may be called from any thread."""

    def __init__(self, connection: Any, time_limit: float = 20.0, name: str = "") -> None:
        """Ask over openstacksdk's `connection`; no call takes longer than `time_limit` seconds without a byte of an answer.

        Neutron's access log shows this replica's `name`.
        """
        self._connection = connection
        self._user_agent = f"{USER_AGENT} ({name.encode('ascii', 'replace').decode()})" if name else USER_AGENT
        self._time_limit = time_limit
        self.calls: Counter[str] = Counter()
        """How many calls were made, by method and what was asked for."""

    @property
    def time_limit(self) -> float:
        """Return the seconds that a call may take."""
        return self._time_limit

    def change(self, call: Call) -> Answer:
        """Make a call that changes something, once, and return what came of it, whatever that is."""
        return self._request(call.method, call.path, json=call.body)

    def _request(self, method: str, path: str, **more: Any) -> Answer:
        self.calls[f"{method} {path.strip('/').split('/')[-1 if method == 'GET' else 0]}"] += 1
        try:
            response = self._connection.network.request(
                path, method, connect_retries=0, status_code_retries=0, timeout=self._time_limit, user_agent=self._user_agent, **more
            )
        except (auth_exceptions.ClientException, sdk_exceptions.SDKException) as error:
            return Answer(0, fault=f"{type(error).__name__}: {error}")
        body: Any = {}
        if response.content:
            try:
                body = response.json()
            except ValueError:
                body = {"NeutronError": response.text[:200]}
        return Answer(response.status_code, body if isinstance(body, Mapping) else {})

    # --- lists ---------------------------------------------------------------------------------------------------------------------------

    def agents(self) -> list[Mapping[str, Any]]:
        """Return all agents."""
        return self._list("/agents", "agents")

    def routers(self) -> list[Mapping[str, Any]]:
        """Return all routers."""
        return self._list("/routers", "routers")

    def networks(self) -> list[Mapping[str, Any]]:
        """Return all networks."""
        return self._list("/networks", "networks")

    def subnets(self) -> list[Mapping[str, Any]]:
        """Return all subnets, with what counts here of each."""
        return self._list("/subnets", "subnets", fields=["id", "network_id", "enable_dhcp"])

    def router_ports(self) -> list[Mapping[str, Any]]:
        """Return the ports of routers, with what counts here of each."""
        owners = ["network:router_interface", "network:router_interface_distributed", "network:ha_router_replicated_interface"]
        return self._list("/ports", "ports", fields=["id", "device_id", "device_owner", "network_id"], device_owner=owners)

    def floating_ips(self) -> list[Mapping[str, Any]]:
        """Return the floating IPs, with what counts here of each."""
        return self._list("/floatingips", "floatingips", fields=["id", "router_id"])

    def ports_of(self, routers: Collection[str]) -> list[Mapping[str, Any]]:
        """Return the ports of some routers, with what tells whether they work."""
        fields = ["id", "device_id", "device_owner", "status", "admin_state_up", "binding:host_id"]
        return self._list("/ports", "ports", fields=fields, device_id=sorted(routers))

    def floating_ips_of(self, routers: Collection[str]) -> list[Mapping[str, Any]]:
        """Return the floating IPs of some routers, with what tells whether they work."""
        return self._list("/floatingips", "floatingips", fields=["id", "router_id", "status"], router_id=sorted(routers))

    def hosted_by(self, agent_id: str, agent_type: str) -> list[Mapping[str, Any]]:
        """Return the ids of the routers or networks that an agent hosts."""
        path, key = HOSTED[agent_type]
        return self._list(f"/agents/{agent_id}/{path}", key, paged=False, fields=["id"])

    def where(self, thing: str, agent_type: str) -> frozenset[str] | Answer | None:
        """Return the ids of the agents that host a router or network; None if there is no such, an `Answer` if that could not be told."""
        path = f"/routers/{thing}/l3-agents" if agent_type == L3 else f"/networks/{thing}/dhcp-agents"
        answer = self._request("GET", path, params={"fields": ["id"]})
        if answer.status == 404:
            return None
        agents = answer.body.get("agents")
        if answer.status != 200 or not isinstance(agents, list):
            return answer
        return frozenset(str(agent["id"]) for agent in agents)

    def _list(self, path: str, key: str, *, paged: bool = True, **query: Any) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        for _page in range(MOST_PAGES):
            marker = {"marker": found[-1]["id"]} if found else {}
            answer = self._request("GET", path, params={**query, **({"limit": PAGE, **marker} if paged else {})})
            elements = answer.body.get(key)
            if answer.status != 200 or not isinstance(elements, list):
                raise ApiError(f"GET {path}: {answer}")
            found += elements
            if not paged or not elements or not answer.body.get(f"{key}_links"):
                return found
            if not any(link.get("rel") == "next" for link in answer.body[f"{key}_links"]):
                return found
        raise ApiError(f"GET {path}: more than {MOST_PAGES * PAGE} elements")
