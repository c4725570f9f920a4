# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Which actions may begin, event by event."""

from __future__ import annotations

from brokerless.ha.agenda import RECOVERY, SLOW_SECONDS, Agenda
from brokerless.ha.errands import Outcome, Result
from brokerless.ha.plan import Action, Kind, Plan
from brokerless.ha.snapshot import L3, Agent

DEAD, GOOD, SPARE = (Agent(f"agent-{host}", host, L3) for host in ("net1", "net2", "net3"))
DONE, FAILED = Outcome(Result.DONE, ""), Outcome(Result.FAILED, "")


def move(number: int, target: Agent = GOOD, needs: tuple[int, ...] = (), after: tuple[int, ...] = ()) -> Action:
    return Action(number, Kind.MOVE_ROUTER, f"r{number}", "", "", DEAD, target, needs, after)


def wanted(_action: Action) -> str:
    return ""


def begun(agenda: Agenda, now: float = 0.0) -> list[int]:
    """Return the numbers of all that may begin at `now`."""
    found = []
    while (action := agenda.take(now, wanted)[0]) is not None:
        found.append(action.number)
    return found


def test_no_more_begin_than_the_plan_allows() -> None:
    agenda = Agenda()
    agenda.replace(Plan("", tuple(move(number) for number in range(1, 6)), in_flight=2))
    assert begun(agenda) == [1, 2]
    agenda.ended(move(1), DONE)
    assert begun(agenda) == [3]
    assert agenda.waiting == 2


def test_what_is_needed_must_succeed_and_what_comes_before_must_end() -> None:
    agenda = Agenda()
    agenda.replace(Plan("", (move(1), move(2, needs=(1,)), move(3, after=(1,))), in_flight=5))
    assert begun(agenda) == [1]
    agenda.ended(move(1), FAILED)
    action, dropped = agenda.take(0.0, wanted)
    assert action is not None
    assert action.number == 3
    assert [(each.number, why) for each, why in dropped] == [(2, "action 1, which it needs, came to nothing")]


def test_what_is_not_wanted_any_more_is_dropped_with_the_reason() -> None:
    agenda = Agenda()
    agenda.replace(Plan("", (move(1), move(2)), in_flight=5))
    action, dropped = agenda.take(0.0, lambda action: "it is back" if action.number == 1 else "")
    assert action is not None
    assert action.number == 2
    assert [(each.number, why) for each, why in dropped] == [(1, "it is back")]


def test_a_call_that_is_slow_holds_up_nothing_but_its_own_target() -> None:
    agenda = Agenda()
    agenda.replace(Plan("", (move(1), move(2), move(3), move(4, SPARE)), in_flight=1))
    assert begun(agenda) == [1]
    agenda.under_way["r1"].call_began = 0.0
    assert begun(agenda, SLOW_SECONDS) == []
    assert begun(agenda, SLOW_SECONDS + 0.1) == [4]


def test_a_new_plan_takes_the_place_of_what_has_not_begun() -> None:
    agenda = Agenda()
    agenda.replace(Plan("", (move(1), move(2)), in_flight=1))
    assert begun(agenda) == [1]
    agenda.replace(Plan("", (move(1, SPARE), move(3), move(4, needs=(1,))), in_flight=2))
    assert begun(agenda) == [3], "router 1 is under way, and what needs its new move can't come"
    assert agenda.waiting == 0


def test_what_only_looks_whether_it_came_true_makes_room() -> None:
    agenda = Agenda()
    agenda.replace(Plan("", (move(1), move(2)), in_flight=1))
    assert begun(agenda) == [1]
    agenda.under_way["r1"].writes = False
    assert begun(agenda) == [2]


def test_overload_halves_what_may_be_under_way_and_success_brings_it_back() -> None:
    agenda = Agenda()
    agenda.replace(Plan("", tuple(move(number) for number in range(1, 40)), in_flight=4))
    first = begun(agenda)
    for _turn in range(3):
        agenda.overloaded()
    for number in first:
        agenda.ended(move(number), FAILED)
    widths = []
    for _turn in range(RECOVERY + 2):
        now = begun(agenda)
        widths.append(len(agenda.under_way))
        for number in now:
            agenda.ended(move(number), DONE)
    assert widths[0] == 1
    assert widths[-1] == 2


def test_moves_keep_the_pause_between_their_beginnings() -> None:
    agenda = Agenda(least_pause=10.0)
    agenda.replace(Plan("", (move(1), move(2)), in_flight=2))
    assert begun(agenda, 100.0) == [1]
    assert begun(agenda, 109.0) == []
    assert begun(agenda, 110.0) == [2]


def test_a_drain_waits_until_what_it_moved_works() -> None:
    agenda = Agenda()
    agenda.replace(Plan("", (move(1), move(2), move(3)), settle=True))
    assert begun(agenda) == [1]
    agenda.under_way["r1"].writes = False
    assert begun(agenda) == [], "it is not known yet whether it came true"
    agenda.ended(move(1), DONE)
    assert begun(agenda) == []
    agenda.replace(Plan("", (move(2), move(3)), settle=True))
    assert begun(agenda) == [], "a new plan waits for it as well"
    agenda.settled("r1")
    assert begun(agenda) == [2]
    agenda.ended(move(2), FAILED)
    assert begun(agenda) == [3], "what failed is where it was"


def test_an_evacuation_waits_for_nothing_that_a_drain_has_moved() -> None:
    agenda = Agenda()
    agenda.replace(Plan("", (move(1), move(2)), settle=True))
    assert begun(agenda) == [1]
    agenda.ended(move(1), DONE)
    agenda.replace(Plan("", (move(3),), in_flight=2))
    assert begun(agenda) == [3]
