# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Tell systemd how the service is, as sd_notify(3) describes it. Without systemd nothing happens."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Protocol


class Notifier(Protocol):
    """Whoever wants to know how the service is."""

    watchdog_seconds: float | None
    """How often `WATCHDOG=1` is due; None if nobody waits for it."""

    def notify(self, *states: str) -> None:
        """Take in states such as `READY=1`."""


class SystemdNotifier:
    """Sends states to the socket that systemd named in the environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        watchdog_pid = environment.get("WATCHDOG_PID", "")
        watchdog_usec = environment.get("WATCHDOG_USEC", "")
        mine = not watchdog_pid or watchdog_pid == str(os.getpid())
        self.watchdog_seconds = int(watchdog_usec) / 1e6 / 2 if watchdog_usec.isdecimal() and int(watchdog_usec) and mine else None
        """How often `WATCHDOG=1` is due: twice in the time that systemd waits for it. None if it does not."""

    def notify(self, *states: str) -> None:
        """Send states such as `READY=1`. A socket that is gone is no reason for a service to fail, so errors are not raised."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify_socket:
            try:
                notify_socket.sendto("\n".join(states).encode(), self._address)
            except OSError:
                return
