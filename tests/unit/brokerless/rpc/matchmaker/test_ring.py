# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from brokerless.rpc.matchmaker.base import MatchMakerError, Route, Settings
from brokerless.rpc.matchmaker.ring import MatchMakerFanoutRing, MatchMakerRing
from brokerless.rpc.matchmaker.ring_file import RingError
from brokerless.rpc.topics import Address

BOTH = pytest.mark.parametrize("kind", [MatchMakerRing, MatchMakerFanoutRing])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "ring.json"
    path.write_text('{"compute": ["compute1", "compute2"], "q-agent-*": ["network1"]}')
    return Settings("control1", str(path), "broker1")


@BOTH
def test_a_bare_topic_means_the_hosts_of_the_ring_in_their_order(kind: type[MatchMakerFanoutRing], settings: Settings) -> None:
    ring = kind(settings)
    assert ring.route(Address("compute")) == Route(("compute1", "compute2"))
    assert ring.route(Address("q-agent-notifier")) == Route(("network1",))
    assert ring.route(Address("compute", exchange="nova", namespace="cell1")) == Route(("compute1", "compute2"))


@BOTH
def test_a_directed_topic_means_the_host_it_names(kind: type[MatchMakerFanoutRing], settings: Settings) -> None:
    assert kind(settings).route(Address("compute", server="elsewhere")) == Route(("elsewhere",))


def test_a_fanout_means_all_hosts(settings: Settings) -> None:
    assert MatchMakerFanoutRing(settings).route(Address("compute", fanout=True)) == Route(("compute1", "compute2"))


def test_a_fanout_of_the_ring_goes_through_the_broker(settings: Settings) -> None:
    assert MatchMakerRing(settings).route(Address("compute", fanout=True)) == Route(("compute1", "compute2"), "broker1")


@BOTH
@pytest.mark.parametrize("fanout", [False, True])
def test_a_topic_that_is_not_in_the_ring_is_named(kind: type[MatchMakerFanoutRing], fanout: bool, settings: Settings) -> None:
    route = kind(settings).route(Address("scheduler", fanout=fanout))
    assert route.hosts == ()
    assert route.problem == f"MatchMaker {kind.name} ({settings.ring_file}) has no host for topic 'scheduler'"


def test_the_hosts_are_those_of_the_ring_and_the_broker_where_one_is_needed(settings: Settings) -> None:
    assert MatchMakerFanoutRing(settings).hosts() == {"compute1", "compute2", "network1"}
    assert MatchMakerRing(settings).hosts() == {"compute1", "compute2", "network1", "broker1"}


@BOTH
def test_the_ring_file_is_its_source_and_is_watched(kind: type[MatchMakerFanoutRing], settings: Settings) -> None:
    ring = kind(settings)
    assert ring.source == ring.watched_file == settings.ring_file


@BOTH
def test_a_ring_once_made_does_not_change(kind: type[MatchMakerFanoutRing], settings: Settings) -> None:
    ring = kind(settings)
    Path(settings.ring_file).write_text('{"compute": ["compute3"]}')
    assert ring.route(Address("compute")).hosts == ("compute1", "compute2")


@BOTH
def test_no_ring_file_is_an_error_that_names_the_option(kind: type[MatchMakerFanoutRing]) -> None:
    with pytest.raises(MatchMakerError, match=f"^MatchMaker {kind.name} needs a ring file: set rpc_zmq_matchmaker_ringfile$"):
        kind(Settings("control1"))


@BOTH
def test_a_broken_ring_file_is_an_error_that_names_it(kind: type[MatchMakerFanoutRing], settings: Settings) -> None:
    Path(settings.ring_file).write_text('{"compute": []}')
    with pytest.raises(RingError) as caught:
        kind(settings)
    assert settings.ring_file in str(caught.value)
    assert "compute" in str(caught.value)
