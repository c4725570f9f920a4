# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The MatchMaker of a single host."""

from __future__ import annotations

from typing import ClassVar

from ..topics import Address
from .base import MatchMaker, Route


class MatchMakerLocalhost(MatchMaker):
    """Every bare topic and every fanout means this host. It needs no ring and no network."""

    name: ClassVar[str] = "localhost"

    def hosts(self) -> frozenset[str]:
        return frozenset({self.settings.host})

    def route_bare(self, address: Address) -> Route:
        return Route((self.settings.host,))

    def route_fanout(self, address: Address) -> Route:
        return Route((self.settings.host,))
