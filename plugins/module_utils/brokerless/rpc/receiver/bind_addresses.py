# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Where the receiver listens: what `rpc_zmq_bind_address` means on this host."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...soft_import import soft_import

if TYPE_CHECKING:
    import ifaddr
else:
    ifaddr = soft_import("ifaddr", "ifaddr")


class BindError(ValueError):
    """The receiver can't listen where it shall; the message names the address or port and the fault."""


def adapters_of_this_host() -> dict[str, list[str]]:
    """Return the addresses of each network adapter, also of those that have none, IPv6 link-local ones with their scope (`fe80::1%eth0`)."""
    return {
        adapter.name: [ip.ip if isinstance(ip.ip, str) else _with_scope(ip.ip[0], adapter.name) for ip in adapter.ips]
        for adapter in ifaddr.get_adapters(include_unconfigured=True)
    }


def _with_scope(address: str, adapter: str) -> str:
    return f"{address}%{adapter}" if ipaddress.ip_address(address).is_link_local else address


def bind_endpoints(bind_address: str, port: int, adapters: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the ZeroMQ endpoints to bind for `rpc_zmq_bind_address` and `port`.

    `bind_address` is `*`, an IPv4 or IPv6 address, or the name of an adapter in `adapters`. Raises `BindError` if it is none of them, or an
    adapter without an address.
    """
    if bind_address in ("*", "::"):
        return [f"tcp://*:{port}"]
    try:
        return [endpoint(str(ipaddress.ip_address(bind_address.strip("[]"))), port)]
    except ValueError:
        pass
    if bind_address not in adapters:
        known = ", ".join(sorted(adapters)) or "none"
        raise BindError(f"rpc_zmq_bind_address {bind_address!r} is neither *, nor an address, nor a network adapter of this host (adapters: {known})")
    if not adapters[bind_address]:
        raise BindError(f"rpc_zmq_bind_address {bind_address!r}: this network adapter has no address")
    return [endpoint(address, port) for address in adapters[bind_address]]


def endpoint(address: str, port: int) -> str:
    """Return the ZeroMQ endpoint of a numeric IPv4 or IPv6 address."""
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"
