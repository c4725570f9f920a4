# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import ClassVar

import pytest
from brokerless.rpc.matchmaker.base import MatchMaker, Route, Settings
from brokerless.rpc.topics import Address


class OneHost(MatchMaker):
    name: ClassVar[str] = "one-host"

    def route_bare(self, address: Address) -> Route:
        return Route(("bare",))

    def route_fanout(self, address: Address) -> Route:
        return Route(("fanout",))


class FromFile(OneHost):
    @property
    def source(self) -> str:
        return "map.json"


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (Address("compute"), "bare"),
        (Address("compute", server="compute1.example.com"), "compute1.example.com"),
        (Address("compute", fanout=True), "fanout"),
    ],
)
def test_an_address_leads_where_its_kind_says(address: Address, host: str) -> None:
    assert OneHost(Settings("control1")).route(address) == Route((host,))


def test_a_matchmaker_without_a_source() -> None:
    matchmaker = OneHost(Settings("control1"))
    assert (matchmaker.source, matchmaker.watched_file, matchmaker.hosts()) == ("", "", frozenset())
    assert str(matchmaker) == "MatchMaker one-host"


def test_the_source_is_shown() -> None:
    assert str(FromFile(Settings("control1"))) == "MatchMaker one-host (map.json)"


def test_the_broker_is_the_hosts_own_receiver_unless_told_otherwise() -> None:
    assert Settings("control1").broker == "127.0.0.1"


def test_one_that_follows_nothing_may_be_told_everything() -> None:
    matchmaker = OneHost(Settings("control1"))
    matchmaker.follow(lambda: None)
    matchmaker.consumed_here(frozenset({Address("compute")}), complete=True)
    matchmaker.close()
    assert (matchmaker.follows, matchmaker.problem) == (False, "")


def test_a_directed_topic_may_lead_elsewhere() -> None:
    class Elsewhere(OneHost):
        def route_directed(self, address: Address) -> Route:
            return Route((f"host-of-{address.server}",))

    assert Elsewhere(Settings("control1")).route(Address("volume", server="lvm")) == Route(("host-of-lvm",))
