# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What is measured beside messages a second: memory, start-up, what more hosts cost, and what a topic that is stuck costs the others."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from brokerless.rpc import impl_zmq
from brokerless.rpc.driver.connection import SPARE_CREDIT, process_connection
from brokerless.rpc.options import load_options
from hosts_cost import simulated
from many_peers import with_real_connections
from measures import calls, memory
from ours import OurConsumer, OurSender
from receiver_process import hosts, wait_until
from worker_process import Worker

STUCK_MESSAGES = 10_000
THREADS = 16


@dataclass(frozen=True)
class Figure:
    """A figure as it is shown. With `at_most` it is a ratio that has a target."""

    text: str
    value: float = 0.0
    at_most: float | None = None


def measure(rounds: int, seconds: float) -> dict[str, Figure]:
    """Measure all of it; return the figures by what they are."""
    figures: dict[str, Figure] = {}
    with hosts(["alone"]) as (alone,):
        resident, proportional = memory(alone.pid)
        figures["memory of a receiver that has nothing to do"] = Figure(f"{resident:.0f} MiB resident, {proportional:.0f} MiB its own share")
        times = []
        for _round in range(rounds):
            alone.stop()
            began = time.monotonic()
            alone.start()
            times.append(time.monotonic() - began)
        figures["a receiver's start until it serves"] = Figure(f"{statistics.median(times) * 1000:.0f} ms")
    figures |= _hosts_cost("simulated core", simulated, 3, 1000, rounds)
    figures |= _hosts_cost("real connections", with_real_connections, 3, 200, max(1, rounds // 2))
    stuck = stuck_topic(rounds, seconds)
    text = f"{stuck:.2f}x"
    figures[f"p50 of calls beside a topic whose consumer never answers, with {STUCK_MESSAGES:,} messages for it"] = Figure(text, stuck, 1.2)
    return figures


def _hosts_cost(what: str, cost: Callable[[int], float], few: int, many: int, rounds: int) -> dict[str, Figure]:
    """Compare what a message costs a receiver among few hosts and among many, in turns."""
    measured = [(cost(few), cost(many)) for _round in range(rounds)]
    with_few, with_many = (statistics.median(one[index] for one in measured) for index in (0, 1))
    ratio = with_many / with_few
    text = f"{ratio:.2f}x ({with_few * 1e6:.0f} and {with_many * 1e6:.0f} microseconds of the receiver's processor)"
    return {f"cost of a message among {many:,} hosts, compared with {few} ({what})": Figure(text, ratio, 1.3)}


class _StuckConsumer:
    """A service whose method never returns."""

    def __init__(self, config_file: str) -> None:
        self._connection = impl_zmq.create_connection(load_options([config_file]))
        self._connection.create_consumer("stuck", self)
        self._connection.consume_in_thread()

    def take(self, _context: object, value: str) -> None:
        threading.Event().wait()


class _Flood:
    """A service that sends more than is taken, and can ask its receiver how many messages wait there."""

    def __init__(self, config_file: str) -> None:
        self._conf = load_options([config_file])

    def cast(self, topic: str) -> None:
        """Send them all."""
        for _message in range(STUCK_MESSAGES):
            impl_zmq.cast(self._conf, {}, topic, {"method": "take", "args": {"value": "x" * 300}}, timeout=3600)

    def waiting(self) -> int:
        """Return how many messages wait at the receiver."""
        return sum(queue["waiting"] for queue in process_connection(self._conf).inspect("status")["queues"])


def stuck_topic(rounds: int, seconds: float) -> float:
    """Return how many times longer a call takes while another topic of the same host is stuck, as the median of the rounds.

    In turns, on two pairs of hosts: one where nothing else goes on, and one where all the messages wait in its receivers.
    """
    with contextlib.ExitStack() as running:
        senders = []
        for names, is_stuck in ((["control1", "compute1"], False), (["control2", "compute2"], True)):
            ring = {"bench": [names[1]], "stuck": [names[1]]}
            here, there = running.enter_context(hosts(names, ring=ring, rpc_zmq_topic_backlog=2 * STUCK_MESSAGES, rpc_thread_pool_size=THREADS))
            running.enter_context(Worker(OurConsumer, str(there.config_file), "bench"))
            senders.append(running.enter_context(Worker(OurSender, str(here.config_file), "bench")))
            if is_stuck:
                running.enter_context(Worker(_StuckConsumer, str(there.config_file)))
                flood = running.enter_context(Worker(_Flood, str(here.config_file)))
                flood.ask("cast", f"stuck.{names[1]}")
                watch = running.enter_context(Worker(_Flood, str(there.config_file)))
                wait_until(lambda watch=watch: watch.ask("waiting") >= STUCK_MESSAGES - THREADS - SPARE_CREDIT, "the stuck messages wait")
        ratios = []
        for _round in range(rounds + 2):
            free, beside = (calls(sender, 1, 300, seconds).median for sender in senders)
            ratios.append(beside / free)
        return statistics.median(ratios)
