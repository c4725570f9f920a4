# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A source of heartbeats, and what it tells: what it heard, and how well it hears.

A source runs in a thread of its own and hands each event to a callback, in order, one at a time. The callback must return at once (put it into a
queue): while it runs the source hears nothing. All times are monotonic seconds of this process; no clock of another host is trusted.

Nobody may be judged by a silence that began before `HearingBegan.at`, nor while the source is deaf (from `HearingInterrupted` to the next
`HearingBegan`, and before the first one), nor by a silence shorter than the `seconds` of the last `Lag`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Overheard:
    """One message that passed on the bus, as `decode_oslo_message` returns it: nothing of the caller's context is in it.

    `exchange` and `routing_key` say where; `heard_at` is when we read it, which may be later than when it was sent by the last `Lag`.
    """

    heard_at: float
    exchange: str
    routing_key: str
    message: Mapping[str, Any]

    @property
    def method(self) -> str:
        """The remote procedure that is called, or the type of event of a notification; empty if it is neither."""
        return str(self.message.get("method") or self.message.get("event_type") or "")


@dataclass(frozen=True, slots=True)
class HeardReport(Overheard):
    """An agent's `report_state`. What identifies the agent is checked text; the rest of what it says is in `agent_state`, as it came."""

    host: str
    agent_type: str
    binary: str
    agent_state: Mapping[str, Any] = field(default_factory=dict)
    told_at: str = ""
    """The agent's own clock, as it wrote it; for a report of skewed clocks, nothing else."""


@dataclass(frozen=True, slots=True)
class HearingBegan:
    """From `at` on everything that agents report is heard. What was sent before may be missing."""

    at: float
    source: str


@dataclass(frozen=True, slots=True)
class HearingInterrupted:
    """Something may have been missed of what was sent after `since` (None: nothing was ever heard); `reason` is for the operator.

    Nothing can be concluded from silence until the next `HearingBegan`. Told once for each interruption.
    """

    at: float
    source: str
    since: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Lag:
    """How far behind the source is: what is heard now was sent up to `seconds` ago, measured with this process's clock alone.

    `waiting` is how many messages wait for us where they are kept, None where that is not known.
    """

    at: float
    source: str
    seconds: float
    waiting: int | None = None


Event: TypeAlias = "Overheard | HearingBegan | HearingInterrupted | Lag"
Tell = Callable[[Event], None]


class Source(Protocol):
    """Where heartbeats come from."""

    def start(self) -> None:
        """Begin to listen, in the background. That nobody is there to listen to is no error: it is told as an interruption, and tried again."""

    def close(self) -> None:
        """Stop listening, and tell nothing any more. Returns within seconds, whatever the other side does."""
