# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest
from brokerless.rpc.matchmaker.redis_registry import (
    EXPIRY_MARGIN,
    MAX_ADDRESSES,
    SHORTEST_PAUSE,
    Registry,
    RegistryError,
    decode_value,
    encode_value,
    registrable,
)
from brokerless.rpc.topics import Address, parse_topic
from hypothesis import given
from hypothesis import strategies as st

COMPUTE = Address("compute")
NOW = 100.0
FREQ = 300.0
TTL = 600.0


@pytest.fixture
def registry() -> Registry:
    return Registry("control1", FREQ, TTL)


def row(host: str | bytes, left: float = TTL, *topics: str, value: bytes | None = None) -> list[Any]:
    """One host as the script answers it."""
    name = host.encode() if isinstance(host, str) else host
    return [name, str(int(left * 1000)).encode(), value if value is not None else encode_value([parse_topic(topic) for topic in topics]).encode()]


# --- values --------------------------------------------------------------------------------------------------------------------------------

ADDRESSES = [
    COMPUTE,
    Address("compute", fanout=True),
    Address("compute", server="c1.example.com"),
    Address("q-agent", exchange="neutron"),
    Address("compute", namespace="cell1"),
    Address("compute", namespace="cell1", exchange="nova", server="host@lvm"),
]


def test_what_is_written_is_what_is_read() -> None:
    assert decode_value(encode_value(ADDRESSES).encode()) == set(ADDRESSES)
    assert decode_value(encode_value([]).encode()) == frozenset()


def test_equal_addresses_have_equal_values() -> None:
    assert encode_value(ADDRESSES) == encode_value(ADDRESSES[::-1])


def test_what_is_written() -> None:
    assert json.loads(encode_value([COMPUTE, ADDRESSES[5]])) == {"format": 1, "consumes": ["//compute", "cell1/nova/compute.host@lvm"]}


def test_the_way_of_answers_is_not_registered() -> None:
    assert registrable([COMPUTE, Address("zmq_replies", server="0" * 16)]) == {COMPUTE}
    assert decode_value(b'{"format":1,"consumes":["//zmq_replies.host1","//compute"]}') == {COMPUTE}


def test_too_many_addresses_are_refused() -> None:
    many = [Address(f"t{number}") for number in range(MAX_ADDRESSES + 1)]
    assert decode_value(encode_value(many[1:]).encode()) == set(many[1:])
    with pytest.raises(RegistryError, match=f"consume {MAX_ADDRESSES + 1} topics"):
        encode_value(many)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, "no value, or it is longer"),
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no JSON object of format 1"),
        (b'{"consumes":[]}', "no JSON object of format 1"),
        (b'{"format":2,"consumes":[]}', "no JSON object of format 1"),
        (b'{"format":1}', "'consumes' is no list"),
        (b'{"format":1,"consumes":"//compute"}', "'consumes' is no list"),
        (b'{"format":1,"consumes":[7]}', "is not namespace/exchange/topic"),
        (b'{"format":1,"consumes":["compute"]}', "is not namespace/exchange/topic"),
        (b'{"format":1,"consumes":["//"]}', "topic is empty"),
        (b'{"format":1,"consumes":["//a/b"]}', "contains '/'"),
        (b'{"format":1,"consumes":["//a..b"]}', "contains '..'"),
        (b'{"format":1,"consumes":["/../compute"]}', "'..'"),
        (b'{"format":1,"consumes":["\\u0000//compute"]}', "not allowed"),
    ],
)
def test_what_is_no_value_is_refused(value: bytes | None, fault: str) -> None:
    with pytest.raises(RegistryError) as caught:
        decode_value(value)
    assert fault in str(caught.value)
    assert str(caught.value).isprintable()


