# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Agents that report and a daemon's watch that is told of it, second by second in a time of their own, with nothing between the two."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import Any

from brokerless.ha.bus.base import HearingBegan
from brokerless.ha.bus.oslo_message import heard
from brokerless.ha.decisions import Decisions
from brokerless.ha.errands import Outcome, Result
from brokerless.ha.plan import Action
from brokerless.ha.snapshot import OVN, Agent
from brokerless.ha.watch import Watch
from clouds import Cloud


class WatchedCloud:
    """A cloud and its watch. Time begins at the monotonic clock's, and passes by `passes`. What is planned is carried out, one action a second."""

    def __init__(self, cloud: Cloud, watch: Watch, report_interval: float, listed_every: int = 1) -> None:
        """Hosts report in turn, each every `report_interval` seconds; Neutron names the agents every `listed_every` seconds."""
        self.cloud = cloud
        self.watch = watch
        self.now = time.monotonic()
        self.wall_ahead = time.time() - self.now
        self.silent: set[str] = set()
        self.decided: list[tuple[str, dict[str, Any]]] = []
        """What was decided: event and members, as the audit file has them."""
        self.fails: set[str] = set()
        """Routers that can't be moved."""
        self.acts = True
        self.answers = True
        self._decisions = Decisions(lambda event, **told: self.decided.append((event, told)))
        self._interval = report_interval
        self._listed_every = listed_every
        self._hosts = sorted({agent["host"] for agent in cloud.agents.values()})
        self._reported = {host: self.now + report_interval * number / len(self._hosts) for number, host in enumerate(self._hosts)}
        self._agenda: list[Action] = []
        self._seconds = itertools.count()
        self._snapshot = cloud.snapshot()
        self.watch.hear(HearingBegan(self.now, "the test"), self.now + self.wall_ahead)

    def passes(self, seconds: int) -> None:
        """Let time pass."""
        for _second in range(seconds):
            self.now += 1.0
            wall = self.now + self.wall_ahead
            self._report(wall)
            if next(self._seconds) % self._listed_every == 0:
                self._list()
            for change in self.watch.tick(self.now, wall):
                self._decisions.transition(change)
            self._decisions.alarms(self.watch.alarms())
            needs = self.watch.needs(self.now, busy=bool(self._agenda), leads=True)
            if needs.snapshot:
                self.looks()
            if self._agenda:
                self._carry_out(self._agenda.pop(0))

    def _report(self, wall: float) -> None:
        for host in self._hosts:
            if self.now < self._reported[host]:
                continue
            self._reported[host] += self._interval
            if host in self.silent:
                continue
            at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall))
            for agent in self.cloud.agents.values():
                if agent["host"] == host:
                    state = {name: agent[name] for name in ("agent_type", "host", "configurations")}
                    message = {"method": "report_state", "args": {"agent_state": {"agent_state": state}, "time": at}}
                    self.watch.hear(heard(self.now, "neutron", "q-reports-plugin", message), wall)

    def _list(self) -> None:
        if not self.answers:
            self.watch.unanswered("agents", "503")
            return
        self.watch.listed((self._as_listed(agent) for agent in self._snapshot.agents.values() if agent.agent_type not in OVN), self.now, self.now)

    def _as_listed(self, agent: Agent) -> Agent:
        return replace(agent, alive=agent.host not in self.silent, heartbeat_at=self.now)

    def looks(self) -> None:
        """Read the cloud, and go by the plan."""
        self._snapshot = self.cloud.snapshot()
        plan, _said = self.watch.looked(self._snapshot, self.now)
        self._decisions.plan(plan, self.watch.snapshot)
        if self.acts:
            self._agenda = list(plan.actions)

    def _carry_out(self, action: Action) -> None:
        if action.thing in self.fails:
            self.watch.ended(action, Outcome(Result.FAILED, "it can't be moved"), self.now)
            return
        for end, agent in (("from", action.source), ("to", action.target)):
            if agent is not None:
                hosted = self.cloud.hosting[agent.id]
                self.cloud.hosting[agent.id] = [each for each in hosted if each["id"] != action.thing] + [{"id": action.thing}] * (end == "to")
        self.watch.ended(action, Outcome(Result.DONE, "it was moved", action.target), self.now)
