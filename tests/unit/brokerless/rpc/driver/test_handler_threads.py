# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import functools
import queue
import threading

from brokerless.rpc.driver.handler_threads import HandlerThreads

PATIENCE = 30.0
"""Seconds after which a wait that should have ended has failed."""


def test_all_work_is_done_by_no_more_threads_than_allowed() -> None:
    threads = HandlerThreads(3, "test")
    done: list[str] = []
    for _turn in range(1000):
        threads.submit(lambda: done.append(threading.current_thread().name))
    threads.finish()
    assert len(done) == 1000
    assert set(done) <= {"test_0", "test_1", "test_2"}


def test_work_that_waits_leaves_the_other_threads_to_other_work() -> None:
    threads = HandlerThreads(3, "test")
    go_on, others_done = threading.Event(), threading.Semaphore(0)
    waited: list[bool] = []
    for _turn in range(2):
        threads.submit(lambda: waited.append(go_on.wait(PATIENCE)))
    for _turn in range(100):
        threads.submit(others_done.release)
        assert others_done.acquire(timeout=PATIENCE)
    go_on.set()
    threads.finish()
    assert waited == [True, True]


def pass_together(barrier: threading.Barrier) -> None:
    barrier.wait(PATIENCE)


def test_each_of_those_that_wait_has_a_thread_up_to_the_limit() -> None:
    """Also after threads have been free in between."""
    threads = HandlerThreads(8, "test")
    for width in (2, 5, 8):
        together = threading.Barrier(width + 1)
        for _turn in range(width):
            threads.submit(functools.partial(pass_together, together))
        together.wait(PATIENCE)
    threads.finish()


def test_without_work_there_are_no_threads() -> None:
    before = threading.active_count()
    threads = HandlerThreads(3, "test")
    assert threading.active_count() == before
    threads.finish()


def test_a_thread_that_is_free_is_used_again() -> None:
    threads = HandlerThreads(100, "test")
    names: queue.SimpleQueue[str] = queue.SimpleQueue()
    seen = set()
    for _turn in range(50):
        threads.submit(lambda: names.put(threading.current_thread().name))
        seen.add(names.get(timeout=PATIENCE))
    threads.finish()
    assert len(seen) < 50
