# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Does a transport that was made before a fork, and with `pre` used, work on both sides? `python fork_script.py URL pre|post [fork(3)]`.

Prints a line for the call before the fork, and then four, of which each should say `ok`: two calls of the child, two of the parent.

With `fork(3)` it is the C library that forks, at a moment when no other thread asks for the interpreter: if one did, CPython itself would wait in
the child, for ever, for that thread to take over (`drop_gil` waits for the switch that was requested; only CPython's own hooks reset the request).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

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


def switches() -> dict[str, str]:
    """Return, by thread, how often this process's other threads began and ceased to run."""
    tasks = [task for task in Path("/proc/self/task").iterdir() if int(task.name) != os.getpid()]
    return {task.name: (task / "status").read_text().partition("voluntary_ctxt_switches:")[2] for task in tasks}


def wait_until_other_threads_rest() -> None:
    """Return when no other thread has run for 50 ms in which this one left the interpreter to them."""
    before = None
    while before != (now := switches()):
        before = now
        time.sleep(0.05)


def fork_by_c_library() -> int:
    """Fork with no hook of Python's, as uWSGI does."""
    wait_until_other_threads_rest()
    return int(ctypes.PyDLL(None).fork())


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
    child = fork_by_c_library() if sys.argv[3:] == ["fork(3)"] else os.fork()
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
