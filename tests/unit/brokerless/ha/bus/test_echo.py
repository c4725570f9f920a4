# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What echoes prove, and what their absence does."""

from __future__ import annotations

import itertools

import pytest
from brokerless.ha.bus.base import Event, HearingBegan, HearingInterrupted, Lag
from brokerless.ha.bus.echo import Echoes
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def echoes() -> Echoes:
    echoes = Echoes("bus", every=2, deaf_after=10, stall=5)
    echoes.opened(100.0)
    return echoes


def sent(echoes: Echoes, now: float) -> int:
    """Send the echo that is due."""
    number = echoes.due(now)
    assert number is not None
    return number


def kinds(events: list[Event]) -> list[type]:
    return [type(event) for event in events]


def test_hearing_begins_with_the_first_echo(echoes: Echoes) -> None:
    number = sent(echoes, 100.0)
    assert echoes.turn(100.2) == []
    assert echoes.came(number, 100.5, waiting=3) == [HearingBegan(100.5, "bus"), Lag(100.5, "bus", 0.5, 3)]


def test_echoes_are_sent_every_so_often(echoes: Echoes) -> None:
    sent(echoes, 100.0)
    assert echoes.due(101.9) is None
    assert echoes.came(sent(echoes, 102.0), 102.0)[-1] == Lag(102.0, "bus", 0.0)
    assert echoes.due(103.9) is None


def test_an_interruption_dates_from_the_last_echo_that_came_back(echoes: Echoes) -> None:
    echoes.came(sent(echoes, 100.0), 100.1)
    sent(echoes, 102.0)
    assert echoes.closed("cut", 103.0) == [HearingInterrupted(103.0, "bus", 100.0, "cut")]
    assert echoes.closed("still cut", 104.0) == [], "it is told once"
    echoes.opened(110.0)
    number = sent(echoes, 110.0)
    assert echoes.came(number - 1, 110.1) == [], "an echo of the earlier connection proves nothing"
    assert kinds(echoes.came(number, 110.2)) == [HearingBegan, Lag]


def test_a_broker_that_was_never_there_is_an_interruption_too() -> None:
    echoes = Echoes("bus", every=2, deaf_after=10, stall=5)
    assert echoes.closed("refused", 1.0) == [HearingInterrupted(1.0, "bus", None, "refused")]
    assert echoes.closed("refused", 2.0) == []


def test_a_process_that_stood_still_hears_again_when_an_echo_sent_after_that_comes(echoes: Echoes) -> None:
    echoes.came(sent(echoes, 100.0), 100.1)
    before = sent(echoes, 102.0)
    (interrupted,) = [event for event in echoes.turn(130.0) if not isinstance(event, Lag)]
    assert interrupted == HearingInterrupted(130.0, "bus", 100.0, "this process stood still for 30.0 s")
    assert kinds(echoes.came(before, 130.1)) == [Lag]
    assert kinds(echoes.came(sent(echoes, 130.1), 130.2)) == [HearingBegan, Lag]


def test_a_late_echo_is_lag_and_then_trouble(echoes: Echoes) -> None:
    echoes.came(sent(echoes, 100.0), 100.0)
    sent(echoes, 102.0)
    lags = [event for tenth in range(1020, 1121) for event in echoes.turn(tenth / 10)]
    assert kinds(lags) == [Lag] * len(lags)
    assert [event.seconds for event in lags if isinstance(event, Lag)] == pytest.approx([2.1, 4.2, 6.3, 8.4], abs=0.31)
    assert echoes.trouble(112.0) == ""
    assert "does not come back within 10 s" in echoes.trouble(112.1)


def test_an_echo_that_is_skipped_means_that_messages_were_dropped(echoes: Echoes) -> None:
    echoes.came(sent(echoes, 100.0), 100.0)
    sent(echoes, 102.0)
    interrupted, began, lag = echoes.came(sent(echoes, 104.0), 105.0)
    assert isinstance(interrupted, HearingInterrupted)
    assert (interrupted.since, interrupted.reason[:21]) == (100.0, "messages were dropped")
    assert began == HearingBegan(105.0, "bus")
    assert lag == Lag(105.0, "bus", 1.0)


@given(st.lists(st.tuples(st.sampled_from(["turn", "due", "came", "skip", "closed", "opened"]), st.floats(0, 20)), max_size=40))
def test_it_is_either_hearing_or_deaf_whatever_happens(steps: list[tuple[str, float]]) -> None:
    """Beginnings and interruptions alternate (only at the start may an interruption come first), and lag is never negative."""
    echoes = Echoes("bus", every=2, deaf_after=10, stall=5)
    now, opened, last = 0.0, False, 0
    events: list[Event] = []
    for step, seconds in steps:
        now += seconds
        if step == "opened" and not opened:
            opened = True
            echoes.opened(now)
        elif step == "closed":
            opened = False
            events += echoes.closed("cut", now)
        elif opened and step == "turn":
            events += echoes.turn(now)
        elif opened and step == "due":
            last = echoes.due(now) or last
        elif opened and step in {"came", "skip"}:
            events += echoes.came(last - (step == "skip"), now)
    states = [type(event) for event in events if not isinstance(event, Lag)]
    assert all(first is not second for first, second in itertools.pairwise(states))
    assert all(event.seconds >= 0 for event in events if isinstance(event, Lag))
    assert all(event.since is None or event.since <= event.at for event in events if isinstance(event, HearingInterrupted))
