# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The MatchMakers that go by a ring file."""

from __future__ import annotations

from typing import ClassVar

from ..topics import Address
from .base import MatchMaker, MatchMakerError, Route, Settings
from .ring_file import read_ring


class MatchMakerFanoutRing(MatchMaker):
    """The hosts of a topic stand in the ring file: round robin over them for a bare topic, all of them for a fanout."""

    name: ClassVar[str] = "fanout-ring"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if not settings.ring_file:
            raise MatchMakerError(f"MatchMaker {self.name} needs a ring file: set rpc_zmq_matchmaker_ringfile")
        self._ring = read_ring(settings.ring_file)

    @property
    def source(self) -> str:
        return self.settings.ring_file

    @property
    def watched_file(self) -> str:
        return self.settings.ring_file

    def hosts(self) -> frozenset[str]:
        return self._ring.hosts()

    def route_bare(self, address: Address) -> Route:
        hosts = self._ring.hosts_of(address.topic)
        return Route(hosts, problem="" if hosts else f"{self} has no host for topic {address.topic!r}")

    def route_fanout(self, address: Address) -> Route:
        return self.route_bare(address)


class MatchMakerRing(MatchMakerFanoutRing):
    """As the fanout ring, but a fanout goes through the broker."""

    name: ClassVar[str] = "ring"

    def hosts(self) -> frozenset[str]:
        return super().hosts() | {self.settings.broker}

    def route_fanout(self, address: Address) -> Route:
        route = self.route_bare(address)
        return Route(route.hosts, self.settings.broker, route.problem)
