# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from brokerless.rpc.oslo_driver.addresses import Addressing, pools_of, written
from brokerless.rpc.topics import Address, TopicError, check_server, check_topic
from hypothesis import given
from hypothesis import strategies as st


@given(st.text(min_size=1, max_size=20))
def test_any_name_can_be_written(name: str) -> None:
    assert check_topic(written(name)) == check_server(written(name)) == written(name)


@given(st.lists(st.text(alphabet="a.%+/2F@é", min_size=1, max_size=6), min_size=2, max_size=2, unique=True))
def test_different_names_are_written_differently(names: list[str]) -> None:
    assert written(names[0]) != written(names[1])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q-agent-notifier-port-update.host1", "q-agent-notifier-port-update.host1"),
        ("cinder-volume.host@lvm#pool", "cinder-volume.host@lvm#pool"),
        ("a b", "a%20b"),
        ("a+b%", "a%2Bb%25"),
        ("a..b", "a.%2Eb"),
        (".a", "%2Ea"),
        ("é", "%C3%A9"),
        ("", ""),
    ],
)
def test_what_a_name_becomes(name: str, text: str) -> None:
    assert written(name) == text


def test_each_part_of_a_target_is_a_part_of_the_address() -> None:
    addressing = Addressing("cell1", "nova")
    assert addressing.of_topic(None, "compute") == Address("compute", exchange="nova", namespace="cell1")
    assert addressing.of_server("other", "compute", "machine1") == Address("compute", "machine1", exchange="other", namespace="cell1")
    assert addressing.of_fanout(None, "compute") == Address("compute", fanout=True, exchange="nova", namespace="cell1")


def test_a_topic_with_a_dot_is_not_a_server() -> None:
    addressing = Addressing(None, "nova")
    assert addressing.of_topic(None, "a.b") != addressing.of_server(None, "a", "b")


def test_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(TopicError, match="255"):
        Addressing(None, "nova").of_topic(None, "é" * 50)


def test_pools_of_a_topic_are_found_among_its_exchanges() -> None:
    addressing = Addressing(None, "nova")
    address = addressing.of_topic(None, "notifications.info")
    pools = [addressing.of_topic(None, "notifications.info", pool) for pool in ("p", "q+r")]
    exchanges = frozenset({"nova", "novae", "novae+p", *(pool.exchange for pool in pools)})
    assert pools_of(address, exchanges) == pools
