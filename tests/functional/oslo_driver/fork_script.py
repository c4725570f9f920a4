# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Does a transport that was made before a fork, and with `pre` used, work on both sides? `python fork_script.py URL pre|post [fork(3)]`.

With `fork(3)` it is the C library that forks. Prints a line for the call before the fork, and then four, of which each should say `ok`: two calls of
the child, two of the parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

from oslo_service import backend

backend.init_backend(backend.BackendType.THREADING)

import oslo_messaging  # noqa: E402 - the backend must be chosen first
from oslo_config import cfg  # noqa: E402

URL = sys.argv[1]
TARGET = oslo_messaging.Target(topic="forking", server="s1")


class Endpoint:
    """What is called."""

    def pid(self, ctxt: object) -> int:
        """Return the server's process id."""
        return os.getpid()


def main() -> None:
    """Fork the server, make the transport, fork the child, call."""
    cfg.CONF([], project="tests")
    server = os.fork()
    if not server:
        oslo_messaging.get_rpc_server(oslo_messaging.get_rpc_transport(cfg.CONF, URL), TARGET, [Endpoint()]).start()
        signal.pause()
    client = oslo_messaging.get_rpc_client(oslo_messaging.get_rpc_transport(cfg.CONF, URL), TARGET, timeout=15)
    if sys.argv[2] == "pre":
        print("parent before the fork ->", client.call({}, "pid"), flush=True)
    child = ctypes.PyDLL(None).fork() if sys.argv[3:] == ["fork(3)"] else os.fork()
    who = "parent" if child else "child "
    for number in range(2):
        began = time.monotonic()
        try:
            answer = f"ok {client.call({}, 'pid')}"
        except oslo_messaging.MessagingTimeout as error:
            answer = f"MessagingTimeout {error}"
        print(who, "call", number, answer, f"{time.monotonic() - began:.2f} s", flush=True)
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)


main()
