# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What a MatchMaker is: the part that decides which hosts an address means.

A MatchMaker knows hosts, not whether they live: the receiver's core picks among the hosts that it is given, round robin, those that are up
first. There are two kinds. One that goes by a file reads it when it is made and never changes; when the file changes, the receiver makes a new
one, and keeps the old one if that fails. One that follows a source which changes by itself, such as Redis, does so in the background between
`follow` and `close`, and answers at any time from what it knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from ..topics import Address
from .redis_settings import RedisSettings


class MatchMakerError(ValueError):
    """A MatchMaker can't be loaded or made; the message names it and the fault."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a MatchMaker may know: its host's own name, the ring file's path, the broker's host, and what the options say of its source.

    A registration at a source is renewed every `heartbeat_freq` seconds and dead after `heartbeat_ttl`. `options` are those of a user's own
    MatchMaker, from `rpc_zmq_matchmaker_options`. `worker` is the number of the receiver's worker, each of which has a MatchMaker of its own and
    speaks with the same workers of other hosts only.
    """

    host: str
    ring_file: str = ""
    broker: str = "127.0.0.1"
    heartbeat_freq: float = 300.0
    heartbeat_ttl: float = 600.0
    redis: RedisSettings = field(default_factory=RedisSettings)
    options: Mapping[str, str] = field(default_factory=dict)
    worker: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """Where an address leads: any one of `hosts` for a bare topic, all of them for a fanout.

    With `announced` these are the hosts whose receivers announced a consumer of the address, and `hosts` if none did. With `broker` the message
    goes to that host's receiver, which routes it as it knows best; with `ask` too, that receiver is only asked for a host. `problem` says why an
    address leads nowhere.
    """

    hosts: tuple[str, ...] = ()
    broker: str = ""
    problem: str = ""
    announced: bool = False
    ask: bool = False


class MatchMaker(ABC):
    """Decides which hosts an address means. Make one of your own by deriving from this class."""

    name: ClassVar[str]
    """The short name, for logs and status."""
    dials_back: ClassVar[bool] = False
    """Whether the receiver connects to every host that connects to it, to hear what it consumes."""

    follows: ClassVar[bool] = False
    """Whether it follows its source by itself, between `follow` and `close`, so that nobody needs to make it anew."""

    def __init__(self, settings: Settings) -> None:
        """Read what the MatchMaker goes by. Raises a `ValueError` that names the source and the fault.

        `brokerless-receiver --check` makes one, too: no thread and no connection is started here, but in `follow`.
        """
        self.settings = settings

    @property
    def source(self) -> str:
        """Where its knowledge comes from, such as the ring file's path; empty if it needs none."""
        return ""

    @property
    def watched_file(self) -> str:
        """The path of the file that calls for a new MatchMaker when it changes; empty if there is none."""
        return ""

    @property
    def problem(self) -> str:
        """What is wrong with the source now, and what happens meanwhile, in one line for the operator; empty if nothing is."""
        return ""

    def follow(self, changed: Callable[[], None]) -> None:  # noqa: B027 - few have something to follow
        """Begin to follow the source in the background, if there is anything to follow. Returns at once.

        `changed` may be called from any thread, when routes, hosts or `problem` are others than before.
        """

    def close(self) -> None:  # noqa: B027
        """Stop following, and take back what was told to the source of this host. Takes a few seconds at most."""

    def consumed_here(self, addresses: frozenset[Address], *, complete: bool) -> None:  # noqa: B027
        """Take note of all that services of this host consume now. Called when it changes, by the thread that routes; must return at once.

        Shortly after the receiver's start it is not `complete`: services may not be back yet, and still count for what they consumed before.
        """

    def __str__(self) -> str:
        return f"MatchMaker {self.name} ({self.source})" if self.source else f"MatchMaker {self.name}"

    def hosts(self) -> frozenset[str]:
        """Return all hosts that it knows of; the receiver connects to them, to know which of them live. Asked often; keep it ready."""
        return frozenset()

    def route(self, address: Address) -> Route:
        """Return where `address` leads. Called for each message, by one thread: it looks something up, and never waits."""
        if address.fanout:
            return self.route_fanout(address)
        if address.server:
            return self.route_directed(address)
        return self.route_bare(address)

    def route_directed(self, address: Address) -> Route:
        """Return the hosts of which one gets a message for the directed topic `address`, the first that is up: as a rule the one that it names."""
        return Route((address.server,))

    @abstractmethod
    def route_bare(self, address: Address) -> Route:
        """Return the hosts of which any one may get a message for the bare topic `address`."""

    @abstractmethod
    def route_fanout(self, address: Address) -> Route:
        """Return the hosts that all get a message for the fanout `address`."""
