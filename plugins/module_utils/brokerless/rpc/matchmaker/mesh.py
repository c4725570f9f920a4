# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The MatchMaker that needs no table of topics: receivers tell each other what is consumed on their hosts."""

from __future__ import annotations

from typing import ClassVar

from ..topics import Address
from .base import Route
from .ring import MatchMakerFanoutRing


class MatchMakerMesh(MatchMakerFanoutRing):
    """An address means the hosts that have a consumer of it now. Of the ring file only the hosts matter, not the topics they stand for."""

    name: ClassVar[str] = "mesh"

    def route(self, address: Address) -> Route:
        """Return where `address` leads. The server of a directed topic need not be a host: it is wherever it is consumed."""
        if address.server:
            return Route((address.server,) if address.server in self.hosts() else (), announced=True)
        return super().route(address)

    def route_bare(self, address: Address) -> Route:
        return Route(announced=True)

    def route_fanout(self, address: Address) -> Route:
        return Route(announced=True)
