# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What a host of the lab does under load: `python load.py HOST DIRECTORY TOPIC...`, beside service.py of the soak.

It consumes, and sends casts and calls to the topics, and writes both down in DIRECTORY. At SIGUSR1 it sends no more, waits until what it sent has
come to its end, and writes the file `settled`.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from service import Consumer, Sender

CONFIG = "/etc/brokerless/brokerless.conf"
SECONDS, CASTS_A_SECOND, CALLS_A_SECOND, CALLERS = 3600, 10, 3, 2
TIME_TO_LIVE = 120.0


def main() -> int:
    """Run until SIGTERM."""
    host, place, topics = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    # with several threads it would not write down the order in which it was given messages
    config = place / "load.conf"
    config.write_text(Path(CONFIG).read_text(encoding="utf-8") + "\n[DEFAULT]\nrpc_thread_pool_size = 1\n", encoding="utf-8")
    Consumer(str(config), host, place / f"{host}.ran")
    sender = Sender(str(config), host, place / f"{host}.sent")
    sender.start(topics, CASTS_A_SECOND * SECONDS, CALLS_A_SECOND * SECONDS, CALLERS, SECONDS, TIME_TO_LIVE)
    (place / "ready").write_text("", encoding="ascii")
    signal.sigwait({signal.SIGUSR1})
    sender.stop()
    while sender.busy():
        time.sleep(0.1)
    (place / "settled").write_text(f"{sender.settle(TIME_TO_LIVE)}\n", encoding="ascii")
    signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
