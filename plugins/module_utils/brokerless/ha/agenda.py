# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Which actions of a plan may begin now: one at a time for each router or network, those that are needed first, and no more at once than is good.

A new plan takes the place of all that has not begun. No clocks or threads: time comes in as `now`, in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .errands import Outcome, Result
from .plan import Action, Kind, Plan

SLOW_SECONDS = 3.0
"""A call that takes longer than this holds up nothing else: its errand no longer counts, and its target gets nothing more meanwhile."""
MOST_UNDER_WAY = 32
"""The most errands that may be under way, slow ones and those that only look whether it came true included."""
RECOVERY = 10
"""After so many errands in a row without a sign of overload, one more may be under way."""


@dataclass(slots=True)
class UnderWay:
    """An action that has begun."""

    plan: int
    action: Action
    writes: bool = True
    """Whether there are still calls to come that change something."""
    call_began: float | None = None
    target: str = ""
    """The id of the agent that is being asked to take something."""


@dataclass(slots=True)
class _Pending:
    plan: int
    actions: dict[int, Action] = field(default_factory=dict)
    good: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    most: int = 1
    settle: bool = False


class Agenda:
    """What is to be done, what is being done, and how much of it at once."""

    def __init__(self, least_pause: float = 0.0) -> None:
        """Begin an action at least `least_pause` seconds after the one before."""
        self._least_pause = least_pause
        self._not_before = 0.0
        self._pending = _Pending(0)
        self._allowed = 1.0
        self._in_a_row = 0
        self._settling: set[str] = set()
        self.under_way: dict[str, UnderWay] = {}

    def replace(self, plan: Plan) -> None:
        """Go by `plan` from now on. What is under way goes on, and what the plan has for the same router or network is left for the next one."""
        busy = self.under_way
        actions = {action.number: action for action in plan.actions if action.thing not in busy}
        self._pending = _Pending(self._pending.plan + 1, actions, most=max(1, plan.in_flight), settle=plan.settle)
        missing = {action.number for action in plan.actions} - set(actions)
        for number, action in list(actions.items()):
            if missing & {*action.needs, *action.after}:
                missing.add(number)
                del actions[number]
        self._allowed = float(min(max(self._allowed, min(2, plan.in_flight)), self._pending.most))

    @property
    def waiting(self) -> int:
        """Return how many actions have not begun."""
        return len(self._pending.actions)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way or waits."""
        return not self.under_way and not self._pending.actions

    def take(self, now: float, unwanted: Callable[[Action], str]) -> tuple[Action | None, list[tuple[Action, str]]]:
        """Return the action that may begin now, if there is one, and those that are dropped, with the reason that `unwanted` gave.

        The action is under way from now on.
        """
        dropped: list[tuple[Action, str]] = []
        slow = {each.target for each in self.under_way.values() if _is_slow(each, now)}
        if now < self._not_before or self._busy(now) >= int(self._allowed) or len(self.under_way) >= MOST_UNDER_WAY:
            return None, dropped
        for action in list(self._pending.actions.values()):
            if action.target is not None and action.target.id in slow:
                continue
            if action.thing in self.under_way or not {*action.needs, *action.after} <= self._pending.ended:
                continue
            del self._pending.actions[action.number]
            failed = set(action.needs) - self._pending.good
            why = f"action {min(failed)}, which it needs, came to nothing" if failed else unwanted(action)
            if why:
                self._pending.ended.add(action.number)
                dropped.append((action, why))
                continue
            target = action.target.id if action.target is not None else ""
            self.under_way[action.thing] = UnderWay(self._pending.plan, action, target=target)
            self._not_before = now + self._least_pause
            return action, dropped
        return None, dropped

    def adopt(self, action: Action) -> None:
        """Let an action be under way that is in no plan."""
        self.under_way[action.thing] = UnderWay(0, action, target=action.target.id if action.target is not None else "")

    def _busy(self, now: float) -> int:
        settling = len(self._settling) if self._pending.settle else 0
        return settling + sum(1 for each in self.under_way.values() if (each.writes or self._pending.settle) and not _is_slow(each, now))

    def ended(self, action: Action, outcome: Outcome) -> None:
        """Take in what became of an action."""
        ended = self.under_way.pop(action.thing)
        if ended.plan == self._pending.plan:
            self._pending.ended.add(action.number)
            if outcome.good:
                self._pending.good.add(action.number)
        if outcome.result is Result.DONE and action.kind is Kind.MOVE_ROUTER and self._pending.settle:
            self._settling.add(action.thing)
        if outcome.result is Result.DONE and action.kind is not Kind.FENCE:
            self._in_a_row += 1
            if self._in_a_row >= RECOVERY and self._allowed < self._pending.most:
                self._allowed += 1
                self._in_a_row = 0

    def settled(self, thing: str) -> None:
        """A router that was moved works, or is not waited for any longer."""
        self._settling.discard(thing)

    def overloaded(self) -> None:
        """Neutron's API has shown that it was asked too much at once, or was not there."""
        self._allowed = max(1.0, self._allowed / 2)
        self._in_a_row = 0


def _is_slow(each: UnderWay, now: float) -> bool:
    return each.call_began is not None and now - each.call_began > SLOW_SECONDS
