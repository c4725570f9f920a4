# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from brokerless.rpc.matchmaker.base import MatchMakerError, Route, Settings
from brokerless.rpc.matchmaker.redis import MatchMakerRedis
from brokerless.rpc.matchmaker.redis_settings import RedisSettings
from brokerless.rpc.topics import Address, parse_topic

COMPUTE = Address("compute")
FANOUT = Address("compute", fanout=True)
NOWHERE = RedisSettings(url="unix:///nonexistent/redis.sock", timeout=0.5)


@pytest.fixture
def matchmaker() -> Iterator[MatchMakerRedis]:
    with closing(MatchMakerRedis(Settings("control1", redis=NOWHERE))) as matchmaker:
        yield matchmaker


def told(matchmaker: MatchMakerRedis, problem: str = "", **hosts: str) -> None:
    """Let the matchmaker hear what a follower's thread would say."""
    matchmaker._take({host: frozenset(map(parse_topic, topics.split())) for host, topics in hosts.items()}, problem)


def test_bare_topics_and_fanouts_mean_the_registered_hosts(matchmaker: MatchMakerRedis) -> None:
    told(matchmaker, compute2="compute fanout~compute", compute1="compute")
    assert matchmaker.route(COMPUTE) == Route(("compute1", "compute2"))
    assert matchmaker.route(FANOUT) == Route(("compute2",))
    assert matchmaker.hosts() == {"compute1", "compute2"}


def test_own_consumers_count_at_once_and_stand_above_what_redis_says(matchmaker: MatchMakerRedis) -> None:
    matchmaker.consumed_here(frozenset({COMPUTE, Address("zmq_replies", server="0" * 16)}), complete=True)
    assert matchmaker.route(COMPUTE) == Route(("control1",))
    told(matchmaker, control1="volume", compute1="compute")
    assert matchmaker.route(COMPUTE) == Route(("compute1", "control1"))
    assert matchmaker.route(Address("volume")).hosts == ()
    matchmaker.consumed_here(frozenset(), complete=True)
    assert matchmaker.route(COMPUTE) == Route(("compute1",))


def test_after_a_start_services_count_for_what_they_consumed_before(matchmaker: MatchMakerRedis) -> None:
    told(matchmaker, control1="compute")
    assert matchmaker.route(COMPUTE) == Route(("control1",))
    matchmaker.consumed_here(frozenset({FANOUT}), complete=False)
    assert matchmaker.route(COMPUTE) == matchmaker.route(FANOUT) == Route(("control1",))
    matchmaker.consumed_here(frozenset({FANOUT}), complete=True)
    assert matchmaker.route(COMPUTE).hosts == ()
    assert matchmaker.route(FANOUT) == Route(("control1",))


def test_a_topic_without_a_host_is_a_problem_with_its_cause(matchmaker: MatchMakerRedis) -> None:
    told(matchmaker)
    assert matchmaker.route(COMPUTE).problem == "MatchMaker redis (unix:///nonexistent/redis.sock) knows no host that consumes compute"
    told(matchmaker, "Redis is away")
    assert matchmaker.route(COMPUTE).problem.endswith("consumes compute: Redis is away")


@pytest.mark.parametrize(
    ("topic", "host"),
    [("volume.host1", "host1"), ("volume.unknown", "unknown"), ("volume.host1@lvm", "host1"), ("volume.host2", "host2")],
)
def test_a_directed_topic_leads_to_one_host(topic: str, host: str, matchmaker: MatchMakerRedis) -> None:
    told(matchmaker, host1="volume.host1 volume.host1@lvm volume.shared volume.host2", host2="volume.shared volume.host2")
    assert matchmaker.route(parse_topic(topic)) == Route((host,))


def test_a_server_that_is_consumed_on_several_hosts_is_on_any_of_them(matchmaker: MatchMakerRedis) -> None:
    told(matchmaker, host1="volume.shared", host2="volume.shared")
    assert matchmaker.route(parse_topic("volume.shared")) == Route(("host1", "host2"))


def test_changes_are_said_and_nothing_else(matchmaker: MatchMakerRedis) -> None:
    heard: list[int] = []
    matchmaker._changed = lambda: heard.append(1)
    for problem, hosts, changes in (("", {"a": "compute"}, 1), ("", {"a": "compute"}, 1), ("away", {"a": "compute"}, 2), ("away", {}, 3)):
        told(matchmaker, problem, **hosts)
        assert len(heard) == changes


def test_registrations_must_outlive_the_pause_between_them() -> None:
    with pytest.raises(MatchMakerError, match=r"matchmaker_heartbeat_ttl 10 must be longer than matchmaker_heartbeat_freq 10"):
        MatchMakerRedis(Settings("control1", heartbeat_freq=10, heartbeat_ttl=10))


def test_it_can_be_closed_without_ever_having_followed(matchmaker: MatchMakerRedis) -> None:
    matchmaker.close()
    assert matchmaker.problem == ""