@given(
    st.binary(max_size=300) | st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_any_value_is_read_or_refused(value: Any) -> None:
    raw = value if isinstance(value, bytes) else json.dumps({"format": 1, "consumes": value}).encode()
    try:
        addresses = decode_value(raw)
    except RegistryError:
        return
    for address in addresses:
        assert address.checked() == address


# --- answers -------------------------------------------------------------------------------------------------------------------------------


def test_hosts_are_taken_in_but_this_one(registry: Registry) -> None:
    assert not registry.take_all([row("compute1", TTL, "compute")], NOW)
    assert registry.take_all([row("compute1", TTL, "compute"), row("control1", TTL, "volume")], NOW)
    assert registry.consumed == {"compute1": frozenset({COMPUTE}), "control1": frozenset()}


def test_what_this_host_consumed_before_is_known_from_the_first_answer(registry: Registry) -> None:
    assert registry.before is None
    registry.take_all([row("control1", TTL, "compute")], NOW)
    registry.take_all([row("control1", TTL, "volume")], NOW)
    registry.take_some(["control1"], [row("control1", TTL, "volume")], NOW)
    assert registry.before == {COMPUTE}
    assert registry.consumed == {"control1": frozenset({COMPUTE})}


def test_hosts_that_are_not_there_any_more_are_forgotten(registry: Registry) -> None:
    registry.take_all([row("a"), row("b")], NOW)
    registry.take_all([row("b")], NOW + 1)
    assert set(registry.others) == {"b"}


def test_a_change_concerns_its_host_alone(registry: Registry) -> None:
    registry.take_all([row("a", TTL, "compute"), row("b", TTL, "compute")], NOW)
    registry.take_some(["b", "c", "d"], [row("b", TTL, "volume"), row("c", TTL, "compute")], NOW)
    assert {host: {str(address) for address in addresses} for host, addresses in registry.consumed.items()} == {
        "control1": set(),
        "a": {"compute"},
        "b": {"volume"},
        "c": {"compute"},
    }
    registry.take_some(["b"], [], NOW)
    assert set(registry.others) == {"a", "c"}


def test_after_a_loss_the_hosts_have_time_to_register_again(registry: Registry) -> None:
    registry.take_all([row("a"), row("b"), row("c")], NOW)
    registry.data_lost(NOW + 1000)
    registry.take_all([row("b")], NOW + 1000)
    assert set(registry.others) == {"a", "b", "c"}
    assert registry.next_reading() <= NOW + 1000 + TTL
    registry.take_some(["c"], [], NOW + 1001)
    assert set(registry.others) == {"a", "b"}, "what is heard of a host is believed"
    registry.take_all([], NOW + 1002)
    assert set(registry.others) == {"a"}, "a host that had registered again is believed to have left"
    registry.take_all([], NOW + 1000 + TTL)
    assert registry.others == {}


def test_everything_is_read_again_when_a_host_would_die(registry: Registry) -> None:
    registry.take_all([], NOW)
    assert registry.next_reading() == NOW + FREQ
    registry.take_all([row("a", 700), row("b", 20)], NOW)
    assert registry.next_reading() == pytest.approx(NOW + 20 + EXPIRY_MARGIN)
    registry.take_all([row("a", 700), row("b", 0.001)], NOW)
    assert registry.next_reading() == NOW + SHORTEST_PAUSE


def test_it_is_read_at_once_at_the_beginning(registry: Registry) -> None:
    assert registry.next_reading() == float("-inf")


@pytest.mark.parametrize("left", ["inf", "nan", "1e300", "-1", "0", str(8 * 86400 * 1000)])
def test_a_registration_that_would_outlive_its_host_is_ignored(left: str, registry: Registry) -> None:
    registry.take_all([[b"a", left.encode(), encode_value([COMPUTE]).encode()]], NOW)
    assert registry.others == {}
    assert "field 'a': its time to live in key expiry is" in registry.problem


def test_bad_hosts_are_named_and_counted_until_they_are_gone(registry: Registry) -> None:
    registry.take_all([row("good"), row("../x"), row("z", value=b"{"), row(b"\xff\x1b[31m")], NOW)
    assert set(registry.others) == {"good"}
    assert registry.problem.startswith("Redis key hosts, field '../x', and 2 more: host '../x' ")
    assert registry.problem.isprintable()
    registry.take_some(["../x", "z"], [row("z")], NOW)
    assert set(registry.others) == {"good", "z"}
    assert "and " not in registry.problem.split(":")[0]
    registry.take_all([row("good")], NOW)
    assert registry.problem == ""


def test_a_known_host_that_goes_bad_is_forgotten(registry: Registry) -> None:
    registry.take_all([row("a", TTL, "compute")], NOW)
    registry.data_lost(NOW)
    registry.take_all([row("a", value=b"{")], NOW)
    assert registry.others == {}


@pytest.mark.parametrize("answer", [None, b"x", 7, {}, [1], [[]], [[b"a", b"1"]], [[b"a", b"x", b"{}"]], [["a", b"1", b"{}"]], [[b"a", None, None]]])
def test_what_is_no_answer_is_refused_and_changes_nothing(answer: object, registry: Registry) -> None:
    registry.take_all([row("a", TTL, "compute")], NOW)
    with pytest.raises(RegistryError, match="Redis answered with"):
        registry.take_all(answer, NOW)
    assert set(registry.others) == {"a"}


@given(st.lists(st.tuples(st.binary(max_size=20), st.floats().map(lambda left: str(left).encode()), st.none() | st.binary(max_size=50))))
def test_no_answer_does_any_harm(rows: list[tuple[bytes, bytes, bytes | None]]) -> None:
    registry = Registry("control1", FREQ, TTL)
    registry.take_all([list(each) for each in rows], NOW)
    registry.take_some(["a"], [list(each) for each in rows], NOW)
    assert registry.problem.isprintable()
    assert registry.next_reading() >= NOW + SHORTEST_PAUSE
