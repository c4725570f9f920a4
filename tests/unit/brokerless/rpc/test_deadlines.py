# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import pairwise

from brokerless.rpc.deadlines import Deadlines
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

LATEST = 0.2 + 1e-6
"""How long after its time a key is due at the latest: a slot of a tenth of a second, and the rest of the one it fell in."""

KEYS = st.integers(0, 9)
SECONDS = st.floats(0.0, 1000.0)


def test_a_key_is_due_once() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 5.0)
    assert deadlines.due(4.9) == []
    assert len(deadlines) == 1
    assert deadlines.due(5.2) == ["a"]
    assert deadlines.due(9.0) == []
    assert len(deadlines) == 0


def test_setting_a_key_again_moves_it() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 5.0)
    deadlines.set("a", 8.0)
    assert deadlines.due(7.0) == []
    assert deadlines.due(8.2) == ["a"]


def test_a_key_that_was_discarded_is_never_due_and_leaves_nothing_behind() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for key in range(1000):
        deadlines.set(key, 5.0 + key)
    for key in range(1000):
        deadlines.discard(key)
    deadlines.discard("never set")  # type: ignore[arg-type]
    assert len(deadlines) == 0
    assert not deadlines._slots
    assert deadlines.due(1e6) == []


def test_the_earliest_come_first() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key, when in (("c", 30.0), ("a", 10.0), ("b", 20.0), ("later", 99.0)):
        deadlines.set(key, when)
    assert deadlines.due(50.0) == ["a", "b", "c"]


def test_nothing_is_due_before_the_time_that_is_named() -> None:
    deadlines: Deadlines[str] = Deadlines()
    assert deadlines.next_due() == float("inf")
    for key, when in (("b", 20.0), ("a", 10.0), ("c", 30.0)):
        deadlines.set(key, when)
    assert 10.0 <= deadlines.next_due() <= LATEST + 10.0
    assert deadlines.due(deadlines.next_due()) == ["a"]
    deadlines.discard("b")
    assert deadlines.next_due() <= 30.0 + LATEST
    assert deadlines.due(25.0) == []
    assert 30.0 <= deadlines.next_due() <= 30.0 + LATEST


class DeadlinesAsDict(RuleBasedStateMachine):
    """`Deadlines` against a dict of when each key is due."""

    def __init__(self) -> None:
        super().__init__()
        self.deadlines: Deadlines[int] = Deadlines()
        self.when: dict[int, float] = {}
        self.now = 0.0

    @rule(key=KEYS, after=SECONDS)
    def set_one(self, key: int, after: float) -> None:
        self.when[key] = self.now + after
        self.deadlines.set(key, self.now + after)

    @rule(key=KEYS)
    def discard_one(self, key: int) -> None:
        self.when.pop(key, None)
        self.deadlines.discard(key)

    @rule(after=SECONDS)
    def time_passes(self, after: float) -> None:
        self.now += after
        due = self.deadlines.due(self.now)
        assert len(due) == len(set(due))
        times = [self.when.pop(key) for key in due]
        assert all(when <= self.now for when in times), "a key was due before its time"
        assert all(when > self.now - LATEST for when in self.when.values()), "a key was not due in time"
        assert all(earlier < later + LATEST for earlier, later in pairwise(times))

    @invariant()
    def counts(self) -> None:
        assert len(self.deadlines) == len(self.when)


TestDeadlinesAsDict = DeadlinesAsDict.TestCase
TestDeadlinesAsDict.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
