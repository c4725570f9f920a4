# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Ask a host itself whether it is up: another witness, for agents that are in doubt. A few hosts at a time, none for longer than a time limit.

A host that does not answer may still forward packets: only a command that knows better, as by asking for its power, can prove that it does not.
"""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from .hooks import run_command

LOG = logging.getLogger("rpcdaemon.probes")
AT_ONCE = 4
"""So many hosts are asked at a time."""
UP, NOT_KNOWN, DOWN = range(3)
"""What a command ends with, and says by that."""

Found: TypeAlias = tuple[bool | None, str]
"""Whether a host is up, None if that is not known, and the words for an operator. False is a proof that it forwards nothing."""


def tcp_port(probe: str) -> int | None:
    """Return the port of a probe that is written `tcp:PORT`, None if it is a command. Raises `ValueError` for a port that is none."""
    if not probe.startswith("tcp:"):
        return None
    match = re.fullmatch(r"tcp:(\d{1,5})", probe)
    if match is None or not 0 < int(match[1]) < 65536:
        raise ValueError(f"probe is {probe!r}; it may be tcp: and a port from 1 to 65535, or a command")
    return int(match[1])


def ask_tcp(host: str, port: int, time_limit: float) -> Found:
    """Ask whether a host answers on a TCP port, within so many seconds; that it refuses is an answer too."""
    try:
        socket.create_connection((host, port), timeout=time_limit).close()
    except ConnectionRefusedError:
        return True, f"{host} is up: it refuses connections to TCP port {port}"
    except (OSError, UnicodeError) as error:
        return None, f"{host} gives no answer on TCP port {port}: {error}"
    return True, f"{host} is up: it answers on TCP port {port}"


def ask_command(command: str, host: str, time_limit: float) -> Found:
    """Ask a command, which finds the host in RPCDAEMON_HOST and ends with `UP`, `NOT_KNOWN` or `DOWN`."""
    code, fault = run_command(command, {"host": host}, time_limit)
    if code == UP:
        return True, f"{host} is up, says the probe"
    if code == DOWN:
        return False, f"{host} forwards nothing, says the probe"
    return None, f"the probe does not know about {host}" + ("" if code == NOT_KNOWN else f": {fault}")


class Prober:
    """Asks hosts, in threads of its own; `tell` gets what was found, in those."""

    def __init__(self, probe: str, time_limit: float, tell: Callable[[str, bool | None, str], None]) -> None:
        """`probe` is `tcp:PORT` or a command. Raises `ValueError` for a port that is none."""
        self._port = tcp_port(probe)
        self._command = probe
        self._time_limit = time_limit
        self._tell = tell
        self._lock = threading.Lock()
        self._asking: set[str] = set()
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="probe")

    def ask(self, host: str) -> None:
        """Ask a host, unless it is being asked."""
        with self._lock:
            if host in self._asking:
                return
            self._asking.add(host)
        self._threads.submit(self._ask, host)

    def _ask(self, host: str) -> None:
        try:
            if self._port is not None:
                up, detail = ask_tcp(host, self._port, self._time_limit)
            else:
                up, detail = ask_command(self._command, host, self._time_limit)
        except Exception as error:
            LOG.exception("a fault of rpcdaemon in asking %s", host)
            up, detail = None, f"a fault of rpcdaemon: {error}"
        with self._lock:
            self._asking.discard(host)
        LOG.info("%s", detail)
        self._tell(host, up, detail)

    def close(self) -> None:
        """Ask nobody any more; who is being asked is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
