# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""How each action of a plan is done: which calls of Neutron's API in which order, and what each of its answers means.

An errand is a generator. It yields what is to be done next and is sent what came of it, and returns an `Outcome`. So it has no sockets, clocks or
threads, and a test can let the world answer whatever it likes, or end at any point.

What Neutron 29 answers was measured, not read: a POST that is answered with 201 proves nothing (three at once for one router are all answered so),
one to an agent that is dead but not known to be binds all the same and is answered with 500 after minutes, and a DELETE of what is not there is 204
for routers and 409 for networks.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from .plan import Action, Kind
from .snapshot import Agent

RECHECK_AGE = 2.0
"""A list of what the source hosts may be so old, in seconds, when a router is removed from it because of that."""
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between the attempts of a call that came to nothing, while nothing is lost by giving up."""
PATIENT_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, *(15.0,) * 40)
"""The same while the router has no agent: about ten minutes."""


# --- what an errand asks for ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """A call of Neutron's API that changes something; its answer is an `Answer`."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class IsThere:
    """Whether an agent hosts `thing`, by a list of all that it hosts which is no older than `max_age` seconds; None if there is no telling.

    With 0 it must have been asked for after this was. One list serves all errands that want to know the same.
    """

    thing: str
    agent: Agent
    max_age: float = 0.0


@dataclass(frozen=True, slots=True)
class Where:
    """The ids of the agents that host `thing`, asked for itself; None if there is no such thing any more, an `Answer` if there is no telling."""

    thing: str


@dataclass(frozen=True, slots=True)
class Choose:
    """Another target for a router that has none; `refused` says by agent id why not those. The answer is an agent, or None."""

    action: Action
    refused: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Fence:
    """Make sure that the host of `agent` forwards nothing any more; the answer is an empty text, or what went wrong."""

    agent: Agent


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds; nothing comes back."""

    seconds: float


class Stage(StrEnum):
    """How far the errand has come; each is written into the journal before what follows it is done."""

    REMOVING = "removing"
    """From now on the router may have no agent."""
    ADDING = "adding"
    """It has none, and gets one."""
    ADDED = "added"
    """All that writes is done; it remains to be seen whether it came true."""


@dataclass(frozen=True, slots=True)
class Note:
    """The errand has come to that stage; nothing comes back."""

    stage: Stage
    target: Agent | None = None


Wish: TypeAlias = Call | IsThere | Where | Choose | Fence | Pause | Note


# --- what comes back -------------------------------------------------------------------------------------------------------------------------


class Result(StrEnum):
    """What became of an action."""

    DONE = "done"
    NOT_NEEDED = "not needed"
    """Somebody else did it, or there is nothing any more to do it to."""
    STOOD_BACK = "stood back"
    """Somebody else did something different, which is left as it is."""
    FAILED = "failed"
    """Nothing was changed."""
    LOST = "lost"
    """The router has no agent, or may have none: it must be looked after."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of an errand, in an operator's words. `doubt` says what is not known of what was done."""

    result: Result
    text: str
    target: Agent | None = None
    doubt: str = ""

    @property
    def good(self) -> bool:
        """Whether what was wanted is true now."""
        return self.result in {Result.DONE, Result.NOT_NEEDED}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of Neutron's API. `status` 0 means that none came in time, or that nobody was there; `fault` says what then happened."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""

    @property
    def error(self) -> str:
        """Return the class of Neutron's error, empty if there is none."""
        error = self.body.get("NeutronError")
        return str(error.get("type", "")) if isinstance(error, Mapping) else ""

    def __str__(self) -> str:
        error = self.body.get("NeutronError")
        said = f": {self.error}: {error.get('message', '')}" if isinstance(error, Mapping) else f": {error}" if error else ""
        return self.fault or f"{self.status}{said}"


class Meaning(StrEnum):
    """What an answer to a change means for the errand."""

    OK = "ok"
    ALREADY = "already so"
    GONE = "there is no such router or network any more"
    BOUND_ELSEWHERE = "another agent hosts it"
    UNFIT = "that agent can't host it"
    DENIED = "we may not do that"
    UNKNOWN = "nobody knows whether it was done"


_MEANINGS = {
    "RouterHostedByL3Agent": Meaning.BOUND_ELSEWHERE,
    "NetworkHostedByDHCPAgent": Meaning.ALREADY,
    "NetworkNotHostedByDhcpAgent": Meaning.ALREADY,
    "RouterNotHostedByL3Agent": Meaning.ALREADY,
    "RouterNotFound": Meaning.GONE,
    "NetworkNotFound": Meaning.GONE,
    "AgentNotFound": Meaning.UNFIT,
    "InvalidL3Agent": Meaning.UNFIT,
    "InvalidDHCPAgent": Meaning.UNFIT,
    "RouterL3AgentMismatch": Meaning.UNFIT,
    "DVRL3CannotAssignToDvrAgent": Meaning.UNFIT,
    "DVRL3CannotRemoveFromDvrAgent": Meaning.UNFIT,
}
"""The classes of Neutron's errors (neutron_lib.exceptions.l3, neutron.extensions.l3agentscheduler and dhcpagentscheduler)."""


