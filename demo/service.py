# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A service as Nova's are: it consumes its topics, each bare, directed to its host, and as fanout.

    python service.py --config-file FILE --topic compute [--topic agent] --ready-file FILE

It writes the ready file when its consumers are live, and ends at SIGTERM.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import threading
from collections import deque
from pathlib import Path
from typing import Any

from brokerless.rpc import impl_zmq
from brokerless.rpc.options import load_options


class DemonstrationService:
    """What other hosts may call. Every public method is one, with the caller's context first."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._notes: deque[str] = deque(maxlen=1000)

    def who_are_you(self, _context: Any) -> dict[str, Any]:
        """Say which process of which host answers."""
        return {"host": self._host, "pid": os.getpid()}

    def find_instance(self, _context: Any, name: str) -> None:
        """Fail as a service does that is asked for something it does not have."""
        raise LookupError(f"instance {name} could not be found on {self._host}")

    def take_note(self, _context: Any, note: str) -> None:
        """Keep a note, until there are a thousand newer ones."""
        self._notes.append(note)

    def notes(self, _context: Any) -> list[str]:
        """Return the notes that were taken, the oldest first."""
        return list(self._notes)


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--topic", action="append", required=True)
    parser.add_argument("--ready-file", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())

    conf = load_options([arguments.config_file])
    service = DemonstrationService(conf.rpc_zmq_host)
    connection = impl_zmq.create_connection(conf)
    for topic in arguments.topic:
        connection.create_consumer(topic, service)
        connection.create_consumer(f"{topic}.{conf.rpc_zmq_host}", service)
        connection.create_consumer(topic, service, fanout=True)
    connection.consume_in_thread()
    arguments.ready_file.write_text(f"{os.getpid()}\n", encoding="utf-8")
    logging.getLogger("service").info("%s serves %s", conf.rpc_zmq_host, ", ".join(arguments.topic))

    stop.wait()
    connection.close()
    impl_zmq.cleanup()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
