# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Carries out plans: a thread for each errand under way, the journal before and after, and leave asked before every call that changes something."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from .agenda import MOST_UNDER_WAY, Agenda
from .errands import (
    Answer,
    Call,
    Choose,
    Errand,
    Fence,
    IsThere,
    Meaning,
    Note,
    Outcome,
    Pause,
    Result,
    Stage,
    Where,
    Wish,
    errand,
    finish_move,
    meaning,
)
from .hooks import Hooks
from .hosting_lists import HostingLists
from .journal import Journal, JournalError, OpenMove
from .neutron_api import ApiError, NeutronApi
from .plan import Action, Kind, Plan
from .snapshot import L3, Agent

LOG = logging.getLogger("rpcdaemon.executor")


class Conditions(Protocol):
    """What the executor asks before it does something."""

    term: str
    """Names whose turn it is, in the journal and the logs."""

    def may_write(self, seconds: float) -> str:
        """Return why nothing may be changed for the next `seconds`, empty if it may: we lead, and will for so long."""

    def still_wanted(self, action: Action) -> str:
        """Return why an action that was planned is not wanted any more, empty if it is."""

    def choose(self, action: Action, refused: dict[str, str]) -> Agent | None:
        """Return another target for a router that has no agent, None if there is none."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that is told of: an action `began`, came to a `stage`, `called` (with the seconds it took), or `ended`."""

    what: str
    action: Action
    text: str
    outcome: Outcome | None = None
    seconds: float = 0.0


class Stopped(Exception):
    """The executor does nothing more, or may not; what is open stays in the journal."""


