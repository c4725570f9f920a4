# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import json
import uuid
from types import MappingProxyType

import pytest
from brokerless.rpc.errors import Unserialisable
from brokerless.rpc.json_values import MAX_DEPTH, MAX_INTEGER_BITS, cut, plain, plain_or_text
from hypothesis import given, settings
from hypothesis import strategies as st

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


class Power(enum.StrEnum):
    ON = "on"


class Level(enum.IntEnum):
    HIGH = 3


class Instance:
    def __repr__(self) -> str:
        return "<instance 1>"


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError


@settings(deadline=None, max_examples=60)
@given(values)
def test_what_json_has_stays_as_it_is(value: object) -> None:
    assert json.loads(json.dumps(plain(value, "args"))) == value


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        ((1, (2,)), [1, [2]]),
        ({"b", "a"}, ["a", "b"]),
        (frozenset({3, 1}), [1, 3]),
        ({None}, [None]),
        (MappingProxyType({"a": ()}), {"a": []}),
        (dt.datetime(2026, 11, 21, 9, 30, tzinfo=dt.UTC), "2026-11-21T09:30:00+00:00"),
        (dt.date(2026, 11, 21), "2026-11-21"),
        (dt.time(9, 30), "09:30:00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (ipaddress.ip_address("::1"), "::1"),
        (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
        (Power.ON, "on"),
        ({Power.ON: Level.HIGH}, {"on": 3}),
        (2**MAX_INTEGER_BITS - 1, 2**MAX_INTEGER_BITS - 1),
    ],
)
def test_what_has_an_obvious_form_is_converted(value: object, arrives: object) -> None:
    converted = plain(value, "args")
    assert converted == arrives
    assert json.loads(json.dumps(converted)) == arrives


def test_subclasses_arrive_as_the_plain_type() -> None:
    assert plain(Power.ON, "args").__class__ is str
    assert plain(Level.HIGH, "args").__class__ is int
    assert [type(key) for key in plain({Power.ON: 1}, "args")] == [str]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"image": {"owner": [1, Instance()]}}, r"args\['image'\]\['owner'\]\[1\] is of type .*Instance, which JSON can't carry"),
        ({"key": b"data"}, r"args\['key'\] is of type bytes"),
        ({"key": {1: 2}}, r"args\['key'\] has the key 1, of type int; keys must be strings"),
        ({"load": float("nan")}, r"args\['load'\] is nan"),
        ([float("-inf")], r"args\[0\] is -inf"),
        ({"tags": {"a", b"b"}}, r"a member of args\['tags'\] is of type bytes"),
        ({"who": object}, r"args\['who'\] is of type type"),
        ({"gen": (number for number in "ab")}, r"args\['gen'\] is of type generator"),
        ({"big": 2**MAX_INTEGER_BITS}, r"args\['big'\] is an integer of 4097 bits; at most 4096"),
        ({"k" * 300: b""}, r"args\['k{56}\.\.\.\] is of type bytes"),
    ],
)
def test_what_json_cannot_carry_is_named_by_its_path(value: object, message: str) -> None:
    with pytest.raises(Unserialisable, match=message):
        plain(value, "args")
    with pytest.raises(TypeError):
        plain(value, "args")


def test_a_container_in_itself_is_refused_and_one_that_is_used_twice_is_not() -> None:
    shared = [1]
    assert plain([shared, shared], "args") == [[1], [1]]
    shared.append(shared)  # type: ignore[arg-type]
    with pytest.raises(Unserialisable, match=r"args\[1\] contains itself"):
        plain(shared, "args")


def test_nesting_is_bounded() -> None:
    def nested(levels: int) -> object:
        value: object = 1
        for _level in range(levels):
            value = [value]
        return value

    assert plain(nested(MAX_DEPTH), "args") == nested(MAX_DEPTH)
    with pytest.raises(Unserialisable, match=f"deeper than {MAX_DEPTH} levels"):
        plain(nested(MAX_DEPTH + 1), "args")


def test_plain_or_text_tells_in_part_what_cannot_be_sent() -> None:
    assert plain_or_text([1, "two", [3], Instance(), {"a": Instance()}], 100) == [1, "two", [3], "<instance 1>", "{'a': <instance 1>}"]
    assert plain_or_text([Unprintable()], 100) == ["<Unprintable whose repr fails>"]


@settings(deadline=None, max_examples=60)
@given(st.lists(values), st.integers(min_value=2, max_value=200))
def test_plain_or_text_bounds_each_value(members: list[object], limit: int) -> None:
    for member in plain_or_text(members, limit):
        assert not isinstance(member, str) or len(member) <= limit + 60


def test_cut_keeps_both_ends() -> None:
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 4) == "ab\n… 3 characters left out …\nfg"
