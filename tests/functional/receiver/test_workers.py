# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Receivers with several workers: one service to its users, several processes to the machine."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from brokerless.rpc.driver.connection import Incoming, NotAnswered, close_connections, process_connection
from brokerless.rpc.driver.workers import worker_of
from brokerless.rpc.topics import Address, parse_topic
from receiver_process import Receiver, hosts, run_program, short_directory, wait_until

WORKERS = 3
TOPICS = [
    next(name for name in map("topic{}".format, range(start, start + 1000)) if worker_of(Address(name), WORKERS) == worker)
    for start in (0, 1000, 2000)
    for worker in range(WORKERS)
]
"""Three topics for each worker."""
TTL = 60.0


@pytest.fixture
def pair() -> Iterator[list[Receiver]]:
    with hosts(["control1", "compute1"], {"*": ["compute1"]}, rpc_zmq_receiver_workers=WORKERS) as receivers:
        yield receivers


def children_of(receiver: Receiver) -> set[int]:
    return set(map(int, Path(f"/proc/{receiver.pid}/task/{receiver.pid}/children").read_text(encoding="utf-8").split()))


def answer(incoming: Incoming) -> None:
    incoming.reply(str(incoming.address).encode())


def test_calls_of_all_topics_go_through_all_workers(pair: list[Receiver]) -> None:
    control1, compute1 = pair
    addresses = [parse_topic(text) for topic in TOPICS for text in (topic, f"{topic}.compute1")]
    process_connection(compute1.conf).subscribe(addresses, answer)
    for address in addresses:
        assert process_connection(control1.conf).call(address, b"", TTL) == str(address).encode()
    status = process_connection(compute1.conf).inspect("status")
    ports = [one["ports"] for one in (status, *status["other_workers"])]
    assert ports == [[compute1.port + worker] for worker in range(WORKERS)]
    shown = run_program("brokerless", "--config-file", compute1.config_file, "status").stdout
    assert shown.count("Receiver of compute1") == WORKERS


def test_a_worker_that_dies_is_started_again_and_nothing_is_lost(pair: list[Receiver]) -> None:
    control1, compute1 = pair
    taken: list[bytes] = []
    process_connection(compute1.conf).subscribe([Address(topic) for topic in TOPICS], lambda incoming: taken.append(incoming.body))
    for receiver in pair:
        victims = children_of(receiver)
        for number, victim in enumerate(sorted(victims)):
            os.kill(victim, signal.SIGKILL)
            for topic in TOPICS:
                process_connection(control1.conf).cast(Address(topic), f"{receiver.host} {number} {topic}".encode(), TTL)
        assert process_connection(control1.conf).settle(TTL) == 0
        wait_until(lambda receiver=receiver: len(children_of(receiver)) == WORKERS, "all workers are back")
        assert not children_of(receiver) & victims
        assert receiver.log.count("was killed by signal SIGKILL; starting it again") == WORKERS
    assert len(taken) == len(set(taken)) == 2 * WORKERS * len(TOPICS)


def test_all_workers_end_together(pair: list[Receiver]) -> None:
    workers = children_of(pair[0])
    assert len(workers) == WORKERS
    close_connections()
    assert pair[0].stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert not list(pair[0].ipc_directory.glob("*.sock"))


def test_workers_die_with_their_parent(pair: list[Receiver]) -> None:
    workers = children_of(pair[0])
    pair[0].kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the workers are gone")
    with pytest.raises(NotAnswered, match="receiver"):
        process_connection(pair[0].conf).inspect("status", timeout=0.5)


def test_a_port_in_use_stops_them_all() -> None:
    with short_directory() as directory:
        receiver = Receiver(directory, rpc_zmq_receiver_workers=WORKERS)
        with socket.create_server((receiver.address, receiver.port + 2)):
            done = run_program("receiver", "--config-file", receiver.config_file)
    assert done.returncode == 1
    assert f"tcp://127.0.0.1:{receiver.port + 2} is in use" in done.stderr
