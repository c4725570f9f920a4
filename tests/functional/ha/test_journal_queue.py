# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The journal in a real RabbitMQ's queue, which the leaders of one term after the other share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest
from brokerless.ha.journal import HostWish, JournalError, OpenMove, QueueJournal
from rabbitmq_server import RabbitmqServer
from receiver_process import wait_until

MOVE = OpenMove("r1", "agent-1", "net1", "agent-2", "net2", "removing", "ctl1/7", 1_700_000_000.0)
WISH = HostWish("net3", "draining", 1_700_000_000.0)

HOLDER = """
import sys, time
from brokerless.ha.journal import QueueJournal, OpenMove
journal = QueueJournal([sys.argv[1]], sys.argv[2])
journal.put(OpenMove("r1", "agent-1", "net1", "agent-2", "net2", "adding", "ctl1/7", 1.0))
print("held", flush=True)
while True:
    journal.keep()
    time.sleep(0.5)
"""


@pytest.fixture
def queue() -> str:
    return f"journal-{uuid.uuid4().hex}"


@pytest.fixture
def holder(broker: RabbitmqServer, queue: str) -> Iterator[subprocess.Popen[str]]:
    """A leader in a process of its own, which has an open move."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, broker.url, queue], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close() if process.stdout else None


def test_what_was_begun_and_not_ended_is_the_next_leaders(broker: RabbitmqServer, queue: str) -> None:
    first = QueueJournal([broker.url], queue)
    first.put(MOVE)
    first.put(WISH)
    first.put(OpenMove("r2", "agent-1", "net1", "agent-3", "net3", "removing", "ctl1/7", 1.0))
    first.end("move:r2")
    first.put(MOVE.at_stage("adding", "agent-3", "net3"))
    first.close()
    second = QueueJournal([broker.url], queue)
    assert sorted(entry.key for entry in second.entries()) == ["host:net3", "move:r1"]
    assert MOVE.at_stage("adding", "agent-3", "net3") in second.entries()
    second.end("move:r1")
    second.end("host:net3")
    second.close()
    third = QueueJournal([broker.url], queue)
    assert third.entries() == []
    third.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_what_a_leader_held_that_died_or_stands_still_is_taken_over(
    broker: RabbitmqServer, queue: str, holder: subprocess.Popen[str], number: signal.Signals
) -> None:
    journal = QueueJournal([broker.url], queue)
    assert journal.entries() == []
    os.kill(holder.pid, number)

    def taken_over() -> bool:
        journal.keep()
        return [entry.key for entry in journal.entries()] == ["move:r1"]

    wait_until(taken_over, "the entry is there", 60.0)
    journal.close()


def test_a_journal_outlives_the_brokers_restart(broker: RabbitmqServer, queue: str) -> None:
    journal = QueueJournal([broker.url], queue)
    journal.put(MOVE)
    broker.stop()
    with pytest.raises(JournalError, match=f"journal queue {queue}: "):
        journal.put(WISH)
    broker.start()

    def written() -> bool:
        try:
            journal.put(WISH)
        except JournalError:
            return False
        return True

    wait_until(written, "it can be written again")
    assert sorted(entry.key for entry in journal.entries()) == ["host:net3", "move:r1"]
    journal.close()


def test_a_broker_that_is_not_there_is_told(queue: str) -> None:
    with pytest.raises(JournalError, match="journal queue"):
        QueueJournal(["amqp://guest:guest@127.0.0.1:1//"], queue, time_limit=2.0)
