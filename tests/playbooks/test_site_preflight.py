# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Each role names what contradicts itself before it touches a host: here every host of one play has another fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

RECEIVER_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "range-past-the-end": ({"receiver_start_port": 65500}, "receiver_start_port 65500 with receiver_port_count 51 is no range of ports"),
    "no-such-adapter": (
        {"receiver_bind_address": "eth99"},
        "receiver_bind_address is eth99, which is neither * nor an IPv4 or IPv6 address nor an adapter",
    ),
    "almost-an-address": ({"receiver_bind_address": "10.0.0.256"}, "receiver_bind_address is 10.0.0.256, which is neither"),
    "ring-without-topics": ({"receiver_topics": {}}, "receiver_matchmaker is fanout-ring, which needs a ring, but there are no topics"),
    "long-socket-path": ({"receiver_ipc_dir": "/run/" + "ü" * 50}, "receiver_ipc_dir is too long: the path of a UNIX socket has at most 107 bytes"),
    "relative-path": ({"receiver_config_dir": "etc"}, "is not an absolute path"),
    "option-with-a-variable": (
        {"receiver_options": {"rpc_zmq_start_port": 1}},
        "receiver_options sets rpc_zmq_start_port, which this role writes itself",
    ),
    "another-name-than-in-the-ring": ({"receiver_host": "other"}, "receiver_host is other, but the ring calls"),
    "variable-that-is-missing": ({"receiver_ring_names": "variable"}, "define rpc_zmq_host for it"),
    "metrics-outside-the-range": ({"receiver_metrics_port": 80}, "receiver_metrics_port is 80, which is not a reserved port above the first one"),
    "redis-password-in-the-url": ({"receiver_redis": {"url": "redis://:secret@redis1"}}, "receiver_redis.url holds a user or password"),
    "redis-option-unknown": ({"receiver_redis": {"hots": "redis1"}}, "receiver_redis.hots. Supported parameters include: "),
    "process-without-a-log": ({"receiver_log_file": ""}, "receiver_service_manager is process, which has no journal"),
    "unknown-service-manager": (
        {"receiver_service_manager": "upstart"},
        "value of receiver_service_manager must be one of: systemd, process, got: upstart",
    ),
}
RUNTIME_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "relative-prefix": ({"runtime_prefix": "opt"}, "runtime_prefix is opt; it must be the absolute path"),
    "root-as-prefix": ({"runtime_prefix": "//"}, "it must be the absolute path of a directory that is the runtime's own"),
    "no-such-wheel": ({"runtime_wheel": "/nowhere/brokerless_openstack-1.0-py3-none-any.whl"}, "there is no such file on the controller"),
    "not-our-wheel": ({"runtime_wheel": __file__}, "which is not named like a wheel of brokerless-openstack"),
    "wheelhouse-without-wheels": ({"runtime_wheelhouse": str(Path(__file__).parent)}, "there is no wheel in it on the controller"),
    "no-such-python": ({"runtime_python": "/nowhere/python3"}, "runtime_python is /nowhere/python3; it must be Python 3.11 or newer"),
    "no-python-at-all": ({"runtime_python": "/bin/cat"}, "runtime_python is /bin/cat; it must be Python 3.11 or newer"),
}
DNS_SEARCH_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no-domain": ({}, "dns_search_domains is empty"),
    "bad-domain": ({"dns_search_domains": ["lab..example.com"]}, "dns_search_domains holds lab..example.com, which is no domain"),
    "domain-twice": ({"dns_search_domains": ["a.example", "a.example"]}, "dns_search_domains holds a domain twice"),
    "four-nameservers": (
        {"dns_search_domains": ["a.example"], "dns_search_nameservers": ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]},
        "dns_search_nameservers holds 4 nameservers; the resolver asks the first three only",
    ),
    "nameserver-by-name": (
        {"dns_search_domains": ["a.example"], "dns_search_nameservers": ["ns.example"]},
        "dns_search_nameservers holds ns.example, which is no IPv4 or IPv6 address",
    ),
}
FIREWALL_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "range-past-the-end": ({"firewall_port_count": 60000}, "firewall_start_port 9500 with firewall_port_count 60000 is no range of ports"),
    "host-without-address": ({"firewall_addresses": ["control1", "192.0.2.1"]}, "control1 is no IPv4 or IPv6 address"),
    "nobody": ({"firewall_addresses": []}, "no address may connect"),
    "another-range-than-the-receiver": (
        {"firewall_addresses": ["192.0.2.1"], "receiver_start_port": 9600},
        "uses 51 ports from 9600 on, but this role fences 51 from 9500 on",
    ),
}


@pytest.mark.parametrize(
    ("role", "faults"),
    [("receiver", RECEIVER_FAULTS), ("runtime", RUNTIME_FAULTS), ("dns_search", DNS_SEARCH_FAULTS), ("firewall", FIREWALL_FAULTS)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_contradictions_are_named_and_nothing_is_written(
    run_play: Any, inventory: dict[str, Any], tmp_path: Path, role: str, faults: dict[str, tuple[dict[str, Any], str]]
) -> None:
    place = tmp_path / "host"
    common = {
        "brokerless_prefix": str(place / "opt"),
        "receiver_service_manager": "process",
        "receiver_config_dir": str(place / "etc"),
        "receiver_ipc_dir": "/run/brokerless-preflight",
        "receiver_log_file": str(place / "log"),
        "receiver_topics": {"compute": {"groups": ["all"]}},
        "runtime_python": "{{ ansible_playbook_python }}",
        "dns_search_resolv_conf": str(place / "resolv.conf"),
        "firewall_file": str(place / "brokerless.nft"),
        "firewall_boot": False,
        "firewall_install_package": False,
    }
    inventory["all"]["vars"] |= common
    inventory["all"]["children"] = {"faulty": {"hosts": {name: variables for name, (variables, _message) in faults.items()}}}
    done = run_play([{"ansible.builtin.include_role": {"name": f"brokerless.openstack.{role}"}}], "--forks=2")
    said = {task.host: str(task.result.get("msg")) + str(task.result.get("argument_errors", "")) for task in done.tasks if task.outcome == "failed"}
    assert set(said) == set(faults), done.output
    assert {name: said[name] for name, (_variables, message) in faults.items() if message not in said[name]} == {}
    assert [task for task in done.tasks if task.result.get("changed")] == []
    assert not place.exists()
