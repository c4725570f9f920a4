# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What a MatchMaker is: the part that decides which hosts an address means.

A MatchMaker knows hosts, not whether they live: the receiver's core picks among the hosts that it is given, round robin, those that are up
first. A MatchMaker never changes. What it read from outside (a ring file) it read when it was made; when that changes, the receiver makes a
new one, and keeps the old one if that fails.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from ..topics import Address


class MatchMakerError(ValueError):
    """A MatchMaker can't be loaded or made; the message names it and the fault."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a MatchMaker may know of its host: its own name, the ring file's path and the broker's host."""

    host: str
    ring_file: str = ""
    broker: str = "127.0.0.1"


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

    def __init__(self, settings: Settings) -> None:
        """Read what the MatchMaker goes by. Raises a `ValueError` that names the source and the fault."""
        self.settings = settings

    @property
    def source(self) -> str:
        """Where its knowledge comes from, such as the ring file's path; empty if it needs none."""
        return ""

    @property
    def watched_file(self) -> str:
        """The path of the file that calls for a new MatchMaker when it changes; empty if there is none."""
        return ""

    def __str__(self) -> str:
        return f"MatchMaker {self.name} ({self.source})" if self.source else f"MatchMaker {self.name}"

    def hosts(self) -> frozenset[str]:
        """Return all hosts that it knows of; the receiver connects to them at its start, to know which of them live."""
        return frozenset()

    def route(self, address: Address) -> Route:
        """Return where `address` leads. A directed topic leads to the host that it names."""
        if address.fanout:
            return self.route_fanout(address)
        if address.server:
            return Route((address.server,))
        return self.route_bare(address)

    @abstractmethod
    def route_bare(self, address: Address) -> Route:
        """Return the hosts of which any one may get a message for the bare topic `address`."""

    @abstractmethod
    def route_fanout(self, address: Address) -> Route:
        """Return the hosts that all get a message for the fanout `address`."""
