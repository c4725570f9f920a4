# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The MatchMaker that makes no match."""

from __future__ import annotations

from typing import ClassVar

from ..topics import Address
from .base import MatchMaker, Route


class MatchMakerStub(MatchMaker):
    """The topic is the host: a message for `compute1` goes to the host `compute1`. Nova knew it as stub and as passthrough."""

    name: ClassVar[str] = "stub"

    def route_bare(self, address: Address) -> Route:
        return Route((address.topic,))

    def route_fanout(self, address: Address) -> Route:
        return Route((address.topic,))
