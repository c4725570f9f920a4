# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Replicas agree on a leader by a lock of tooz, in Redis, ZooKeeper, memcached, Kubernetes or a file, for who has one of them already.

A lock is good enough only if its driver can ask whether it is still ours: those of etcd, MySQL and PostgreSQL can't and are refused. Since a new
leader waits for a lease before it writes (see `lease`), two holders for a moment, as after a failover of Redis, do no harm.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ...soft_import import soft_import
from .by_lease import ByLease
from .lease import DEFAULT_LEASE, Lease

if TYPE_CHECKING:
    from tooz import coordination
else:
    coordination = soft_import("tooz.coordination", "tooz")

LOG = logging.getLogger("rpcdaemon.leader")
RENEWALS = 10
"""How often a lease is confirmed while it lasts."""
FIT_DRIVERS = frozenset({"redis", "zookeeper", "kazoo", "memcached", "kubernetes", "file"})
"""Those whose locks have `is_still_owner` (tooz 9.1)."""
_LONGEST_CLOSE = 5.0


class UnfitDriver(ValueError):
    """The driver of the coordination URL can't tell whether a lock is still held."""


@dataclass(frozen=True, slots=True)
class ToozLeaderSettings:
    """All replicas must have the same coordination `url`, `lock` and `lease`, which is in seconds."""

    url: str
    lock: str = "rpcdaemon.leader"
    lease: float = DEFAULT_LEASE


class ToozLeadership(ByLease):
    """Leadership by a lock of tooz."""

    def __init__(self, settings: ToozLeaderSettings) -> None:
        """Nothing is connected yet. Raises `UnfitDriver`, what tooz raises for a URL without a driver, or `MissingDependency`."""
        self._settings = settings
        self._lease = Lease(settings.lease)
        self._where = urlsplit(settings.url).scheme
        self._closing = threading.Event()
        self._said = ""
        self._member = f"{socket.gethostname()}-{uuid.uuid4().hex}".encode()
        if self._where not in FIT_DRIVERS:
            raise UnfitDriver(
                f"coordination_url: the driver {self._where!r} can't tell whether a lock is still held, so that there could be two leaders: "
                "use redis, zookeeper, memcached, kubernetes or file, or leave it out for RabbitMQ"
            )
        self._coordinator: Any = self._new_coordinator()
        self._lock: Any = None
        self._thread = threading.Thread(target=self._run, name="rpcdaemon-leader", daemon=True)

    def start(self) -> None:
        """Begin to stand for leader, in the background; while the service is away there is none."""
        self._thread.start()

    def close(self) -> None:
        """Write no more, and release the lock if the service can be told."""
        self._lease.lose("this daemon is stopped")
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(_LONGEST_CLOSE)

    def _new_coordinator(self) -> Any:
        return coordination.get_coordinator(self._settings.url, self._member)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                if self._lock is None:
                    self._coordinator.start()
                    self._lock = self._coordinator.get_lock(self._settings.lock.encode())
                self._renew()
                self._said = ""
            except Exception as error:  # noqa: BLE001 - each driver has errors of its own, and whatever it is, nobody leads by it
                self._say(error)
                self._leave()
                self._coordinator = self._new_coordinator()
            self._closing.wait(self._settings.lease / RENEWALS)
        self._leave()

    def _renew(self) -> None:
        """Take the lock if it is free, or learn whether it is still ours; what is learnt counts from when it was asked."""
        asked_at, asked_wall = time.monotonic(), time.time()
        self._lease.expire(asked_at, asked_wall)
        if not self._lock.acquired:
            self._lease.lose("the lock was given up")
            if not self._lock.acquire(blocking=False):
                return
        else:
            self._coordinator.heartbeat()
        if not self._lock.is_still_owner():
            self._lease.lose("another replica has the lock")
            self._lock.release()
            return
        if self._closing.is_set():
            return
        now, wall = time.monotonic(), time.time()
        if self._lease.term is not None:
            self._lease.confirm(asked_at, asked_wall, now, wall)
        elif max(now - asked_at, wall - asked_wall) <= self._settings.lease / 2:
            term = self._lease.begin(asked_at, asked_wall, 0, now, wall)
            LOG.info("this replica leads, in term %d, by the lock %s of tooz (%s)", term, self._settings.lock, self._where)

    def _leave(self) -> None:
        """Give up the lock and the connection; a lock that can't be released runs out, or ends with the connection."""
        self._lease.lose(f"the service behind coordination_url ({self._where}) does not answer")
        lock, self._lock = self._lock, None
        if lock is not None:
            with contextlib.suppress(Exception):
                lock.release()
        with contextlib.suppress(Exception):
            self._coordinator.stop()

    def _say(self, error: BaseException) -> None:
        """Log a trouble, unless it was the last one too."""
        text = " ".join(str(error).split()) or type(error).__name__
        if text != self._said:
            self._said = text
            LOG.warning("leader: the service behind coordination_url (%s) fails: %s; nobody leads through us, trying again", self._where, text)
