# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The MatchMakers that leave it to a broker, another host's receiver, to know who serves what.

The broker itself uses one of them too, with its own host as `rpc_zmq_broker_ip`: it connects to each host that connects to it, and hears what is
consumed there.
"""

from __future__ import annotations

from typing import ClassVar

from ..topics import Address
from .base import MatchMaker, Route


class MatchMakerBroker(MatchMaker):
    """Every message for a bare topic and every fanout goes through the broker."""

    name: ClassVar[str] = "broker"
    dials_back: ClassVar[bool] = True

    @property
    def source(self) -> str:
        return f"broker {self.settings.broker}"

    def hosts(self) -> frozenset[str]:
        return frozenset({self.settings.broker})

    def route_bare(self, address: Address) -> Route:
        return Route(broker=self.settings.broker, announced=True)

    def route_fanout(self, address: Address) -> Route:
        return Route(broker=self.settings.broker, announced=True)


class MatchMakerTopicScheduler(MatchMakerBroker):
    """The broker is asked for a host for each message of a bare topic, which then goes there directly; a fanout goes through the broker."""

    name: ClassVar[str] = "scheduler"

    def route_bare(self, address: Address) -> Route:
        return Route(broker=self.settings.broker, announced=True, ask=True)
