# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from brokerless.rpc.envelope import Envelope, MessageId, Pattern
from brokerless.rpc.topics import Address

ORIGIN = "0123456789abcdef"


def test_a_message_id_is_shown_as_origin_and_number() -> None:
    assert str(MessageId(ORIGIN, 7)) == "0123456789abcdef/7"


def test_message_ids_of_one_sender_sort_by_number() -> None:
    assert sorted([MessageId(ORIGIN, 10), MessageId(ORIGIN, 9)]) == [MessageId(ORIGIN, 9), MessageId(ORIGIN, 10)]


@pytest.mark.parametrize(
    ("pattern", "address", "text"),
    [
        (Pattern.CALL, Address("compute"), "call 0123456789abcdef/7 for compute"),
        (Pattern.CAST, Address("compute", fanout=True), "cast 0123456789abcdef/7 for fanout~compute"),
        (Pattern.REPLY, Address("zmq_replies", server="control1"), "reply 0123456789abcdef/7 for zmq_replies.control1"),
        (Pattern.NOTIFICATION, Address("notifications.info"), "notification 0123456789abcdef/7 for notifications.info"),
    ],
)
def test_an_envelope_is_shown_as_what_it_is_and_where_it_goes(pattern: Pattern, address: Address, text: str) -> None:
    assert str(Envelope(MessageId(ORIGIN, 7), pattern, address, "control1", 30.0)) == text


def test_a_new_envelope_is_unrouted_and_waits_for_nothing() -> None:
    envelope = Envelope(MessageId(ORIGIN, 7), Pattern.CAST, Address("compute"), "control1", 30.0)
    assert (envelope.host, envelope.settled, envelope.after, envelope.answers, envelope.hops, envelope.attempt) == ("", 0, 0, None, 0, 0)


def test_the_numbers_of_the_patterns_are_those_on_the_wire() -> None:
    assert {pattern.name: pattern.value for pattern in Pattern} == {"CAST": 1, "CALL": 2, "REPLY": 3, "NOTIFICATION": 4}
