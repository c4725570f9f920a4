# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What is remembered of sending processes, and when it is forgotten."""

from __future__ import annotations

import pytest
from brokerless.rpc.envelope import MessageId
from brokerless.rpc.receiver import origins
from brokerless.rpc.receiver.origins import Origins

A, B = "a" * 16, "b" * 16


def test_where_a_message_went_is_remembered_until_it_is_settled() -> None:
    sent = Origins()
    for number, host in ((1, "c1"), (2, "c2"), (3, "")):
        sent.went(MessageId(A, number), host, until=60.0)
    sent.settle(A, 2)
    assert [sent.host_of(MessageId(A, number)) for number in (1, 2, 3)] == [None, "c2", ""]
    assert sent.host_of(MessageId(B, 2)) is None
    sent.never_went(MessageId(A, 2))
    sent.never_went(MessageId(B, 2))
    assert sent.host_of(MessageId(A, 2)) is None


def test_the_last_message_decides_when_a_process_that_sends_no_more_is_forgotten() -> None:
    sent = Origins()
    sent.went(MessageId(A, 1), "c1", until=10.0)
    sent.went(MessageId(A, 2), "c2", until=30.0)
    sent.forget(29.0)
    assert sent.host_of(MessageId(A, 1)) == "c1"
    sent.forget(31.0)
    assert sent.host_of(MessageId(A, 2)) is None
    sent.went(MessageId(A, 3), "c3", until=90.0)
    sent.forget(60.0)
    assert sent.host_of(MessageId(A, 3)) == "c3"


def test_what_is_settled_never_goes_back() -> None:
    sent = Origins()
    sent.settle(A, 7)
    sent.settle(A, 3)
    assert (sent.settled(A), sent.settled(B)) == (7, 0)


def test_beyond_a_number_of_processes_only_those_that_are_asked_for_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins, "MAX_ORIGINS", 2)
    sent = Origins()
    for origin in (A, B, "c" * 16):
        assert not sent.too_many
        sent.settle(origin, 5)
    assert sent.too_many
    sent.keep([B])
    assert not sent.too_many
    assert (sent.settled(A), sent.settled(B)) == (0, 5)
