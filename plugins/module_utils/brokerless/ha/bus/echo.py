# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Whether all that agents say reaches us, known by what we say ourselves. No clock, no socket: time comes in.

Every few seconds we send a message of our own, an echo, the way that agents' reports go: to the same exchange, from where it is routed into the
same queue. When it comes back all that was sent before it has come, because a queue keeps the order; how long it took is how far behind we are,
by our clock alone. Where one is missing or late, something is wrong between the agents and us, whatever a connection's state may be.
"""

from __future__ import annotations

from .base import Event, HearingBegan, HearingInterrupted, Lag


class Echoes:
    """Follows the echoes of one source. The events that a method returns are to be told, in that order."""

    def __init__(self, source: str, *, every: float, deaf_after: float, stall: float) -> None:
        """Send an echo `every` so many seconds; one that is `deaf_after` seconds late, or turns more than `stall` seconds apart, mean deafness."""
        self._source = source
        self._every = every
        self._deaf_after = deaf_after
        self._stall = stall
        self._number = 0
        self._sent: dict[int, float] = {}
        """When each echo was sent that has not come back, the oldest first."""
        self._next = 0.0
        self._proof = 0
        """The first echo whose return proves that we hear (again)."""
        self._turned: float | None = None
        self._complete_until: float | None = None
        self._hears = False
        self._told_deaf = False
        self._lag_told = 0.0

    def opened(self, now: float) -> None:
        """Everything is in place to hear; what was sent on an earlier connection does not come any more."""
        self._sent.clear()
        self._proof = self._number + 1
        self._next = self._turned = self._lag_told = now

    def closed(self, reason: str, now: float) -> list[Event]:
        """Say what it means that the connection is gone, or was not to be had."""
        self._sent.clear()
        self._turned = None
        return self._interrupted(reason, now)

    def due(self, now: float) -> int | None:
        """Return the number of the echo that is to be sent now; None if it is not time."""
        if now < self._next:
            return None
        self._next = now + self._every
        self._number += 1
        self._sent[self._number] = now
        return self._number

    def turn(self, now: float) -> list[Event]:
        """Look at the clock; to be called more often than every `stall` seconds."""
        events: list[Event] = []
        if self._turned is not None and now - self._turned > self._stall:
            # what waited for us meanwhile may have been dropped
            events = self.missed(f"this process stood still for {now - self._turned:.1f} s", now)
        self._turned = now
        overdue = self._overdue(now)
        if overdue > self._every and now - self._lag_told > self._every:
            self._lag_told = now
            events.append(Lag(now, self._source, overdue))
        return events

    def missed(self, reason: str, now: float) -> list[Event]:
        """Say that something was missed, or may have been: only an echo that is sent from now on proves that we hear."""
        self._proof = self._number + 1
        return self._interrupted(reason, now)

    def trouble(self, now: float) -> str:
        """Return why the connection is to be made anew, empty if it is not: echoes do not come back."""
        if self._overdue(now) <= self._deaf_after:
            return ""
        return f"what we send ourselves does not come back within {self._deaf_after:g} s: our queue lost its bindings, or the broker is stuck"

    def came(self, number: int, now: float, waiting: int | None = None) -> list[Event]:
        """Take an echo that came back, with the messages that were `waiting` for us when that was last known."""
        sent_at = self._sent.pop(number, None)
        if sent_at is None:
            return []
        events: list[Event] = []
        skipped = [earlier for earlier in self._sent if earlier < number]
        if skipped:
            for earlier in skipped:
                del self._sent[earlier]
            events += self._interrupted("messages were dropped before we read them: the queue was full, or they waited too long", now)
        self._complete_until = sent_at
        if not self._hears and number >= self._proof:
            self._hears, self._told_deaf = True, False
            events.append(HearingBegan(now, self._source))
        self._lag_told = now
        return [*events, Lag(now, self._source, now - sent_at, waiting)]

    def _overdue(self, now: float) -> float:
        """Return for how many seconds the oldest echo has been on its way, 0 if none is."""
        return now - next(iter(self._sent.values())) if self._sent else 0.0

    def _interrupted(self, reason: str, now: float) -> list[Event]:
        """Return the interruption, unless it is one already."""
        self._hears = False
        if self._told_deaf:
            return []
        self._told_deaf = True
        return [HearingInterrupted(now, self._source, self._complete_until, reason)]
