# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Three replicas at a real RabbitMQ: one writes, whatever becomes of it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import kombu
import pytest
from brokerless.ha.leader.rabbit import RabbitLeaderSettings, RabbitLeadership
from rabbitmq_server import RabbitmqServer
from receiver_process import wait_until
from replica_process import Replica, overlaps, writes_in
from worker_process import Worker

LEASE = 3.0


@pytest.fixture
def writes(tmp_path: Path) -> Path:
    return tmp_path / "writes"


@pytest.fixture
def replicas(broker: RabbitmqServer, writes: Path) -> Iterator[dict[str, Worker]]:
    with contextlib.ExitStack() as stack:
        names = ("first", "second", "third")
        yield {name: stack.enter_context(Worker(Replica, name, "rabbit", broker.url, LEASE, str(writes))) for name in names}


def the_writer(replicas: dict[str, Worker]) -> str:
    """Wait until one replica writes, and return its name."""
    found: list[str] = []

    def one_writes() -> bool:
        found[:] = [name for name, worker in replicas.items() if worker.ask("writes")]
        return len(found) == 1

    wait_until(one_writes, "one replica writes")
    return found[0]


def test_one_writes_and_the_next_when_it_resigns_is_killed_or_frozen(replicas: dict[str, Worker], writes: Path) -> None:
    leader = the_writer(replicas)
    resigned = replicas.pop(leader)
    resigned.ask("close")
    assert not resigned.ask("leads")
    assert resigned.ask("lost").endswith("this daemon is stopped")

    frozen = the_writer(replicas)
    os.kill(replicas[frozen].pid, signal.SIGSTOP)
    try:
        others = {name: worker for name, worker in replicas.items() if name != frozen}
        (next_one,) = others
        assert the_writer(others) == next_one
    finally:
        os.kill(replicas[frozen].pid, signal.SIGCONT)
    wait_until(lambda: replicas[frozen].ask("woken"), "the frozen one is awake")
    assert not any(replicas[frozen].ask("woken"))
    wait_until(lambda: replicas[frozen].ask("lost"), "the frozen one knows")

    os.kill(replicas.pop(next_one).pid, signal.SIGKILL)
    assert the_writer(replicas) == frozen
    found = writes_in(writes)
    assert overlaps(found) == []
    assert len({write.term for write in found}) >= 4


def test_replicas_that_differ_have_no_leader(broker: RabbitmqServer, caplog: pytest.LogCaptureFixture) -> None:
    """A queue that is not as it must be is never used as it is."""
    with kombu.Connection(broker.url) as connection:
        connection.default_channel.queue_declare("someone-else", durable=True, auto_delete=False)
        leadership = RabbitLeadership(RabbitLeaderSettings((broker.url,), queue="someone-else", lease=LEASE))
        leadership.start()
        try:
            wait_until(lambda: "queue someone-else is not as this replica wants it" in caplog.text, "it is said")
            assert leadership.term is None
        finally:
            leadership.close()
        connection.default_channel.queue_delete("someone-else")


def test_a_deleted_queue_ends_a_term_and_the_next_is_higher(broker: RabbitmqServer) -> None:
    leadership = RabbitLeadership(RabbitLeaderSettings((broker.url,), queue="to-be-deleted", lease=LEASE))
    leadership.start()
    try:
        wait_until(lambda: leadership.term, "it leads")
        first = leadership.term
        assert first is not None
        with kombu.Connection(broker.url) as connection:
            connection.default_channel.queue_delete("to-be-deleted")
        wait_until(lambda: leadership.term not in {None, first}, "it leads anew")
        assert (leadership.term or 0) > first
    finally:
        leadership.close()
    assert leadership.lost.endswith("this daemon is stopped")
