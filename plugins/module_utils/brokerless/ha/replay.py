# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Judge and plan what was recorded, offline: the decisions of then, or those that other thresholds would have come to.

With the thresholds of the recording the decisions are those that were made. With others, what was asked of Neutron is still what was asked then:
where a plan is wanted and nobody looked at the cloud, it is made of what was seen there last.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .bus.base import Event, HeardReport
from .bus.recording import Noted, ProcessBegan, Replay
from .decisions import Decisions
from .policy import PolicySettings
from .recorded_watch import POLICY, policy_of, tell
from .watch import Watch

LOOK_SECONDS = 10.0
"""So long after a plan was wanted it is made without a look at the cloud, if the recording has none."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided: `at` is in seconds since 1970, `event` and `told` are as in the audit file."""

    at: float
    event: str
    told: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {"at": self.at, "event": self.event, **self.told}


@dataclass(slots=True)
class Summary:
    """What was replayed. `others` are the thresholds that differ from those of the recording, by name: (then, now)."""

    lines: int = 0
    damaged: int = 0
    heartbeats: int = 0
    seconds: float = 0.0
    others: dict[str, tuple[Any, Any]] = field(default_factory=dict)


def replay(files: Iterable[Path], policy: PolicySettings, managed: Collection[str], found: Callable[[Decision], None]) -> Summary:
    """Replay a recording, the oldest file first; `found` gets each decision in turn. Raises `RecordingError`, and `OSError`."""
    replaying = _Replaying(policy, managed, found)
    recording = Replay(files)
    recording.run(replaying.take)
    replaying.summary.lines = recording.lines
    replaying.summary.damaged += recording.damaged
    return replaying.summary


class _Replaying:
    def __init__(self, policy: PolicySettings, managed: Collection[str], found: Callable[[Decision], None]) -> None:
        self._policy = policy
        self._managed = managed
        self._found = found
        self._wall = 0.0
        self._began: float | None = None
        self.summary = Summary()
        self._begin()

    def _begin(self) -> None:
        """Know nothing, as a process that begins."""
        self._watch = Watch(self._policy, self._managed)
        self._decisions = Decisions(self._decided)
        self._wanted_at: float | None = None

    def _decided(self, event: str, **told: Any) -> None:
        self._found(Decision(self._wall, event, told))

    def take(self, event: Event | Noted | ProcessBegan, wall: float) -> None:
        """Take in the next event."""
        self._wall = wall
        self._began = wall if self._began is None else self._began
        self.summary.seconds = wall - self._began
        if isinstance(event, ProcessBegan):
            self._begin()
        elif not isinstance(event, Noted):
            self.summary.heartbeats += isinstance(event, HeardReport)
            self._watch.hear(event, wall)
        else:
            try:
                self._take_note(event)
            except ValueError:
                self.summary.damaged += 1

    def _take_note(self, note: Noted) -> None:
        if note.what == POLICY:
            then = policy_of(note)
            both = {each.name: (getattr(then, each.name), getattr(self._policy, each.name)) for each in fields(then)}
            self.summary.others = {name: values for name, values in both.items() if values[0] != values[1]}
            return
        answer = tell(self._watch, note)
        if note.what == "tick":
            for change in answer:
                self._decisions.transition(change)
            self._plan_unasked(note.at)
            self._decisions.alarms(self._watch.alarms())
        elif note.what in {"looked", "rebalance"}:
            self._wanted_at = None
            self._decisions.plan(self._watch.plan, self._watch.snapshot)

    def _plan_unasked(self, now: float) -> None:
        """With other thresholds than those of the recording, plan where they want a plan."""
        if not self.summary.others or not self._watch.snapshot.agents:
            return
        if self._wanted_at is None and self._watch.unplanned():
            self._wanted_at = now
        if self._wanted_at is not None and now - self._wanted_at >= LOOK_SECONDS:
            self._wanted_at = None
            self._watch.looked(self._watch.snapshot, now)
            self._decisions.plan(self._watch.plan, self._watch.snapshot)
