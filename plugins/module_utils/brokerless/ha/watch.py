# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The watch: from what is heard and asked to what is to be asked next and what is to be done. No sockets, clocks or threads: time comes in.

An idle watch asks for little: Neutron's agents, now and then, and the networks (or routers) that may have been created. What agents host is read
only when there is a reason, which every request for a snapshot names.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .bus.base import Event, HeardReport, HearingBegan, HearingInterrupted, Lag, Overheard
from .coexistence import Coexistence, MoveBudget
from .eligibility import Eligibility
from .errands import Outcome, Result
from .journal import HostWish, OpenMove
from .liveness import Judge, Judgement, State, Transition, Verdict
from .maintenance import parse_windows
from .plan import Action, Kind, Plan
from .planner import Wishes, plan_rebalance, plan_undrain, plan_watch, what_if
from .policy import PolicySettings
from .settling import Settled, Settling
from .snapshot import DHCP, L3, Agent, AgentKey, Snapshot, SnapshotError, heartbeat_from_message

LOG = logging.getLogger("rpcdaemon")
QUICK_SECONDS = 1.0
"""While an agent's life is in doubt Neutron is asked so often."""
AGAIN_SECONDS = 30.0
"""While there is something to do the cloud is looked at anew so often, and at once when all that was planned has ended."""
POLL_SECONDS = 30.0
"""Whether networks (or routers) were created is looked at so often."""
UNANSWERED = 2
"""If Neutron's API answers the same question so many times in a row with nothing, there is an alarm."""
FINISH_SECONDS = 5.0
"""What is left of a broken move is tried again so often."""
FAILURE_PAUSE = 20.0
LONGEST_FAILURE_PAUSE = 600.0
"""What failed is left alone for so long, doubling each time."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What the watch wants to be asked now. `snapshot` is the reason for one, empty if none is wanted; `settling` are routers whose ports matter."""

    agents: bool = False
    poll: bool = False
    snapshot: str = ""
    settling: tuple[str, ...] = ()


@dataclass(slots=True)
class _Failure:
    count: int
    until: float
    why: str


@dataclass(slots=True)
class _Tally:
    """What is counted for metrics."""

    outcomes: dict[tuple[str, str], int] = field(default_factory=dict)


