# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Whether we can hear: since when we have listened to the bus without a gap, and how far behind it we are. No clock: time comes in.

A silence counts only from `Hearing.since` on. Whatever may have kept heartbeats from us moves that time forward: a connection that was lost, a
process that stood still, messages that come late, too many that wait, and a bus on which nobody at all is heard.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median_low

from .policy import PolicySettings
from .snapshot import AgentKey

BASELINE_SECONDS = 600.0
"""Twice so long is the smallest delay of an agent's reports remembered, against which their lateness is measured."""
ENOUGH_AGENTS = 3
"""Reports of so many agents are needed to say that all come late: one agent's clock may have been set."""


@dataclass(slots=True)
class _Clock:
    """What is known of an agent's clock: offsets are our monotonic time of receipt less the agent's time of sending."""

    sent_at: float
    newest: float
    heard_at: float
    smallest: float
    smallest_before: float
    bucket_began: float
    skew: float | None = None

    @property
    def late(self) -> float:
        return self.newest - min(self.smallest, self.smallest_before)


class Hearing:
    """What we can say about our own ears.

    `since` is None while we are deaf; `why` says what the last gap was. Until `reconnecting_until` agents may still be busy to get back to the bus.
    """

    def __init__(self, policy: PolicySettings) -> None:
        self._policy = policy
        self._connected = False
        self._clocks: dict[AgentKey, _Clock] = {}
        self._heard_any: float | None = None
        self._ticked: tuple[float, float | None] | None = None
        self._backlog = self._late = ""
        self._was_away = False
        self.since: float | None = None
        self.reconnecting_until = -math.inf
        self.why = "we have not connected to the bus yet"

    def listening(self, now: float) -> None:
        """The bus is connected, and our queue is consumed."""
        if not self._connected:
            self._connected = True
            self._begin(now)

    def deaf(self, why: str, now: float) -> None:
        """We hear nothing: the connection is lost, or could not be made."""
        self._connected = False
        self._was_away = True
        self.since = None
        self.why = why

    def _begin(self, now: float) -> None:
        self.since = now
        if self._was_away:
            # What kept the bus from us may have kept it from the agents.
            self._was_away = False
            self.reconnecting_until = now + self._policy.reconnect_grace

    def gap(self, why: str, now: float) -> None:
        """Something may have been missed until now."""
        self.why = why
        if self.since is not None:
            self.since = now

    def backlog(self, messages: int, now: float) -> None:
        """So many messages wait in our queue."""
        self._backlog = ""
        if messages > self._policy.max_backlog:
            self._backlog = f"{messages} messages wait in our queue, more than max_backlog ({self._policy.max_backlog}): what we hear is old"
            self.gap(self._backlog, now)
        elif not messages:
            # with nothing that waits, a delay is the clocks'
            for clock in self._clocks.values():
                clock.smallest = clock.smallest_before = clock.newest

    def heard(self, key: AgentKey, sent_at: float | None, now: float, wall: float | None) -> None:
        """A report came in. `wall` is our own clock (seconds since 1970): it is compared with the agent's for the report of skews only."""
        self._heard_any = now
        if self._connected and self.since is None:
            self._begin(now)
        if sent_at is None:
            return
        offset = now - sent_at
        clock = self._clocks.get(key)
        if clock is None:
            clock = self._clocks[key] = _Clock(sent_at, offset, now, offset, offset, now)
        if sent_at < clock.sent_at:
            # No queue turns time back: the clock was set.
            clock.smallest = clock.smallest_before = offset
        if now - clock.bucket_began > BASELINE_SECONDS:
            clock.smallest_before, clock.smallest, clock.bucket_began = clock.smallest, offset, now
        clock.newest = offset
        clock.sent_at = sent_at
        clock.heard_at = now
        clock.smallest = min(clock.smallest, offset)
        clock.skew = None if wall is None else sent_at - wall

    @property
    def trouble(self) -> str:
        """Return why nothing that we heard can be relied on now, empty if it can."""
        return self.why if self.since is None else self._late or self._backlog

    def forget(self, key: AgentKey) -> None:
        """The agent is no more."""
        self._clocks.pop(key, None)

    def lag(self, now: float) -> float:
        """Return by how many seconds reports come later than they used to: the middle one of all agents heard lately, 0 if those are too few.

        Clocks of single agents may be set without an effect. The agents' clocks are compared with nothing but their own past.
        """
        lately = [clock.late for clock in self._clocks.values() if now - clock.heard_at <= self._policy.overdue_after]
        return median_low(lately) if len(lately) >= ENOUGH_AGENTS else 0.0

    def skews(self) -> dict[AgentKey, float]:
        """Return by how many seconds agents' clocks are ahead of ours, where that is more than `skew_report`; nothing depends on it."""
        found = {key: clock.skew for key, clock in self._clocks.items() if clock.skew is not None}
        return {key: skew for key, skew in found.items() if abs(skew) > self._policy.skew_report}

    def tick(self, now: float, wall: float | None = None) -> None:
        """Look for gaps: of our own running, of what comes in. To be called about every second."""
        before, self._ticked = self._ticked, (now, wall)
        policy = self._policy
        if before is not None:
            stood_still = now - before[0]
            asleep = 0.0 if wall is None or before[1] is None else wall - before[1] - stood_still
            if stood_still > policy.tick_gap:
                self.gap(f"we stood still for {stood_still:.0f} s", now)
            elif asleep > policy.tick_gap:
                self.gap(f"the clock jumped by {asleep:.0f} s: this host slept, or its clock was set", now)
        self._late = ""
        if (lag := self.lag(now)) > policy.max_lag:
            self._late = f"heartbeats come {lag:.0f} s later than they used to: our queue is not emptied fast enough"
        if behind := self._late or self._backlog:
            self.gap(behind, now)
        if self.since is not None and now - max(self.since, self._heard_any or self.since) > policy.quiet_after:
            self.since = None
            self._was_away = True
            self.why = f"no agent at all was heard for {policy.quiet_after:.0f} s: either we are deaf or the whole bus is"
