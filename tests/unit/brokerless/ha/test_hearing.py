# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from brokerless.ha.hearing import BASELINE_SECONDS, Hearing
from brokerless.ha.policy import PolicySettings
from brokerless.ha.snapshot import L3, AgentKey

POLICY = PolicySettings.for_intervals(10, 3)
KEYS = [AgentKey(L3, f"net{number}") for number in range(4)]
AGENTS_CLOCK = 5_000_000.0


@pytest.fixture
def hearing() -> Hearing:
    hearing = Hearing(POLICY)
    hearing.listening(100.0)
    hearing.tick(100.0)
    return hearing


def beat(hearing: Hearing, now: float, late: float = 0.0, *, who: list[AgentKey] = KEYS) -> None:
    for number, key in enumerate(who):
        hearing.heard(key, AGENTS_CLOCK + now + 1000.0 * number - late, now, None)


def test_before_we_are_connected_we_are_deaf() -> None:
    hearing = Hearing(POLICY)
    hearing.heard(KEYS[0], None, 1.0, None)
    assert hearing.since is None
    assert hearing.trouble == "we have not connected to the bus yet"


def test_every_gap_moves_the_beginning(hearing: Hearing) -> None:
    hearing.gap("the consumer was restarted", 101.0)
    assert hearing.since == 101.0
    hearing.deaf("the connection is lost", 102.0)
    assert hearing.since is None
    assert hearing.trouble == "the connection is lost"
    hearing.gap("one more", 103.0)
    assert hearing.since is None
    hearing.listening(104.0)
    hearing.listening(105.0)
    assert hearing.since == 104.0
    assert hearing.trouble == ""


def test_standing_still_is_a_gap(hearing: Hearing) -> None:
    beat(hearing, 101.0)
    hearing.tick(101.0)
    hearing.tick(101.0 + POLICY.tick_gap - 0.5)
    assert hearing.since == 100.0
    beat(hearing, 108.0)
    hearing.tick(108.0)
    assert hearing.since == 108.0
    assert hearing.why == "we stood still for 4 s"


def test_a_clock_of_ours_that_is_set_back_is_no_gap(hearing: Hearing) -> None:
    beat(hearing, 101.0)
    hearing.tick(101.0, wall=9_000.0)
    hearing.tick(102.0, wall=10.0)
    assert hearing.since == 100.0


def test_silence_of_all_is_deafness_until_one_is_heard(hearing: Hearing) -> None:
    now = 100.0
    while now < 100.0 + POLICY.quiet_after + 1:
        now += 1
        hearing.tick(now)
    assert hearing.since is None
    assert hearing.trouble.startswith("no agent at all was heard for 6 s")
    beat(hearing, now)
    assert hearing.since == now


def test_lateness_of_most_is_ours(hearing: Hearing) -> None:
    beat(hearing, 101.0)
    for second in range(1, 9):
        beat(hearing, 101.0 + second, late=0.9 * second)
        hearing.tick(101.0 + second)
    assert hearing.lag(109.0) == pytest.approx(7.2)
    assert hearing.since == 109.0
    assert hearing.trouble == "heartbeats come 7 s later than they used to: our queue is not emptied fast enough"
    hearing.backlog(0, 109.0)
    hearing.tick(109.5)
    assert hearing.trouble == ""


def test_lateness_of_one_or_a_clock_that_was_set_is_not(hearing: Hearing) -> None:
    beat(hearing, 101.0)
    for second in range(1, 9):
        beat(hearing, 101.0 + second, late=0.9 * second, who=KEYS[:1])
        for number, key in enumerate(KEYS[1:], 1):
            hearing.heard(key, AGENTS_CLOCK + 101.0 + second + 1000.0 * number - 600.0, 101.0 + second, None)
        hearing.tick(101.0 + second)
    assert hearing.lag(109.0) == 0.0
    assert hearing.since == 100.0


def test_two_agents_are_too_few_to_tell_lateness(hearing: Hearing) -> None:
    for second in range(1, 12):
        beat(hearing, 101.0 + second, late=0.9 * second, who=KEYS[:2])
    assert hearing.lag(112.0) == 0.0


def test_a_delay_that_stays_becomes_the_usual_one(hearing: Hearing) -> None:
    beat(hearing, 101.0)
    now = 101.0
    while now < 101.0 + 2 * BASELINE_SECONDS + 10:
        now += 1.0
        beat(hearing, now, late=min(8.0, 0.5 * (now - 101.0)))
    assert hearing.lag(now) == 0.0


def test_a_long_queue_is_a_gap_until_it_is_short(hearing: Hearing) -> None:
    hearing.backlog(POLICY.max_backlog, 101.0)
    assert hearing.trouble == ""
    hearing.backlog(POLICY.max_backlog + 1, 102.0)
    beat(hearing, 103.0)
    hearing.tick(103.0)
    assert hearing.since == 103.0
    assert hearing.trouble.startswith("5001 messages wait in our queue")
    hearing.backlog(5, 104.0)
    assert hearing.trouble == ""
    hearing.tick(104.0)
    assert hearing.since == 103.0


def test_skews_are_told_and_forgotten_with_the_agent(hearing: Hearing) -> None:
    hearing.heard(KEYS[0], 1000.0 + 600.0, 101.0, 1000.0)
    hearing.heard(KEYS[1], 1000.0 + POLICY.skew_report, 101.0, 1000.0)
    assert hearing.skews() == {KEYS[0]: 600.0}
    hearing.forget(KEYS[0])
    assert hearing.skews() == {}
