# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""When a broker is asked for a host, and when again."""

from __future__ import annotations

import pytest
from brokerless.rpc.envelope import Envelope, MessageId, Pattern
from brokerless.rpc.protocol import Parcel, Seek
from brokerless.rpc.receiver.outgoing import Outgoing
from brokerless.rpc.receiver.seeking import SEEK_PAUSE, Seeking
from brokerless.rpc.topics import parse_topic

COMPUTE = parse_topic("compute")


def outgoing(number: int) -> Outgoing:
    envelope = Envelope(MessageId("a" * 16, number), Pattern.CAST, COMPUTE, "control1", 30.0)
    return Outgoing(Parcel(envelope, b""), ("client", b"key"), deadline=30.0)


class Bench:
    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.seeking = Seeking(self._ask)

    def _ask(self, broker: str, seek: Seek) -> None:
        assert seek.address == COMPUTE
        self.asked.append((broker, seek.message.number))

    def questions(self) -> list[tuple[str, int]]:
        asked, self.asked = self.asked, []
        return asked


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_broker_that_is_not_up_is_asked_when_it_is(bench: Bench) -> None:
    bench.seeking.begin(outgoing(1), "control2", 0.0, is_up=False)
    assert bench.questions() == []
    bench.seeking.broker_up("control3")
    assert bench.questions() == []
    bench.seeking.broker_up("control2")
    assert bench.questions() == [("control2", 1)]


def test_a_broker_that_knows_no_host_is_asked_again_after_a_pause(bench: Bench) -> None:
    first, second = outgoing(1), outgoing(2)
    bench.seeking.begin(first, "control2", 0.0, is_up=True)
    assert bench.questions() == [("control2", 1)]
    assert bench.seeking.found_none(first, 0.0)
    bench.seeking.begin(second, "control2", SEEK_PAUSE / 2, is_up=True)
    bench.seeking.tick(SEEK_PAUSE / 2)
    assert bench.questions() == []
    bench.seeking.tick(SEEK_PAUSE)
    assert bench.questions() == [("control2", 1), ("control2", 2)]


def test_one_host_found_ends_the_pause(bench: Bench) -> None:
    first, second = outgoing(1), outgoing(2)
    bench.seeking.begin(first, "control2", 0.0, is_up=True)
    bench.seeking.begin(second, "control2", 0.0, is_up=True)
    bench.seeking.found_none(first, 0.0)
    assert bench.seeking.end(second)
    bench.questions()
    bench.seeking.found_one(COMPUTE)
    assert bench.questions() == [("control2", 1)]
    bench.seeking.found_one(COMPUTE)
    assert bench.questions() == []


def test_what_was_not_asked_is_not_answered(bench: Bench) -> None:
    message = outgoing(1)
    assert not bench.seeking.end(message)
    assert not bench.seeking.found_none(message, 0.0)
    bench.seeking.begin(message, "control2", 0.0, is_up=True)
    assert not bench.seeking.found_none(outgoing(2), 0.0)
    assert bench.seeking.end(message)
    assert not bench.seeking.end(message)
    assert bench.seeking.without("control2") == []


def test_messages_of_a_broker_that_is_gone_are_handed_out(bench: Bench) -> None:
    message = outgoing(1)
    bench.seeking.begin(message, "control2", 0.0, is_up=True)
    assert bench.seeking.without("control3") == []
    assert bench.seeking.without("control2") == [message]
    bench.questions()
    bench.seeking.tick(SEEK_PAUSE)
    assert bench.questions() == []
