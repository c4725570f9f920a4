# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
import time
from collections import Counter

from brokerless.rpc.driver.backlog import Backlog
from brokerless.rpc.topics import Address

COMPUTE = Address("compute")
NETWORK = Address("network")
PATIENCE = 30.0
"""Seconds after which a wait that should have ended has failed."""


def soon() -> float:
    return time.monotonic() + PATIENCE


def test_there_is_room_up_to_the_limit() -> None:
    backlog = Backlog(2)
    assert backlog.enter(COMPUTE, 0.0)
    assert backlog.enter(COMPUTE, 0.0)
    assert not backlog.enter(COMPUTE, 0.0)


def test_all_topics_together_have_a_limit() -> None:
    backlog = Backlog(2, 3)
    assert [backlog.enter(Address(topic), 0.0) for topic in ("a", "b", "c", "d")] == [True, True, True, False]
    backlog.leave(Address("b"))
    assert backlog.enter(Address("d"), 0.0)


def test_a_full_topic_delays_no_other() -> None:
    backlog = Backlog(1)
    assert backlog.enter(COMPUTE, 0.0)
    assert backlog.enter(NETWORK, 0.0)
    assert backlog.enter(COMPUTE.directed("compute1"), 0.0)


def test_one_that_was_refused_is_not_counted() -> None:
    backlog = Backlog(1)
    backlog.enter(COMPUTE, 0.0)
    backlog.enter(COMPUTE, 0.0)
    assert backlog.wait_until_empty(0.0) == 1
    backlog.leave(COMPUTE)
    assert backlog.wait_until_empty(0.0) == 0
    assert backlog.enter(COMPUTE, 0.0)


def test_a_sender_that_waits_goes_on_when_there_is_room() -> None:
    backlog = Backlog(1)
    backlog.enter(COMPUTE, 0.0)
    entered: list[bool] = []
    sender = threading.Thread(target=lambda: entered.append(backlog.enter(COMPUTE, soon())))
    sender.start()
    backlog.leave(COMPUTE)
    sender.join(PATIENCE)
    assert entered == [True]
    assert backlog.wait_until_empty(0.0) == 1


def test_waiting_until_empty_ends_with_the_last_message() -> None:
    backlog = Backlog(5)
    backlog.enter(COMPUTE, 0.0)
    backlog.enter(NETWORK, 0.0)
    left: list[int] = []
    waiter = threading.Thread(target=lambda: left.append(backlog.wait_until_empty(soon())))
    waiter.start()
    backlog.leave(COMPUTE)
    backlog.leave(NETWORK)
    waiter.join(PATIENCE)
    assert left == [0]


def test_the_limit_holds_for_many_threads() -> None:
    backlog = Backlog(3)
    inside: Counter[Address] = Counter()
    most: Counter[Address] = Counter()
    refused: list[Address] = []
    lock = threading.Lock()

    def send(address: Address) -> None:
        for _turn in range(50):
            if not backlog.enter(address, soon()):
                refused.append(address)
                return
            with lock:
                inside[address] += 1
                most[address] = max(most[address], inside[address])
            with lock:
                inside[address] -= 1
            backlog.leave(address)

    threads = [threading.Thread(target=send, args=(address,)) for address in (COMPUTE, NETWORK) for _turn in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not refused
    assert all(1 <= most[address] <= 3 for address in (COMPUTE, NETWORK))
    assert backlog.wait_until_empty(0.0) == 0