def meaning(answer: Answer) -> Meaning:
    """Return what an answer to a change means."""
    if 200 <= answer.status < 300:
        return Meaning.OK
    if answer.error in _MEANINGS:
        return _MEANINGS[answer.error]
    if answer.status in {401, 403}:
        return Meaning.DENIED
    if answer.status == 404:
        return Meaning.GONE
    if 400 <= answer.status < 500 and answer.status not in {408, 429}:
        return Meaning.UNFIT
    return Meaning.UNKNOWN


# --- the errands -----------------------------------------------------------------------------------------------------------------------------

Errand: TypeAlias = Generator[Wish, Any, Outcome]


def errand(action: Action) -> Errand:
    """Return the errand that does an action."""
    return _ERRANDS[action.kind](action)


def _move_router(action: Action) -> Errand:
    source, target = action.source, _needed(action.target)
    if source is not None:
        there = yield IsThere(action.thing, source, RECHECK_AGE)
        if not there:
            outcome = yield from _why_not_there(action, source, target)
            if outcome is not None:
                return outcome
            source = None
    if source is not None:
        yield Note(Stage.REMOVING, target)
        outcome = yield from _take_from(action, source)
        if outcome is not None:
            return outcome
    return (yield from _give_to(action, target))


def finish_move(action: Action) -> Errand:
    """Go on with a move that somebody began and did not end: it may have removed the router, and may have added it."""
    source, target = action.source, _needed(action.target)
    where = yield Where(action.thing)
    if where is None:
        return Outcome(Result.NOT_NEEDED, "the router was deleted")
    if isinstance(where, Answer):
        return Outcome(Result.LOST, f"where it is could not be read: {where}")
    if source is not None and source.id in where:
        return Outcome(Result.NOT_NEEDED, f"it is still on {source.host}; if it has to leave, that is planned anew", source)
    if where:
        return Outcome(Result.DONE, "it has an agent", doubt="" if target.id in where else "it is not the one that was planned")
    return (yield from _give_to(action, target))


def _why_not_there(action: Action, source: Agent, target: Agent) -> Generator[Wish, Any, Outcome | None]:
    """Return the outcome for a router that its source does not host any more, or None if no agent does, and one should."""
    where = yield Where(action.thing)
    if where is None:
        return Outcome(Result.NOT_NEEDED, "the router was deleted")
    if isinstance(where, Answer):
        return Outcome(Result.FAILED, f"where it is could not be read: {where}")
    if target.id in where:
        return Outcome(Result.NOT_NEEDED, f"it is on {target.host} already", target)
    if source.id in where:
        return Outcome(Result.FAILED, f"Neutron tells two things of whether {source.host} hosts it")
    if where:
        return Outcome(Result.STOOD_BACK, f"something else moved it to agent {', '.join(sorted(where))}")
    return None


def _take_from(action: Action, source: Agent) -> Generator[Wish, Any, Outcome | None]:
    """Remove a router from an agent; return None when it is not there any more, else why it still is, or may be."""
    answer = Answer(0)
    for pause in (*PAUSES, None):
        answer = yield Call("DELETE", f"/agents/{source.id}/l3-routers/{action.thing}")
        means = meaning(answer)
        if means in {Meaning.OK, Meaning.ALREADY}:
            return None
        if means in {Meaning.DENIED, Meaning.UNFIT}:
            return Outcome(Result.FAILED, f"it could not be removed from {source.host}: {answer}")
        where = yield Where(action.thing)
        if where is None:
            return Outcome(Result.NOT_NEEDED, "the router was deleted")
        if not isinstance(where, Answer) and source.id not in where:
            return None
        if pause is not None:
            yield Pause(pause)
    return Outcome(Result.LOST, f"whether it was removed from {source.host} is not known: {answer}")


def _give_to(action: Action, target: Agent) -> Errand:
    """Add a router that has no agent to one, to another if the first can't have it, and see that it came true."""
    refused: dict[str, str] = {}
    answer = Answer(0)
    for pause in (*PATIENT_PAUSES, None):
        yield Note(Stage.ADDING, target)
        answer = yield Call("POST", f"/agents/{target.id}/l3-routers", {"router_id": action.thing})
        means = meaning(answer)
        if means is Meaning.GONE:
            return Outcome(Result.NOT_NEEDED, "the router was deleted")
        if means is Meaning.DENIED:
            return Outcome(Result.LOST, f"it could not be added to {target.host}: {answer}")
        if means is Meaning.UNFIT:
            refused[target.id] = str(answer)
            another = yield Choose(action, refused)
            if another is None:
                return Outcome(Result.LOST, f"no agent can have it; {target.host} answered {answer}")
            target = another
            continue
        if means is Meaning.OK:
            yield Note(Stage.ADDED, target)
            if (yield IsThere(action.thing, target)):
                return Outcome(Result.DONE, f"it is on {target.host}", target)
        outcome = yield from _where_it_came_to(action, target, answer)
        if outcome is not None:
            return outcome
        if pause is not None:
            yield Pause(pause)
    return Outcome(Result.LOST, f"it has no agent: {target.host} was asked many times, the last answer was {answer}")


