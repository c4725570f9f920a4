# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What a leader may do, and until when, however the replicas agree on who it is. No clock, no thread: time comes in.

A leader is confirmed again and again, and a confirmation is worth what it was when it was asked for: `seconds` from then on nobody else writes.
Three rules make that true whatever freezes, breaks or restarts:

* A leader writes only while its confirmation is not older than half the lease, and only what must end (the call's own time limit) within the lease.
* A new leader does not write for a whole lease, in which its predecessor's last confirmation runs out, unless the predecessor has said that it
  writes no more.
* A lease that ran out is never continued: who is confirmed after that leads anew, in a new term.

Age is what the monotonic clock or the wall clock says, whichever says more: the one stands still while a machine sleeps, the other may be set.
A clock that is set forward costs a new term; no clock can lengthen a lease.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

DEFAULT_LEASE = 30.0
"""Longer than the time limit of a call of Neutron's API, which is 20 seconds by default."""


@dataclass(frozen=True, slots=True)
class Held:
    """Leadership as it was last confirmed: its `term`, when that was asked for by both clocks, and from when on it may write."""

    term: int
    at: float
    wall: float
    writes_from: float

    def age(self, now: float, wall: float) -> float:
        """Return how old the confirmation is, in seconds."""
        return max(now - self.at, wall - self.wall)


class Lease:
    """This replica's leadership. One thread changes it; any thread may ask."""

    def __init__(self, seconds: float = DEFAULT_LEASE) -> None:
        """Nothing is held yet."""
        self.seconds = seconds
        self._held: Held | None = None
        self._last_term = 0
        self._reason = "no leader has been agreed on yet"

    @property
    def term(self) -> int | None:
        """The number of the term that is held, None if none is. A later term, of whichever replica, has a higher number."""
        held = self._held
        return held.term if held else None

    @property
    def lost(self) -> str:
        """Why nothing is held, empty if something is."""
        return "" if self._held else self._reason

    def begin(self, asked_at: float, asked_wall: float, seen_term: int, now: float, wall: float) -> int:
        """Begin a term, higher than `seen_term` and this replica's own ones, confirmed by what was asked at `asked_at`; return its number.

        The wall clock's seconds are the least that it is, so that terms go on rising where nothing remembers the last one.
        """
        self._last_term = max(seen_term, self._last_term, int(wall)) + 1
        self._held = Held(self._last_term, asked_at, asked_wall, now + self.seconds)
        return self._last_term

    def confirm(self, asked_at: float, asked_wall: float, now: float, wall: float) -> None:
        """Count from a later confirmation. One that comes after the lease ran out does not revive it."""
        self.expire(now, wall)
        held = self._held
        if held and asked_at > held.at:
            self._held = replace(held, at=asked_at, wall=asked_wall)

    def waits(self, now: float) -> bool:
        """Tell whether an earlier leader may still write, so that this one does not yet."""
        held = self._held
        return held is not None and now < held.writes_from

    def write_from(self, now: float) -> None:
        """The predecessor has said that it writes no more: there is nothing to wait for."""
        held = self._held
        if held and now < held.writes_from:
            self._held = replace(held, writes_from=now)

    def lose(self, reason: str) -> None:
        """Hold nothing any more. `reason` is for the operator."""
        if self._held:
            self._reason = f"term {self._held.term} ended: {reason}"
        self._held = None

    def expire(self, now: float, wall: float) -> None:
        """Lose what ran out."""
        held = self._held
        if held and held.age(now, wall) > self.seconds:
            self.lose(f"it was not confirmed for {held.age(now, wall):.1f} s, and the lease is {self.seconds:g} s")

    def is_leader(self, now: float, wall: float) -> bool:
        """Tell whether this replica leads, as far as it knows: enough to prepare, not to write."""
        held = self._held
        return held is not None and held.age(now, wall) <= self.seconds

    def may_write(self, now: float, wall: float, needs: float, term: int | None = None) -> bool:
        """Tell whether a call that ends within `needs` seconds from now may be made, if planned in `term` in that one only."""
        held = self._held
        if held is None or now < held.writes_from or term not in {None, held.term}:
            return False
        age = held.age(now, wall)
        return age <= self.seconds / 2 and age + needs <= self.seconds


class Leadership(Protocol):
    """A way to agree on a leader. Times are monotonic seconds of this process."""

    def start(self) -> None:
        """Begin to stand for leader, in the background. What it depends on may be away: then nobody leads."""

    def close(self) -> None:
        """Stop, and let another replica lead at once where that can be said. No write may be going on any more."""

    @property
    def term(self) -> int | None:
        """As `Lease.term`."""

    @property
    def lost(self) -> str:
        """As `Lease.lost`."""

    def is_leader(self, now: float) -> bool:
        """As `Lease.is_leader`."""

    def may_write(self, now: float, needs: float, term: int | None = None) -> bool:
        """As `Lease.may_write`; to be asked right before each write."""
