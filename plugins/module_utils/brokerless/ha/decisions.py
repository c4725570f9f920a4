# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What is said of each decision, once: an agent's state changed, there is a plan, an alarm began. The audit file and a replay have the same words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from .liveness import Transition
from .plan import Plan
from .snapshot import Snapshot


class Decisions:
    """Tells decisions. `write` gets the name of the event and its members, as `AuditFile.write` does."""

    def __init__(self, write: Callable[..., None]) -> None:
        """No alarm is there yet."""
        self._write = write
        self._alarms: dict[str, str] = {}

    def transition(self, change: Transition) -> None:
        """An agent's state changed."""
        agent = change.agent
        told = {"agent": agent.id, "agent_type": agent.agent_type, "host": agent.host}
        self._write("transition", **told, before=change.before.value, after=change.after.value, reason=change.reason)

    def plan(self, plan: Plan, snapshot: Snapshot) -> None:
        """There is something to do, or something has no place."""
        if plan or plan.unplaced:
            self._write("plan", plan=plan.to_json(snapshot))

    def alarms(self, alarms: Iterable[Mapping[str, str]]) -> tuple[list[str], list[str]]:
        """Take all alarms that there are; return the texts of those that were not there before, which are told, and of those that are over."""
        found = {f"{each['level']} {each['name']} {each['subject']}": each["text"] for each in alarms}
        begun = [text for key, text in found.items() if key not in self._alarms]
        over = [text for key, text in self._alarms.items() if key not in found]
        self._alarms = found
        for text in begun:
            self._write("alarm", text=text)
        return begun, over
