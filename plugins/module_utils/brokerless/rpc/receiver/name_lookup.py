# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""From a host's name to its address, without ever holding up the receiver.

libzmq would look names up in its I/O thread, where one dead nameserver stalls every peer. Here a few threads do it, and each new connection
asks anew, so that a changed record is followed.
"""

from __future__ import annotations

import ipaddress
import itertools
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

LOOKUP_THREADS = 4
MAX_ATTEMPTS = 10_000
"""Of so many hosts it is remembered which of their addresses is next."""


class NameLookup:
    """Looks names up in the background.

    `on_answer(host, address or None, fault)` is called at once for what needs no lookup, otherwise in a thread of its own.
    """

    def __init__(self, known: Mapping[str, str], on_answer: Callable[[str, str | None, str], None]) -> None:
        """Use the addresses in `known` (IPv6 ones may stand in brackets) before the system's resolver."""
        self._known = {host: address.strip("[]") for host, address in known.items()}
        self._on_answer = on_answer
        self._attempts: dict[str, itertools.count[int]] = {}
        self._threads = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="name-lookup")

    def start(self, host: str) -> None:
        """Begin to look `host` up. Of several addresses, each further call gives the next."""
        if len(self._attempts) >= MAX_ATTEMPTS:
            self._attempts.clear()
        attempt = next(self._attempts.setdefault(host, itertools.count()))
        name = self._known.get(host, host)
        try:
            address = str(ipaddress.ip_address(name))
        except ValueError:
            self._threads.submit(self._look_up, host, name, attempt)
        else:
            self._on_answer(host, address, "")

    def _look_up(self, host: str, name: str, attempt: int) -> None:
        try:
            address = _resolve(name, attempt)
        except (OSError, ValueError) as error:
            self._on_answer(host, None, f"its name can't be resolved: {error}")
        else:
            self._on_answer(host, address, "")

    def close(self) -> None:
        """Answer nothing more."""
        self._on_answer = _ignore
        self._threads.shutdown(wait=False, cancel_futures=True)


def _ignore(_host: str, _address: str | None, _fault: str) -> None:
    pass


def _resolve(name: str, attempt: int) -> str:
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    return addresses[attempt % len(addresses)]
