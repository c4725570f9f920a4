# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The MatchMaker that goes by Redis, in which each host's receiver registers what its services consume."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from ..topics import Address
from .base import MatchMaker, MatchMakerError, Route, Settings
from .directory import Directory
from .redis_registry import registrable

if TYPE_CHECKING:
    from .redis_follower import RedisFollower


class MatchMakerRedis(MatchMaker):
    """A topic means the hosts that are registered for it and live: round robin over them for a bare topic, all of them for a fanout.

    This host's own consumers count at once, whatever Redis does.
    """

    name: ClassVar[str] = "redis"
    follows: ClassVar[bool] = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if settings.heartbeat_ttl <= settings.heartbeat_freq:
            raise MatchMakerError(
                f"MatchMaker redis: matchmaker_heartbeat_ttl {settings.heartbeat_ttl:g} must be longer than matchmaker_heartbeat_freq "
                f"{settings.heartbeat_freq:g}, or registrations die before they are renewed"
            )
        self._lock = threading.Lock()
        self._changed: Callable[[], None] = _nobody_follows
        self._here: frozenset[Address] = frozenset()
        self._here_is_complete = False
        self._others: Mapping[str, frozenset[Address]] = {}
        self._directory = Directory({})
        self._problem = ""
        self._follower = _follower(settings, self._take)

    @property
    def source(self) -> str:
        return self.settings.redis.shown

    @property
    def problem(self) -> str:
        return self._problem

    def hosts(self) -> frozenset[str]:
        return self._directory.hosts()

    def route_bare(self, address: Address) -> Route:
        hosts = self._directory.hosts_of(address)
        if hosts:
            return Route(hosts)
        return Route(problem=f"{self} knows no host that consumes {address}" + (f": {self._problem}" if self._problem else ""))

    def route_fanout(self, address: Address) -> Route:
        return self.route_bare(address)

    def route_directed(self, address: Address) -> Route:
        """A server that is no host's name is wherever it is consumed."""
        hosts = self._directory.hosts_of(address)
        return super().route_directed(address) if address.server in hosts or not hosts else Route(hosts)

    def follow(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._follower.start()

    def close(self) -> None:
        self._changed = _nobody_follows
        self._follower.stop()

    def consumed_here(self, addresses: frozenset[Address], *, complete: bool) -> None:
        with self._lock:
            self._here, self._here_is_complete = registrable(addresses), complete
            self._make_directory()
        self._follower.consumed_here(self._here, complete=complete)

    def _take(self, others: Mapping[str, frozenset[Address]], problem: str) -> None:
        """Take in what the follower's thread knows now."""
        with self._lock:
            if others == self._others and problem == self._problem:
                return
            self._problem = problem
            if others != self._others:
                self._others = others
                self._make_directory()
        self._changed()

    def _make_directory(self) -> None:
        host = self.settings.host
        here = self._here if self._here_is_complete else self._here | self._others.get(host, frozenset())
        self._directory = Directory({**self._others, host: here})


def _follower(settings: Settings, take: Callable[[Mapping[str, frozenset[Address]], str], None]) -> RedisFollower:
    """Make the follower; its library is large, and imported only where this MatchMaker is used."""
    from .redis_follower import RedisFollower  # noqa: PLC0415

    return RedisFollower(settings, take)


def _nobody_follows() -> None:
    pass
