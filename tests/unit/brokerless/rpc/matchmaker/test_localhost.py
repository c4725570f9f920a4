# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from brokerless.rpc.matchmaker.base import Route, Settings
from brokerless.rpc.matchmaker.localhost import MatchMakerLocalhost
from brokerless.rpc.topics import Address


def test_every_topic_means_this_host_and_a_directed_one_the_host_it_names() -> None:
    matchmaker = MatchMakerLocalhost(Settings("control1"))
    assert matchmaker.route(Address("compute")) == Route(("control1",))
    assert matchmaker.route(Address("compute", fanout=True)) == Route(("control1",))
    assert matchmaker.route(Address("compute", server="compute1")) == Route(("compute1",))


def test_it_knows_this_host_only_and_needs_no_file() -> None:
    matchmaker = MatchMakerLocalhost(Settings("control1"))
    assert matchmaker.hosts() == {"control1"}
    assert matchmaker.watched_file == ""
    assert str(matchmaker) == "MatchMaker localhost"