class Watch:
    """All that one daemon knows and decides."""

    def __init__(self, policy: PolicySettings, managed: Collection[str]) -> None:
        """Care for the agents of the types `managed`."""
        self.policy = policy
        self.managed = frozenset(managed)
        self.judge = Judge(policy, managed)
        self.judgement = Judgement({})
        self.snapshot = Snapshot({})
        self.plan = Plan("")
        self.tally = _Tally()
        self.settling = Settling(policy.settle_within)
        self._others = Coexistence(policy)
        self._failback = MoveBudget(policy.failback_per_hour, parse_windows(policy.failback_windows))
        self._wall_ahead = 0.0
        self._wishes: dict[str, HostWish] = {}
        self._fenced: set[str] = set()
        self._ours: set[tuple[str, str]] = set()
        self._failures: dict[str, _Failure] = {}
        self._open: dict[str, OpenMove] = {}
        self._tried: dict[str, float] = {}
        self._asked_agents = self._polled = self._looked = float("-inf")
        self._waits_for: set[str] = set()
        self._unanswered: dict[str, int] = {}
        self._api_trouble = ""
        self._known: frozenset[str] | None = None
        self._reason = "nothing was read yet"
        self._again_at = float("inf")
        self._evacuated: set[str] = set()

    # --- what comes in -------------------------------------------------------------------------------------------------------------------

    def hear(self, event: Event, wall: float) -> None:
        """The bus told something. `wall`, seconds since 1970, is for the report of clocks that are off."""
        hearing = self.judge.hearing
        match event:
            case HearingBegan():
                hearing.listening(event.at)
            case HearingInterrupted():
                hearing.deaf(event.reason, event.at)
            case Lag():
                if event.waiting is not None:
                    hearing.backlog(event.waiting, event.at)
                if event.seconds > self.policy.max_lag:
                    hearing.gap(f"what we hear is {event.seconds:.0f} s old", event.at)
            case HeardReport():
                try:
                    heartbeat = heartbeat_from_message(event.message)
                except SnapshotError as error:
                    LOG.debug("a heartbeat is not understood: %s", error)
                else:
                    if heartbeat is not None:
                        self.judge.heard(heartbeat, event.heard_at, wall)
            case Overheard():
                pass

    def listed(self, agents: Iterable[Agent], now: float, asked_at: float) -> None:
        """Neutron named its agents."""
        self._answered("agents")
        self.judge.listed(agents, now, asked_at)

    def polled(self, things: Collection[str]) -> None:
        """Neutron named the networks and routers that may need an agent: each by its id and whatever changes when it begins to need one."""
        self._answered("poll")
        known, self._known = self._known, frozenset(things)
        if known is not None and known != self._known:
            self._want("networks or routers were created or deleted")

    def unanswered(self, question: str, trouble: str) -> None:
        """Neutron did not answer one of the questions `agents`, `poll`, `snapshot` or `settling`."""
        self._waits_for.discard(question)
        self._unanswered[question] = self._unanswered.get(question, 0) + 1
        self._api_trouble = trouble
        if question == "agents":
            self.judge.unanswered(trouble)

    def probed(self, host: str, up: bool | None, detail: str, now: float) -> None:
        """A host was asked whether it is up."""
        before = self.judge.known_down(host, now)
        self.judge.probed(host, up=up, detail=detail, now=now)
        if self.judge.known_down(host, now) is not before:
            self._want(detail)

    def _answered(self, question: str) -> None:
        self._waits_for.discard(question)
        self._unanswered.pop(question, None)

    def tick(self, now: float, wall: float) -> list[Transition]:
        """Judge; return which agents' states changed."""
        self._wall_ahead = wall - now
        changes = self.judge.tick(now, wall)
        self.judgement = self.judge.judgement(now)
        self._fenced -= {change.agent.host for change in changes if change.after in {State.ALIVE, State.RETURNING}}
        for change in changes:
            if change.agent.agent_type in self.managed and (change.before is State.DEAD or change.after in {State.DEAD, State.ALIVE}):
                self._want(f"{change.agent} is {change.after}")
        evacuated = {agent for agent, verdict in self.judgement.verdicts.items() if verdict.evacuate}
        if evacuated - self._evacuated:
            self._want("an agent may be evacuated now")
        self._evacuated = evacuated
        return changes

    def _want(self, reason: str) -> None:
        self._reason = self._reason or reason

    def needs(self, now: float, *, busy: bool, leads: bool) -> Needs:
        """Return what is to be asked now. `busy` says whether actions are under way or wait."""
        doubts = any(verdict.state in {State.SUSPECT, State.UNKNOWN} for verdict in self.judgement.verdicts.values())
        often = QUICK_SECONDS if doubts else self.policy.api_fresh / 2
        agents = "agents" not in self._waits_for and now - self._asked_agents >= often
        poll = leads and bool(self._polls) and "poll" not in self._waits_for and now - self._polled >= POLL_SECONDS
        reason = self._reason_to_look(now, busy=busy) if leads and "snapshot" not in self._waits_for else ""
        if agents:
            self._asked_agents = now
            self._waits_for.add("agents")
        if poll:
            self._polled = now
            self._waits_for.add("poll")
        if reason:
            self._looked = now
            self._reason = ""
            self._waits_for.add("snapshot")
        settling = self.settling.to_ask(now) if leads and "settling" not in self._waits_for else ()
        if settling:
            self._waits_for.add("settling")
        return Needs(agents, poll, reason, settling)

    @property
    def _polls(self) -> frozenset[str]:
        """Return which types of things may come to need an agent without an agent's state changing."""
        return self.managed & ({DHCP} | ({L3} if self.policy.adopt_orphans else set()))

    def _reason_to_look(self, now: float, *, busy: bool) -> str:
        if self.judgement.deaf or not self.judgement.verdicts:
            return ""
        if self._reason and now - self._looked >= 1.0:
            return self._reason
        if now >= self._again_at:
            return "what was left alone, had nowhere to go, or had to wait may go now"
        unfinished = bool(self.plan.actions) or bool(self._drains_unfinished())
        if not unfinished:
            return ""
        if self.plan.actions and not busy and now - self._looked >= 1.0:
            return "what was planned has ended"
        return "there is something to do" if now - self._looked >= AGAIN_SECONDS else ""

    def _drains_unfinished(self) -> list[str]:
        draining = self.hosts_that_are("draining")
        return [agent.id for agent in self.snapshot.agents.values() if agent.host in draining and self.snapshot.hosted_by(agent.id)]

    # --- plans ---------------------------------------------------------------------------------------------------------------------------

    def looked(self, snapshot: Snapshot, now: float, under_way: Iterable[Action] = ()) -> tuple[Plan, list[str]]:
        """Take a snapshot that was read; return the plan, and what others did meanwhile, in words.

        What is `under_way` counts as done, and is left alone.
        """
        self._answered("snapshot")
        acting = list(under_way)
        said = self._others.observe(
            snapshot, self._ours | {(each.thing, end.id) for each in acting for end in (each.source, each.target) if end}, now
        )
        self._ours.clear()
        for action in acting:
            snapshot = _as_done(snapshot, action)
        self.snapshot = snapshot
        self.settling.forget(each.router for each in self.settling.late() if each.router not in snapshot.hosted_by(each.agent.id))
        self.plan = self._in_no_hurry(plan_watch(snapshot, self._judged, self.policy, self.wishes(now, {action.thing for action in acting})))
        self._forget_failures(now)
        waits = [failure.until for failure in self._failures.values() if failure.until > now]
        if self.plan.unplaced or self._others.stand_back(now):
            waits.append(now + AGAIN_SECONDS)
        waits.append(now + self._failback.again_in(now, now + self._wall_ahead))
        self._again_at = min(waits)
        return self.plan, said

    def _forget_failures(self, now: float) -> None:
        """Forget what failed and is not wanted any more: the router was deleted, its agent came back, or somebody else moved it."""
        wanted = {action.thing for action in self.plan.actions} | {each.thing for each in self.plan.unplaced}
        self._failures = {thing: failure for thing, failure in self._failures.items() if failure.until > now or thing in wanted}

    def _in_no_hurry(self, plan: Plan) -> Plan:
        """Let a plan that leaves no dead agent be carried out as a drain is: what it moves works where it is."""
        leaves_the_dead = any(
            action.source is not None and (verdict := self.judgement.verdicts.get(action.source.id)) is not None and verdict.evacuate
            for action in plan.actions
        )
        return plan if leaves_the_dead else replace(plan, **self.policy.carried_out(hurry=False))

    @property
    def _judged(self) -> Judgement:
        """Return the judgement, in which agents on which routers do not work get more only if nobody else can have it."""
        slow = self.settling.slow()
        if not slow:
            return self.judgement
        verdicts = {
            agent: replace(verdict, reluctance=verdict.reluctance or slow.get(agent, "")) for agent, verdict in self.judgement.verdicts.items()
        }
        return replace(self.judgement, verdicts=verdicts)

    def unplanned(self) -> bool:
        """Whether a dead agent is to be evacuated, and the plan does not know it yet."""
        planned = {action.source.id for action in self.plan.actions if action.source is not None} | {
            each.source.id for each in self.plan.unplaced if each.source is not None
        }
        return any(agent not in planned and self.snapshot.hosted_by(agent) for agent in self._evacuated)

    def wishes(self, now: float, busy: Collection[str] = ()) -> Wishes:
        """Return what plans have to go by now."""
        stand_back = self._others.stand_back(now)
        stand_back |= {thing: failure.why for thing, failure in self._failures.items() if failure.until > now}
        stand_back |= dict.fromkeys(self._open, "its move is being finished")
        stand_back |= dict.fromkeys(busy, "it is being moved")
        return Wishes(
            managed=self.managed,
            cordoned=self.hosts_that_are("cordoned"),
            draining=self.hosts_that_are("draining"),
            fenced=frozenset(self._fenced),
            stand_back=stand_back,
            orphans=self._others.orphans(now),
            failback_moves=self._failback.left(now, now + self._wall_ahead),
        )

    def plan_of(self, purpose: str, argument: str, now: float, budget: int | None = None) -> Plan:
        """Return the plan of a `rebalance`, of an `undrain` of a host, of a `drain`, or `what-if` hosts died, of the newest snapshot."""
        wishes = self.wishes(now)
        if purpose == "rebalance":
            return plan_rebalance(self.snapshot, self._judged, self.policy, wishes, budget)
        if purpose == "undrain":
            return plan_undrain(self.snapshot, self._judged, self.policy, argument, wishes, budget)
        if purpose == "what-if":
            return what_if(self.snapshot, self._judged, self.policy, argument.replace(",", " ").split(), wishes)
        if purpose == "drain":
            wishes = replace(wishes, draining=wishes.draining | {argument})
        return plan_watch(self.snapshot, self._judged, self.policy, wishes)

    def still_wanted(self, action: Action) -> str:
        """Return why an action that was planned is not wanted any more, empty if it is."""
        if self.judgement.deaf:
            return f"we hear nothing: {self.judgement.deaf}"
        if action.target is not None and (why := self._not_fit(action.target)):
            return why
        if action.kind is Kind.DISABLE_AGENT:
            host = action.source.host if action.source else ""
            return "" if host in self.hosts_that_are("draining") else f"{host} is not drained any more"
        planned = next((each for each in self.plan.actions if each.thing == action.thing), None)
        if action.source is None or planned is None or self.plan.purpose != "watch":
            return ""
        source = self.judgement.verdicts.get(action.source.id)
        if source is None or source.evacuate or action.source.host in self.hosts_that_are("draining"):
            return ""
        if action.kind is Kind.MOVE_ROUTER and not self._is_failback(action.source):
            return f"{action.source} is {source.state} again: {source.reason}"
        return ""

    def _is_failback(self, source: Agent) -> bool:
        """Whether routers leave an agent that is well, to even out the loads."""
        verdict = self.judgement.verdicts.get(source.id)
        well = verdict is not None and verdict.state is State.ALIVE and source.host not in self.hosts_that_are("draining")
        return well and bool(self.policy.failback_per_hour)

    def _not_fit(self, target: Agent) -> str:
        verdict = self.judgement.verdicts.get(target.id)
        if verdict is None:
            return f"{target} is not in Neutron's list any more"
        if not verdict.heard_now or verdict.state not in {State.ALIVE, State.RETURNING}:
            return f"{target}, where it was to go, is {verdict.state}: {verdict.reason}"
        return ""

    def choose(self, action: Action, refused: Mapping[str, str]) -> Agent | None:
        """Return the best target for a router that has no agent, but for those that `refused` it."""
        router = self.snapshot.routers.get(action.thing)
        if router is None or self.judgement.deaf:
            return None
        barred = dict.fromkeys(self.hosts_that_are("cordoned") | self.hosts_that_are("draining"), "its host is cordoned or drained")
        usable = Eligibility(self.snapshot, self._judged, barred).of_router(router).without(frozenset(refused))
        return min(usable, key=lambda agent: (self.snapshot.load(agent), agent.host), default=None)

    # --- what was done -------------------------------------------------------------------------------------------------------------------

    def ended(self, action: Action, outcome: Outcome, now: float) -> None:
        """An action came to its end."""
        key = (action.kind.value, outcome.result.value)
        self.tally.outcomes[key] = self.tally.outcomes.get(key, 0) + 1
        target = outcome.target or action.target
        self._ours |= {(action.thing, end.id) for end in (action.source, target) if end is not None}
        if action.kind is Kind.FENCE and outcome.result is Result.DONE:
            self._fenced.add(action.thing)
            self.judge.probed(action.thing, up=False, detail="it was fenced", now=now)
        if not action.number:
            # it was in no plan, and was left out of those that were made meanwhile
            self._want(f"the move of router {action.thing} that was begun before has ended")
        if outcome.good:
            self._failures.pop(action.thing, None)
            self._open.pop(action.thing, None)
            self.snapshot = _as_done(self.snapshot, replace(action, target=target))
            self._let_settle(action, outcome, now)
        elif outcome.result is not Result.LOST:
            before = self._failures.get(action.thing, _Failure(0, 0.0, ""))
            pause = min(LONGEST_FAILURE_PAUSE, FAILURE_PAUSE * 2.0**before.count)
            self._failures[action.thing] = _Failure(before.count + 1, now + pause, f"it is left alone for {pause:.0f} s: {outcome.text}")
            self._open.pop(action.thing, None)
        if action.kind is Kind.MOVE_ROUTER and action.source is not None and self._is_failback(action.source):
            self._failback.spend(now)

    def read_settling(
        self, asked: Collection[str], ports: Iterable[Mapping[str, Any]], floating_ips: Iterable[Mapping[str, Any]], now: float
    ) -> list[Settled]:
        """Take in the ports and floating IPs of routers that were moved; return those that work now."""
        self._answered("settling")
        return self.settling.read(asked, ports, floating_ips, now)

    def overdue(self, now: float) -> list[Settled]:
        """Return the routers that were moved and have no more time to settle from now on."""
        return self.settling.overdue(now)

    def leads_no_more(self, now: float) -> None:
        """Another one looks after what was moved."""
        self.settling.forget(self.settling.where())

    def _let_settle(self, action: Action, outcome: Outcome, now: float) -> None:
        """Watch whether a router works that is on one agent only, and that the agent has got by this."""
        router = self.snapshot.routers.get(action.thing)
        if router is None or router.ha or not router.admin_state_up or outcome.result is not Result.DONE or outcome.target is None:
            return
        self.settling.moved(router.id, outcome.target, now)

    def open_moves(self, moves: Iterable[OpenMove]) -> None:
        """Take in what the journal says was begun and not ended, and is not under way."""
        self._open = {move.router: move for move in moves}

    def to_finish(self, now: float) -> list[OpenMove]:
        """Return the broken moves that can be finished now, each with a target that can have it."""
        found = []
        for router, move in self._open.items():
            if now - self._tried.get(router, float("-inf")) < FINISH_SECONDS or self.judgement.deaf:
                continue
            target = self.snapshot.agents.get(move.target)
            if target is None or self._not_fit(target):
                action = Action(0, Kind.MOVE_ROUTER, router, "", "")
                target = self.choose(action, {move.target: "it is not alive"})
            if target is not None:
                self._tried[router] = now
                found.append(move.at_stage(move.stage, target.id, target.host))
        return found

    @property
    def broken(self) -> list[OpenMove]:
        """Return the moves that were begun and not ended."""
        return list(self._open.values())

    # --- the operator --------------------------------------------------------------------------------------------------------------------

    def rebalance(self, now: float, budget: int | None = None) -> Plan:
        """Plan to even out the loads, at the operator's word, and go by that plan."""
        self.plan = self.plan_of("rebalance", "", now, budget)
        return self.plan

    def wish(self, wish: HostWish | None, host: str) -> None:
        """Take in what the operator wants of a host; None if it is to be as the others."""
        # never changed in place: the executor's threads look at it
        self._wishes = {name: said for name, said in self._wishes.items() if name != host} | ({host: wish} if wish else {})
        self._want(f"the operator wants {host} to be {wish.wish if wish else 'used again'}")

    def hosts_that_are(self, wish: str) -> frozenset[str]:
        """Return the hosts that are `draining` or `cordoned`."""
        return frozenset(host for host, said in self._wishes.items() if said.wish == wish)

    def release(self, now: float) -> list[AgentKey]:
        """Let the mass-failure guard go at the operator's word; return the agents that are now evacuated."""
        self._want("the operator released the guard")
        return self.judge.release(now)

    def hosted(self, host: str) -> int:
        """Return how many routers and networks the managed agents of a host host, as far as that was read."""
        return sum(len(self.snapshot.hosted_by(agent.id)) for agent in self.snapshot.agents.values() if agent.host == host)

    def alarms(self) -> list[dict[str, str]]:
        """Return what an operator should know: `level` critical or warning, `name` and `subject`, which stay as long as it does, and `text`."""
        found: list[dict[str, str]] = []

        def alarm(level: str, name: str, text: str, subject: str = "") -> None:
            found.append({"level": level, "name": name, "subject": subject, "text": text})

        judgement = self.judgement
        if judgement.deaf:
            alarm("critical", "deaf", f"nothing is moved: {judgement.deaf}")
        if silent := [question for question, times in self._unanswered.items() if times >= UNANSWERED]:
            alarm("critical", "api", f"nobody is called dead anew: Neutron's API gives no answer about {' and '.join(silent)}: {self._api_trouble}")
        for freeze in judgement.freezes:
            alarm("critical", "guard", f"the mass-failure guard holds: {freeze.reason}; `rpcdaemon release` lets it go", str(freeze.scope))
        for verdict in sorted(judgement.verdicts.values(), key=lambda verdict: (verdict.agent.agent_type, verdict.agent.host)):
            self._alarm_of(verdict, alarm)
        for move in self._open.values():
            alarm(
                "critical",
                "broken-move",
                f"router {move.router} may have no agent: its move from {move.source_host} to {move.target_host} is being finished",
            )
        for each in self.plan.unplaced:
            alarm("critical", "unplaced", f"{each.thing} ({each.name}) has nowhere to go: {each.reason}", each.thing)
        for first, *others in self.settling.late_by_agent().values():
            more = f"; nor do {len(others)} others there" if others else ""
            alarm("warning", "unsettled", f"{first}{more}", str(first.agent))
        for thing, failure in self._failures.items():
            alarm("warning", "failed", f"{thing}: {failure.why}", thing)
        return found

    def _alarm_of(self, verdict: Verdict, alarm: Any) -> None:
        agent = verdict.agent
        if verdict.state is State.DEAD and agent.agent_type in self.managed:
            left = len(self.snapshot.hosted_by(agent.id))
            held = f"; nothing leaves it: {verdict.held_back}" if verdict.held_back else ""
            alarm("critical" if left or held else "warning", "dead", f"{agent} is dead and hosts {left}: {verdict.reason}{held}", str(agent))
        elif verdict.state is State.SUSPECT:
            alarm("warning", "suspect", f"{agent}: {verdict.reason}", str(agent))


def _as_done(snapshot: Snapshot, action: Action) -> Snapshot:
    if action.kind in {Kind.FENCE, Kind.DISABLE_AGENT}:
        return snapshot
    if action.source is not None and action.kind in {Kind.MOVE_ROUTER, Kind.REMOVE_ROUTER, Kind.REMOVE_NETWORK}:
        snapshot = snapshot.with_hosting(action.source.id, removed=[action.thing])
    if action.target is not None and action.kind in {Kind.MOVE_ROUTER, Kind.ADD_ROUTER, Kind.ADD_NETWORK}:
        snapshot = snapshot.with_hosting(action.target.id, added=[action.thing])
    return snapshot
