# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from brokerless.rpc.matchmaker.directory import Directory
from brokerless.rpc.topics import Address

COMPUTE = Address("compute")
VOLUME = Address("volume")


def test_hosts_stand_in_one_order() -> None:
    consumed = {"b": frozenset({COMPUTE}), "a": frozenset({COMPUTE, VOLUME}), "c": frozenset({COMPUTE})}
    directory = Directory(consumed)
    assert directory.hosts_of(COMPUTE) == ("a", "b", "c")
    assert directory.hosts_of(VOLUME) == ("a",)
    assert directory.hosts() == {"a", "b", "c"}


def test_only_the_very_address_counts() -> None:
    directory = Directory({"a": frozenset({COMPUTE})})
    for other in (
        Address("compute", fanout=True),
        Address("compute", exchange="nova"),
        Address("compute", server="a"),
        Address("compute", namespace="x"),
    ):
        assert directory.hosts_of(other) == ()


def test_a_host_that_consumes_nothing_is_none() -> None:
    assert Directory({"a": frozenset()}).hosts() == frozenset()
