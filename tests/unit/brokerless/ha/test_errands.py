# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Errands against a Neutron that is a few lines long, answers what Neutron 29 was seen to answer, and fails as it likes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from brokerless.ha.errands import (
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
from brokerless.ha.plan import Action, Kind
from brokerless.ha.snapshot import DHCP, L3, Agent
from hypothesis import given
from hypothesis import strategies as st

DEAD, GOOD, SPARE = (Agent(f"agent-{host}", host, L3) for host in ("net1", "net2", "net3"))
MOVE = Action(1, Kind.MOVE_ROUTER, "r1", "router one", "net1 is dead", DEAD, GOOD)


def fault(status: int, kind: str) -> Answer:
    return Answer(status, {"NeutronError": {"type": kind, "message": "…", "detail": ""}})


@dataclass
class Neutron:
    """One router, and what comes of each change: by turns it is done and answered, done and not answered, neither, or answered with a fault."""

    bound: set[str] = field(default_factory=lambda: {DEAD.id})
    deleted: bool = False
    troubles: list[str] = field(default_factory=list)
    unfit: set[str] = field(default_factory=set)
    spare: Agent | None = SPARE
    calls: list[Call] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def grant(self, wish: Wish) -> Any:
        if isinstance(wish, Call):
            self.calls.append(wish)
            return self.change(wish)
        if isinstance(wish, IsThere):
            return wish.agent.id in self.bound
        if isinstance(wish, Where):
            return None if self.deleted else frozenset(self.bound)
        if isinstance(wish, Choose):
            return self.spare if self.spare is None or self.spare.id not in wish.refused else None
        if isinstance(wish, Note):
            self.notes.append(wish)
        return "" if isinstance(wish, Fence) else None

    def change(self, call: Call) -> Answer:
        trouble = self.troubles.pop(0) if self.troubles else "fine"
        if trouble == "nothing done":
            return Answer(0, fault="ConnectTimeout")
        answer = self.done(call)
        return Answer(0, fault="ReadTimeout") if trouble == "done, not answered" else answer

    def done(self, call: Call) -> Answer:
        agent = call.path.split("/")[2]
        if self.deleted:
            return fault(404, "RouterNotFound")
        if call.method == "DELETE":
            self.bound.discard(agent)
            return Answer(204)
        if agent in self.unfit:
            return fault(404, "InvalidL3Agent")
        if self.bound - {agent}:
            return fault(409, "RouterHostedByL3Agent")
        self.bound.add(agent)
        return Answer(201)


def carried_out(wishes: Errand, neutron: Neutron, steps: int = 1000) -> Outcome | None:
    """Follow an errand to its end, or for so many steps: then it is broken off, and None."""
    answer: Any = None
    for _step in range(steps):
        try:
            wish = wishes.send(answer)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        answer = neutron.grant(wish)
    wishes.close()
    return None


def test_a_router_is_removed_and_added_back_to_back_and_looked_for_after() -> None:
    neutron = Neutron()
    outcome = carried_out(errand(MOVE), neutron)
    assert outcome is not None
    assert (outcome.result, outcome.target) == (Result.DONE, GOOD)
    assert [(call.method, call.path) for call in neutron.calls] == [
        ("DELETE", "/agents/agent-net1/l3-routers/r1"),
        ("POST", "/agents/agent-net2/l3-routers"),
    ]
    assert neutron.bound == {GOOD.id}
    assert [note.stage for note in neutron.notes] == [Stage.REMOVING, Stage.ADDING, Stage.ADDED]


def test_what_somebody_else_moved_is_left_where_it_is() -> None:
    neutron = Neutron({SPARE.id})
    outcome = carried_out(errand(MOVE), neutron)
    assert outcome is not None
    assert outcome.result is Result.STOOD_BACK
    assert neutron.calls == []


def test_a_router_that_nobody_hosts_is_only_added() -> None:
    neutron = Neutron(set())
    assert carried_out(errand(MOVE), neutron) == Outcome(Result.DONE, "it is on net2", GOOD)
    assert [call.method for call in neutron.calls] == ["POST"]


def test_an_agent_that_can_not_have_it_is_replaced_by_another() -> None:
    neutron = Neutron(unfit={GOOD.id})
    assert carried_out(errand(MOVE), neutron) == Outcome(Result.DONE, "it is on net3", SPARE)


def test_a_router_without_any_agent_that_can_have_it_is_told_as_lost() -> None:
    neutron = Neutron(unfit={GOOD.id}, spare=None)
    outcome = carried_out(errand(MOVE), neutron)
    assert outcome is not None
    assert outcome.result is Result.LOST
    assert "net2 answered 404: InvalidL3Agent" in outcome.text


