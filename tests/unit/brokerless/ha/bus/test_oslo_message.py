# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Messages of oslo.messaging: Neutron's own, foreign ones, and hostile ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from brokerless.ha.bus.base import HeardReport, Overheard
from brokerless.ha.bus.oslo_message import MAX_BODY_BYTES, NotOsloMessage, decode_oslo_message, heard, may_be_report
from hypothesis import given
from hypothesis import strategies as st

STATE = {"host": "net2", "agent_type": "L3 agent", "binary": "neutron-l3-agent", "configurations": {"routers": 3}, "start_flag": True}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def report(state: Any = ..., **more: Any) -> dict[str, Any]:
    """What an agent sends, as Neutron 29 does."""
    return {
        "method": "report_state",
        "args": {"agent_state": {"agent_state": STATE if state is ... else state}, "time": "2026-11-21T09:33:30.604418"},
        "version": "1.4",
        "_msg_id": "e8bd68",
        "_reply_q": "reply_ca1c",
        "_unique_id": "94c5",
        "_context_auth_token": "a secret",
        **more,
    }


def body_of(inner: Any, version: Any = "2.0") -> bytes:
    return json.dumps({"oslo.version": version, "oslo.message": json.dumps(inner)}).encode()


def event_of(body: bytes) -> Overheard:
    return heard(7.5, "neutron", "q-reports-plugin", decode_oslo_message(body))


def test_a_report_is_a_heartbeat() -> None:
    body = body_of(report())
    assert may_be_report(body)
    event = event_of(body)
    assert isinstance(event, HeardReport)
    assert (event.host, event.agent_type, event.binary) == ("net2", "L3 agent", "neutron-l3-agent")
    assert (event.heard_at, event.exchange, event.routing_key, event.method) == (7.5, "neutron", "q-reports-plugin", "report_state")
    assert event.agent_state == STATE
    assert event.told_at == "2026-11-21T09:33:30.604418"


def test_the_callers_context_is_left_out() -> None:
    assert "secret" not in repr(event_of(body_of(report())))
    assert sorted(event_of(body_of(report())).message) == ["args", "method", "version"]


def test_a_notification_is_overheard() -> None:
    event = event_of(body_of({"event_type": "router.create.end", "payload": {"router": {}}, "_context_auth_token": "a secret"}))
    assert event.__class__ is Overheard
    assert event.method == "router.create.end"
    assert event.message == {"event_type": "router.create.end", "payload": {"router": {}}}


@pytest.mark.parametrize(
    "state",
    [
        None,
        [],
        {},
        {"host": "net1"},
        {"agent_type": "L3 agent"},
        {"host": "", "agent_type": "L3 agent"},
        {"host": "net1", "agent_type": 3},
        {"host": "net1\nnet2", "agent_type": "L3 agent"},
        {"host": "n" * 256, "agent_type": "L3 agent"},
    ],
)
def test_a_report_that_does_not_say_whose_it_is_is_no_heartbeat(state: Any) -> None:
    assert event_of(body_of(report(state))).__class__ is Overheard


@pytest.mark.parametrize("args", [None, [], "x", {}, {"agent_state": None}, {"agent_state": []}, {"agent_state": {"agent_state": "x"}}])
def test_a_report_of_another_shape_is_no_heartbeat(args: Any) -> None:
    assert event_of(body_of(report(args=args))).__class__ is Overheard


def test_what_is_not_needed_may_be_missing() -> None:
    event = event_of(
        body_of(report({"host": "net1", "agent_type": "DHCP agent"}, args={"agent_state": {"agent_state": {"host": "h", "agent_type": "t"}}}))
    )
    assert isinstance(event, HeardReport)
    assert (event.host, event.binary, event.told_at) == ("h", "", "")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b"[]", "the body is of type list, not an object"),
        (b"null", "the body is None, not an object"),
        (b"{}", "oslo.version is None, not 2.0"),
        (body_of(report(), "3.0"), "oslo.version is '3.0', not 2.0"),
        (body_of(report(), 2), "oslo.version is of type int, not 2.0"),
        (b'{"oslo.version": "2.0"}', "oslo.message is None, not text"),
        (b'{"oslo.version": "2.0", "oslo.message": {"method": "report_state"}}', "oslo.message is of type dict, not text"),
        (body_of([1]), "oslo.message is of type list, not an object"),
        (b"[" * 200_000, "the body is nested too deeply"),
        (b" " * (MAX_BODY_BYTES + 1), f"a body of {MAX_BODY_BYTES + 1} bytes"),
    ],
)
def test_what_is_no_message_is_named(body: bytes, why: str) -> None:
    with pytest.raises(NotOsloMessage) as raised:
        decode_oslo_message(body)
    assert str(raised.value).startswith(why)


@given(st.binary(max_size=300) | JSON_VALUES.map(lambda value: json.dumps(value).encode()) | JSON_VALUES.map(body_of))
def test_any_bytes_are_an_event_or_no_message(body: bytes) -> None:
    try:
        event = event_of(body)
    except NotOsloMessage as error:
        assert "\n" not in str(error)
    else:
        assert not isinstance(event, HeardReport)


@given(JSON_VALUES, JSON_VALUES, JSON_VALUES, st.sampled_from(["host", "agent_type", "binary", "configurations"]))
def test_any_report_is_a_heartbeat_with_checked_names_or_none(args: Any, value: Any, time: Any, key: str) -> None:
    for message in (
        report(args=args),
        report(value),
        report({**STATE, key: value}),
        report(args={"agent_state": {"agent_state": STATE}, "time": time}),
    ):
        event = event_of(body_of(message))
        if isinstance(event, HeardReport):
            assert event.host.isprintable()
            assert event.agent_type.isprintable()
            assert 0 < len(event.host) <= 255
            assert isinstance(event.told_at, str)
