# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from brokerless.rpc.matchmaker.base import Route, Settings
from brokerless.rpc.matchmaker.stub import MatchMakerStub
from brokerless.rpc.topics import Address


def test_the_topic_is_the_host() -> None:
    matchmaker = MatchMakerStub(Settings("control1"))
    assert matchmaker.route(Address("compute1")) == Route(("compute1",))
    assert matchmaker.route(Address("compute1", fanout=True)) == Route(("compute1",))
    assert matchmaker.route(Address("compute", server="compute2")) == Route(("compute2",))


def test_it_knows_no_host_before_one_is_asked_for() -> None:
    matchmaker = MatchMakerStub(Settings("control1"))
    assert matchmaker.hosts() == frozenset()
    assert str(matchmaker) == "MatchMaker stub"
