# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from brokerless.rpc.matchmaker.base import Route, Settings
from brokerless.rpc.matchmaker.broker import MatchMakerBroker, MatchMakerTopicScheduler
from brokerless.rpc.topics import Address

SETTINGS = Settings("control1", broker="broker1")
BOTH = pytest.mark.parametrize("kind", [MatchMakerBroker, MatchMakerTopicScheduler])


@BOTH
def test_only_the_broker_is_known_and_it_connects_to_whoever_connects(kind: type[MatchMakerBroker]) -> None:
    assert kind(SETTINGS).hosts() == {"broker1"}
    assert kind.dials_back
    assert str(kind(SETTINGS)) == f"MatchMaker {kind.name} (broker broker1)"


def test_a_bare_topic_goes_through_the_broker() -> None:
    assert MatchMakerBroker(SETTINGS).route(Address("compute")) == Route(broker="broker1", announced=True)


def test_the_scheduler_asks_the_broker_for_a_host() -> None:
    assert MatchMakerTopicScheduler(SETTINGS).route(Address("compute")) == Route(broker="broker1", announced=True, ask=True)


@BOTH
def test_a_fanout_goes_through_the_broker_and_a_directed_topic_does_not(kind: type[MatchMakerBroker]) -> None:
    assert kind(SETTINGS).route(Address("compute", fanout=True)) == Route(broker="broker1", announced=True)
    assert kind(SETTINGS).route(Address("compute", server="c1")) == Route(("c1",))
