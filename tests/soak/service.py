# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The services of a soak. Each writes down what it did: one line for each message sent, and one for each that ran."""

from __future__ import annotations

import logging
import re
import threading
import time
from pathlib import Path

from brokerless.rpc import impl_zmq
from brokerless.rpc.errors import NotSent, Timeout
from brokerless.rpc.options import load_options

TOPIC = "soak"


class Consumer:
    """Writes down each message that it is given, in the order in which it is given them: its service has one thread for its methods."""

    def __init__(self, config_file: str, host: str, ran: Path) -> None:
        """Consume `soak` on `host`, and write to the file `ran`."""
        self._host = host
        self._ran = ran.open("a", encoding="ascii")
        self._connection = impl_zmq.create_connection(load_options([config_file]))
        self._connection.create_consumer(TOPIC, self)
        self._connection.consume_in_thread()

    def work(self, _context: object, sender: str, number: int, topic: str) -> list[object]:
        """Write it down, and answer with what the caller can check."""
        self._ran.write(f"{sender} {number} {topic} {self._host}\n")
        self._ran.flush()
        return [sender, number]


class Sender:
    """Sends casts from one thread and calls from some, evenly over a time, and writes down what became of each.

    A line is `number topic outcome`: of a cast `accepted`, `refused` or, from the log, `told`; of a call `answered` or `failed`.
    """

    def __init__(self, config_file: str, host: str, sent: Path) -> None:
        """Send as a service of `host`, and write to the file `sent`."""
        self._conf = load_options([config_file])
        self._host = host
        self._sent = sent.open("a", encoding="ascii")
        self._lock = threading.Lock()
        self._working: list[threading.Thread] = []
        self._casts_of_driver: list[tuple[str, int, str]] = []
        self._slowest_call = 0.0
        self._stopped = threading.Event()
        logging.getLogger("brokerless.driver").addHandler(_Told(self))

    def start(self, topics: list[str], casts: int, calls: int, callers: int, seconds: float, ttl: float) -> None:
        """Begin to send to the topics in turn, over `seconds`: `casts`, and `calls` from each of the `callers`; each may take `ttl` seconds."""
        self._start(self._cast, f"{self._host}-casts", topics, casts, seconds, ttl)
        for caller in range(callers):
            self._start(self._call, f"{self._host}-calls{caller}", topics, calls, seconds, ttl)

    def _start(self, send: object, name: str, topics: list[str], count: int, seconds: float, ttl: float) -> None:
        thread = threading.Thread(target=self._send_evenly, args=(send, name, topics, count, seconds, ttl), daemon=True)
        self._working.append(thread)
        thread.start()

    def _send_evenly(self, send: object, name: str, topics: list[str], count: int, seconds: float, ttl: float) -> None:
        began = time.monotonic()
        for number in range(1, count + 1):
            if self._stopped.wait(max(0.0, began + number * seconds / count - time.monotonic())):
                return
            send(name, number, topics[number % len(topics)], ttl)  # type: ignore[operator]

    def _cast(self, name: str, number: int, topic: str, ttl: float) -> None:
        message = {"method": "work", "args": {"sender": name, "number": number, "topic": topic}}
        try:
            impl_zmq.cast(self._conf, {}, topic, message, timeout=ttl)
        except NotSent as error:
            self.note(name, number, topic, f"refused {error}")
        else:
            self.note(name, number, topic, "accepted")

    def _call(self, name: str, number: int, topic: str, ttl: float) -> None:
        message = {"method": "work", "args": {"sender": name, "number": number, "topic": topic}}
        began = time.monotonic()
        try:
            answer = impl_zmq.call(self._conf, {}, topic, message, timeout=ttl)
        except (Timeout, NotSent) as error:
            self.note(name, number, topic, f"failed {error}")
            return
        self._slowest_call = max(self._slowest_call, time.monotonic() - began)
        self.note(name, number, topic, "answered" if answer == [name, number] else f"failed by another's answer, {answer}")

    def note(self, name: str, number: int, topic: str, outcome: str) -> None:
        """Write down what became of a message."""
        with self._lock:
            self._sent.write(f"{name} {number} {topic} {' '.join(outcome.split())}\n")
            self._sent.flush()

    def stop(self) -> None:
        """Send no more."""
        self._stopped.set()

    def busy(self) -> bool:
        """Whether there is more to send, or a call waits for its answer."""
        return any(thread.is_alive() for thread in self._working)

    def slowest_call(self) -> float:
        """Return the seconds that the slowest answered call took."""
        return self._slowest_call

    def settle(self, seconds: float) -> int:
        """Wait until all casts have come to their end, for so long; return how many have not."""
        from brokerless.rpc.driver.connection import process_connection  # noqa: PLC0415

        return process_connection(self._conf).settle(seconds)


class _Told(logging.Handler):
    """Notes the casts of which the log says that they were not handed over. Only where nothing but casts is sent is their number in the id."""

    def __init__(self, sender: Sender) -> None:
        super().__init__(logging.ERROR)
        self._sender = sender

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        found = re.match(r"cast [0-9a-f]{16}/(\d+) for (\S+) was not handed over: (.*)", text)
        if found:
            self._sender.note("told", int(found[1]), found[2], found[3])
        else:
            self._sender.note("log", 0, "-", text)
