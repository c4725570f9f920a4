# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""oslo.messaging with native threads, as today's services use it, over whatever its URL names: `rabbit://` or `zmq://`.

oslo.messaging and our wheel are in a virtual environment of their own, the one of `make upstream`; the processes here find them by `packages`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measures import Count, Methods, Sender
from oslo_config import cfg

PATIENCE = 60
TOPIC = "bench"
FIRST = "s0"
"""The server that gets calls and casts."""


def _oslo_messaging(packages: str) -> Any:
    """Return the module, which the bench's own environment does not have, for native threads."""
    sys.path.insert(0, packages)
    backend = importlib.import_module("oslo_service.backend")
    backend.init_backend(backend.BackendType.THREADING)
    return importlib.import_module("oslo_messaging")


def _transport(oslo_messaging: Any, url: str) -> Any:
    # not one of our own: oslo.messaging registers some of its options with this one only
    cfg.CONF([], project="bench", default_config_files=[], default_config_dirs=[])
    return oslo_messaging.get_rpc_transport(cfg.CONF, url)


class OsloSender(Sender):
    """The sending process."""

    def __init__(self, packages: str, url: str) -> None:
        """`packages` is the folder with oslo.messaging, `url` that of the transport."""
        oslo_messaging = _oslo_messaging(packages)
        transport = _transport(oslo_messaging, url)
        self._one = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic=TOPIC, server=FIRST), timeout=PATIENCE)
        self._all = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic=TOPIC, fanout=True))

    def caller(self) -> Callable[[str], object]:
        """Return what calls a method that returns its argument."""
        return lambda body: self._one.call({}, "echo", value=body)

    def caster(self) -> Callable[[str], object]:
        """Return what casts to a method that counts."""
        return lambda body: self._one.cast({}, "take", value=body)

    def fanout_caster(self) -> Callable[[str], object]:
        """Return what casts to a method that counts, of every server."""
        return lambda body: self._all.cast({}, "take", value=body)


class OsloConsumer:
    """A consuming process: a server of the topic."""

    def __init__(self, packages: str, url: str, server: str) -> None:
        """As for the sender; `server` is its name."""
        oslo_messaging = _oslo_messaging(packages)
        transport = _transport(oslo_messaging, url)
        self._counted = Count()
        server_of_topic = oslo_messaging.Target(topic=TOPIC, server=server)
        self._server = oslo_messaging.get_rpc_server(transport, server_of_topic, [Methods(self._counted)])
        self._server.start()

    def count(self) -> tuple[int, float]:
        """Return how many casts and fanouts there were, and when the last one came."""
        return self._counted.read()


def packages_of(environment: Path) -> str:
    """Return the folder with the packages of a virtual environment."""
    (folder,) = environment.glob("lib/python*/site-packages")
    return str(folder)