def test_a_post_that_was_not_answered_may_have_bound_the_router_all_the_same() -> None:
    neutron = Neutron(troubles=["fine", "done, not answered"])
    outcome = carried_out(errand(MOVE), neutron)
    assert outcome is not None
    assert (outcome.result, outcome.target) == (Result.DONE, GOOD)
    assert outcome.doubt == "Neutron bound it but the agent may not know: ReadTimeout"


def test_what_was_deleted_meanwhile_needs_nothing() -> None:
    neutron = Neutron(set(), deleted=True)
    outcome = carried_out(errand(MOVE), neutron)
    assert outcome is not None
    assert outcome.result is Result.NOT_NEEDED


@given(st.lists(st.sampled_from(["fine", "done, not answered", "nothing done"]), max_size=12), st.integers(0, 40), st.booleans())
def test_whatever_fails_and_wherever_it_is_broken_off_the_next_one_finishes_it(troubles: list[str], broken_off: int, spoiled: bool) -> None:
    neutron = Neutron(troubles=troubles, unfit={GOOD.id} if spoiled else set())
    outcome = carried_out(errand(MOVE), neutron, broken_off)
    if outcome is None or outcome.result is Result.LOST:
        began = any(note.stage is Stage.REMOVING for note in neutron.notes)
        assert began or neutron.bound == {DEAD.id}, "nothing may be changed before the journal knows"
        neutron.troubles.clear()
        outcome = carried_out(finish_move(MOVE), neutron) if began else outcome
    if outcome is not None:
        assert outcome.result in {Result.DONE, Result.NOT_NEEDED, Result.FAILED}
    assert len(neutron.bound) == 1


NETWORK_AGENT = Agent("agent-dhcp2", "net2", DHCP)
ADD = Action(1, Kind.ADD_NETWORK, "n1", "", "…", None, NETWORK_AGENT)
REMOVE = Action(2, Kind.REMOVE_NETWORK, "n1", "", "…", NETWORK_AGENT)


@pytest.mark.parametrize(
    ("action", "answer", "result"),
    [
        (ADD, Answer(201), Result.DONE),
        (ADD, fault(409, "NetworkHostedByDHCPAgent"), Result.NOT_NEEDED),
        (ADD, fault(404, "NetworkNotFound"), Result.NOT_NEEDED),
        (ADD, fault(404, "InvalidDHCPAgent"), Result.FAILED),
        (ADD, Answer(401), Result.FAILED),
        (REMOVE, Answer(204), Result.DONE),
        (REMOVE, fault(409, "NetworkNotHostedByDhcpAgent"), Result.NOT_NEEDED),
        (REMOVE, fault(404, "NetworkNotFound"), Result.NOT_NEEDED),
        (REMOVE, Answer(403), Result.FAILED),
    ],
)
def test_what_neutron_answers_about_networks(action: Action, answer: Answer, result: Result) -> None:
    wishes = errand(action)
    next(wishes)
    with pytest.raises(StopIteration) as end:
        wishes.send(answer)
    assert end.value.value.result is result


def test_a_network_is_asked_for_again_while_neutron_is_away() -> None:
    wishes = errand(ADD)
    assert isinstance(next(wishes), Call)
    assert wishes.send(Answer(503)) == Where("n1")
    assert wishes.send(Answer(503)) == Pause(0.5)
    assert isinstance(next(wishes), Call)


@pytest.mark.parametrize(
    ("answer", "means"),
    [
        (Answer(204), Meaning.OK),
        (fault(409, "RouterHostedByL3Agent"), Meaning.BOUND_ELSEWHERE),
        (fault(409, "DVRL3CannotAssignToDvrAgent"), Meaning.UNFIT),
        (Answer(404), Meaning.GONE),
        (Answer(429), Meaning.UNKNOWN),
        (Answer(500), Meaning.UNKNOWN),
        (Answer(0, fault="ConnectFailure"), Meaning.UNKNOWN),
        (Answer(403), Meaning.DENIED),
        (Answer(400), Meaning.UNFIT),
    ],
)
def test_each_answer_has_its_meaning(answer: Answer, means: Meaning) -> None:
    assert meaning(answer) is means


def test_a_fence_that_failed_is_told() -> None:
    wishes = errand(Action(1, Kind.FENCE, "net1", "", "…", DEAD))
    assert next(wishes) == Fence(DEAD)
    with pytest.raises(StopIteration) as end:
        wishes.send("it ended with 1")
    assert end.value.value == Outcome(Result.FAILED, "net1 could not be fenced: it ended with 1")
