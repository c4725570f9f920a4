# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from brokerless.rpc.envelope import Envelope, MessageId, Pattern
from brokerless.rpc.receiver.notifications import NotificationStore
from brokerless.rpc.topics import Address

OURS, SENDER = "1" * 16, "a" * 16


def notification(number: int, settled: int = 0) -> Envelope:
    return Envelope(MessageId(SENDER, number), Pattern.NOTIFICATION, Address("info"), "control1", 30.0, settled=settled, after=number - 1)


def test_what_is_kept_is_the_stores_own_and_remembered_as_adopted() -> None:
    store = NotificationStore(OURS, 2)
    kept = store.adopt(notification(7, settled=5), 100.0)
    assert (kept.id, kept.settled, kept.after) == (MessageId(OURS, 1), 0, 0)
    assert kept.id in store
    assert MessageId(SENDER, 7) not in store
    assert store.was_adopted(MessageId(SENDER, 7))
    assert not store.was_adopted(MessageId(SENDER, 8))
    store.forget(101.0)
    assert not store.was_adopted(MessageId(SENDER, 7))


def test_the_oldest_is_one_too_many() -> None:
    store = NotificationStore(OURS, 2)
    for number in (1, 2):
        store.adopt(notification(number), 100.0)
    assert store.one_too_many() is None
    store.adopt(notification(3), 100.0)
    assert store.one_too_many() == MessageId(OURS, 1)
    store.end(MessageId(OURS, 1))
    assert len(store) == 2


def test_what_has_ended_is_known_by_its_number() -> None:
    store = NotificationStore(OURS, 9)
    assert store.settled() == 1
    for number in (1, 2, 3):
        store.adopt(notification(number), 100.0)
    store.end(MessageId(OURS, 2))
    assert store.settled() == 1
    store.end(MessageId(OURS, 1))
    assert store.settled() == 3
    store.end(MessageId(OURS, 3))
    assert store.settled() == 4
