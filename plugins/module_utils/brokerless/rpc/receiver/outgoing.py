# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What is on its way: a message, its copies for single hosts, the line in which a copy stands, and the host to which that leads."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from ..envelope import MessageId
from ..protocol import Parcel
from ..topics import Address

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
"""Seconds after which a lane that was pushed back is tried again: the first time, and at most, doubling in between."""

Source = tuple[str, bytes]
"""Whom to tell what became of a message: ("client", key) or ("link", key); nobody needs to be told of what is in the store of notifications."""


@dataclass(slots=True)
class Outgoing:
    """A message that is on its way to its host or hosts."""

    parcel: Parcel
    source: Source
    deadline: float
    copies: dict[str, Copy] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    in_grace: bool = False
    relayed_to: str = ""
    """The host that the broker said it gave it to."""
    before: Outgoing | None = None
    behind: Outgoing | None = None
    """The neighbours among the messages of the same process for the same directed topic that are on their way."""
    told_why: str = ""


@dataclass(slots=True)
class Copy:
    """What goes to one host, which with `to_broker` is to route it. `sent_to` is the incarnation that it was first sent to."""

    outgoing: Outgoing
    lane: Lane
    to_broker: bool = False
    attempt: int = 0
    sent_to: str | None = None
    sent_at: float = 0.0


@dataclass(slots=True)
class Lane:
    """What goes to one host for one address, in order; `sent` has no verdict yet."""

    host: str
    address: Address
    unsent: OrderedDict[MessageId, Copy] = field(default_factory=OrderedDict)
    sent: OrderedDict[MessageId, Copy] = field(default_factory=OrderedDict)
    paused_until: float = 0.0
    pause: float = FIRST_PAUSE
    no_consumer_until: float = 0.0


@dataclass(slots=True)
class Target:
    """A host to which messages may go.

    `incarnation` is None while it is not up; `why_not` says why, `not_up_since` since when. `consumes` is what it announced last, None if it
    never did.
    """

    host: str
    not_up_since: float
    incarnation: str | None = None
    why_not: str = "not connected yet"
    consumes: frozenset[Address] | None = None
    lanes: dict[Address, Lane] = field(default_factory=dict)

    def outstanding(self) -> int:
        """Return how many messages for the host have no verdict yet."""
        return sum(len(lane.unsent) + len(lane.sent) for lane in self.lanes.values())