class Executor:
    """Carries out one plan at a time. All methods may be called from any thread."""

    def __init__(
        self,
        api: NeutronApi,
        journal: Journal,
        conditions: Conditions,
        tell: Callable[[Happening], None],
        hooks: Hooks | None = None,
        least_pause: float = 0.0,
    ) -> None:
        """Begin an action at least `least_pause` seconds after the one before."""
        self._api = api
        self._journal = journal
        self._conditions = conditions
        self._tell = tell
        self._hooks = hooks or Hooks()
        self._agenda = Agenda(least_pause)
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads = ThreadPoolExecutor(MOST_UNDER_WAY + 1, thread_name_prefix="errand")
        self._lists = HostingLists(self._hosted_by)

    # --- from outside ----------------------------------------------------------------------------------------------------------------------

    def replace(self, plan: Plan) -> None:
        """Carry out `plan`, in place of what has not begun of the one before."""
        with self._lock:
            self._agenda.replace(plan)
        self.tick()

    def finish(self, move: OpenMove) -> bool:
        """Go on with a move that was begun by whoever wrote it into the journal; return whether it is not under way already."""
        source, target = _agent(move.source, move.source_host), _agent(move.target, move.target_host)
        action = Action(0, Kind.MOVE_ROUTER, move.router, "", f"begun by {move.term} and not ended", source, target)
        with self._lock:
            if move.router in self._agenda.under_way or self._stopped.is_set():
                return False
            self._agenda.adopt(action)
        self._threads.submit(self._run, action, finish_move(action))
        return True

    def tick(self) -> None:
        """Begin what may begin now; to be called now and then, since a call that has become slow makes room."""
        while not self._stopped.is_set():
            with self._lock:
                action, dropped = self._agenda.take(time.monotonic(), self._conditions.still_wanted)
            for each, why in dropped:
                self._tell(Happening("ended", each, why, Outcome(Result.NOT_NEEDED, why)))
            if action is None:
                return
            self._threads.submit(self._run, action, errand(action))

    def settled(self, router: str) -> None:
        """Wait for a router that was moved no longer: it works where it went, or has had its time."""
        with self._lock:
            self._agenda.settled(router)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way or waits."""
        with self._lock:
            return self._agenda.idle

    def under_way(self) -> list[Action]:
        """Return the actions that have begun and not ended."""
        with self._lock:
            return [each.action for each in self._agenda.under_way.values()]

    @property
    def waiting(self) -> int:
        """Return how many actions have not begun."""
        with self._lock:
            return self._agenda.waiting

    def stop(self, *, finish: bool) -> None:
        """Begin nothing more, and return when what is under way has ended: of its own with `finish`, else before its next step."""
        with self._lock:
            self._agenda.replace(Plan(""))
        if not finish:
            self._stopped.set()
        self._threads.shutdown(wait=True)
        self._stopped.set()

    # --- one errand ------------------------------------------------------------------------------------------------------------------------

    def _run(self, action: Action, wishes: Errand) -> None:
        began = time.monotonic()
        told = {
            "action": action.kind.value,
            "id": action.thing,
            "from": action.source.host if action.source else "",
            "to": action.target.host if action.target else "",
        }
        self._tell(Happening("began", action, action.reason))
        outcome = Outcome(Result.LOST, "it was broken off")
        try:
            fault = self._hooks.run(self._hooks.before_move, told) if action.kind is not Kind.FENCE else ""
            outcome = Outcome(Result.FAILED, f"the hook before it refused: {fault}") if fault else self._follow(action, wishes)
        except Stopped as stopped:
            outcome = Outcome(Result.LOST, str(stopped))
        except JournalError as error:
            outcome = Outcome(Result.LOST, f"{error}; it goes on when the journal can be written")
        except Exception:
            LOG.exception("a fault of rpcdaemon in %s of %s", action.kind, action.thing)
            raise
        finally:
            self._close(action, outcome)
            with self._lock:
                self._agenda.ended(action, outcome)
            self._tell(Happening("ended", action, outcome.text, outcome, time.monotonic() - began))
            self.tick()
        if outcome.result is Result.DONE and (fault := self._hooks.run(self._hooks.after_move, {**told, "result": outcome.result.value})):
            LOG.warning("%s of %s is done, but the hook after it failed: %s", action.kind, action.thing, fault)

    def _close(self, action: Action, outcome: Outcome) -> None:
        """End what the journal says of a router that needs no care any more."""
        if action.kind is Kind.MOVE_ROUTER and outcome.result is not Result.LOST:
            try:
                self._journal.end(f"move:{action.thing}")
            except JournalError as error:
                LOG.warning("%s; router %s is looked at once more later", error, action.thing)

    def _follow(self, action: Action, wishes: Errand) -> Outcome:
        answer: Any = None
        while True:
            try:
                wish = wishes.send(answer)
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome
            answer = self._grant(action, wish)

    def _grant(self, action: Action, wish: Wish) -> Any:
        if self._stopped.is_set():
            raise Stopped("rpcdaemon is stopping")
        if isinstance(wish, Call):
            return self._call(action, wish)
        if isinstance(wish, IsThere):
            return self._lists.is_there(wish.thing, wish.agent, wish.max_age)
        if isinstance(wish, Where):
            return self._api.where(wish.thing, action.agent_type)
        if isinstance(wish, Choose):
            return self._conditions.choose(wish.action, dict(wish.refused))
        if isinstance(wish, Fence):
            if why := self._conditions.may_write(self._api.time_limit):
                raise Stopped(why)
            return self._hooks.run(self._hooks.fence, {"host": wish.agent.host, "agent": wish.agent.id})
        if isinstance(wish, Pause):
            self._stopped.wait(wish.seconds)
            return None
        return self._note(action, wish)

    def _note(self, action: Action, note: Note) -> None:
        self._tell(Happening("stage", action, note.stage.value))
        if note.stage is Stage.ADDED:
            with self._lock:
                self._agenda.under_way[action.thing].writes = False
            self.tick()
            return
        if why := self._conditions.may_write(self._api.time_limit):
            raise Stopped(why)
        source, target = action.source, note.target or action.target
        move = OpenMove(
            router=action.thing,
            source=source.id if source else "",
            source_host=source.host if source else "",
            target=target.id if target else "",
            target_host=target.host if target else "",
            stage=note.stage.value,
            term=self._conditions.term,
            begun_at=time.time(),
        )
        self._journal.put(move)

    def _call(self, action: Action, call: Call) -> Answer:
        """Make a call. Raises `Stopped` if it is not allowed."""
        if why := self._conditions.may_write(self._api.time_limit):
            raise Stopped(why)
        under_way = self._agenda.under_way[action.thing]
        began = time.monotonic()
        with self._lock:
            under_way.call_began = began
        answer = self._api.change(call)
        with self._lock:
            under_way.call_began = None
            if meaning(answer) is Meaning.UNKNOWN:
                self._agenda.overloaded()
        self._tell(Happening("called", action, f"{call.method} {call.path}: {answer}", seconds=time.monotonic() - began))
        return answer

    def _hosted_by(self, agent: Agent) -> frozenset[str] | None:
        try:
            return frozenset(str(each["id"]) for each in self._api.hosted_by(agent.id, agent.agent_type))
        except ApiError as error:
            LOG.warning("what %s hosts could not be read: %s", agent, error)
            return None


def _agent(agent_id: str, host: str) -> Agent | None:
    return Agent(agent_id, host, L3) if agent_id else None