def _where_it_came_to(action: Action, target: Agent, answer: Answer) -> Generator[Wish, Any, Outcome | None]:
    """Return the outcome by where the router is, None if it has no agent or that is not known."""
    where = yield Where(action.thing)
    if where is None:
        return Outcome(Result.NOT_NEEDED, "the router was deleted")
    if isinstance(where, Answer) or not where:
        return None
    if target.id not in where:
        return Outcome(Result.STOOD_BACK, f"something else gave it to agent {', '.join(sorted(where))}")
    doubt = "" if meaning(answer) is Meaning.OK else f"Neutron bound it but the agent may not know: {answer}"
    return Outcome(Result.DONE, f"it is on {target.host}", target, doubt)


def _add(action: Action) -> Errand:
    """Let one more agent host an HA router or a network."""
    target = _needed(action.target)
    path, key = _RESOURCES[action.kind]
    answer = Answer(0)
    for pause in (*PAUSES, None):
        answer = yield Call("POST", f"/agents/{target.id}/{path}", {key: action.thing})
        means = meaning(answer)
        if means is Meaning.OK and action.kind is Kind.ADD_ROUTER and (yield IsThere(action.thing, target)) is False:
            return Outcome(Result.FAILED, f"Neutron said that {target.host} got it, but it is not there: something else gave it to another agent")
        if means in {Meaning.OK, Meaning.ALREADY}:
            return Outcome(Result.DONE if means is Meaning.OK else Result.NOT_NEEDED, f"it is on {target.host}", target)
        if means is Meaning.GONE:
            return Outcome(Result.NOT_NEEDED, "it was deleted")
        if means is not Meaning.UNKNOWN:
            return Outcome(Result.FAILED, f"{target.host} can't have it: {answer}")
        where = yield Where(action.thing)
        if where is None:
            return Outcome(Result.NOT_NEEDED, "it was deleted")
        if not isinstance(where, Answer) and target.id in where:
            return Outcome(Result.DONE, f"it is on {target.host}", target, f"Neutron bound it but the agent may not know: {answer}")
        if pause is not None:
            yield Pause(pause)
    return Outcome(Result.FAILED, f"it could not be added to {target.host}: {answer}")


def _remove(action: Action) -> Errand:
    """Let one agent less host an HA router or a network."""
    source = _needed(action.source)
    path, _key = _RESOURCES[action.kind]
    answer = Answer(0)
    for pause in (*PAUSES, None):
        answer = yield Call("DELETE", f"/agents/{source.id}/{path}/{action.thing}")
        means = meaning(answer)
        if means in {Meaning.OK, Meaning.ALREADY, Meaning.GONE}:
            return Outcome(Result.DONE if means is Meaning.OK else Result.NOT_NEEDED, f"it is not on {source.host} any more")
        if means is not Meaning.UNKNOWN:
            break
        if pause is not None:
            yield Pause(pause)
    return Outcome(Result.FAILED, f"it could not be removed from {source.host}: {answer}")


def _fence(action: Action) -> Errand:
    fault = yield Fence(_needed(action.source))
    if fault:
        return Outcome(Result.FAILED, f"{action.thing} could not be fenced: {fault}")
    return Outcome(Result.DONE, f"{action.thing} was fenced")


def _disable(action: Action) -> Errand:
    answer = yield Call("PUT", f"/agents/{action.thing}", {"agent": {"admin_state_up": False}})
    if meaning(answer) is Meaning.OK:
        return Outcome(Result.DONE, "admin_state_up is false")
    return Outcome(Result.FAILED, f"it could not be disabled: {answer}")


def _needed(agent: Agent | None) -> Agent:
    if agent is None:
        raise ValueError("the action lacks an agent that its kind needs")
    return agent


_RESOURCES = {
    Kind.ADD_ROUTER: ("l3-routers", "router_id"),
    Kind.REMOVE_ROUTER: ("l3-routers", ""),
    Kind.ADD_NETWORK: ("dhcp-networks", "network_id"),
    Kind.REMOVE_NETWORK: ("dhcp-networks", ""),
}
_ERRANDS = {
    Kind.FENCE: _fence,
    Kind.MOVE_ROUTER: _move_router,
    Kind.ADD_ROUTER: _add,
    Kind.REMOVE_ROUTER: _remove,
    Kind.ADD_NETWORK: _add,
    Kind.REMOVE_NETWORK: _remove,
    Kind.DISABLE_AGENT: _disable,
}
