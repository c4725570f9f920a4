# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Who consumes what, by address: made once from what is known of each host, then only looked up."""

from __future__ import annotations

from collections.abc import Mapping

from ..topics import Address


class Directory:
    """The hosts of each address. It never changes, so that one thread can make a new one while another reads."""

    __slots__ = ("_hosts", "_hosts_of")

    def __init__(self, consumed: Mapping[str, frozenset[Address]]) -> None:
        """Make it from the addresses that each host consumes."""
        hosts_of: dict[Address, list[str]] = {}
        for host in sorted(consumed):
            for address in consumed[host]:
                hosts_of.setdefault(address, []).append(host)
        self._hosts_of = {address: tuple(hosts) for address, hosts in hosts_of.items()}
        self._hosts = frozenset(host for host, addresses in consumed.items() if addresses)

    def hosts_of(self, address: Address) -> tuple[str, ...]:
        """Return the hosts that consume exactly this address, in alphabetical order, so that a round robin over them is one."""
        return self._hosts_of.get(address, ())

    def hosts(self) -> frozenset[str]:
        """Return the hosts that consume anything."""
        return self._hosts
