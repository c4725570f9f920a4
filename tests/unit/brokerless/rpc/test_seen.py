# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from brokerless.rpc.envelope import MessageId
from brokerless.rpc.seen import Seen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

A = "a" * 16
B = "b" * 16

ORIGINS = st.sampled_from([A, B, "c" * 16])
NUMBERS = st.integers(1, 12)


def test_what_was_accepted_is_known_and_only_that() -> None:
    seen = Seen()
    seen.add(MessageId(A, 3))
    assert MessageId(A, 3) in seen
    assert MessageId(A, 2) not in seen
    assert MessageId(B, 3) not in seen
    assert not seen.has_ended(MessageId(A, 3))


def test_what_went_back_to_its_sender_may_come_again() -> None:
    seen = Seen()
    seen.add(MessageId(A, 3))
    seen.discard(MessageId(A, 3))
    seen.discard(MessageId(B, 3))
    assert MessageId(A, 3) not in seen


def test_all_below_the_settled_number_has_ended_and_takes_no_room() -> None:
    seen = Seen()
    for number in range(1, 101):
        seen.add(MessageId(A, number))
    seen.note_settled(A, 99, forget_at=10.0)
    assert seen.has_ended(MessageId(A, 98))
    assert MessageId(A, 98) in seen
    assert not seen.has_ended(MessageId(A, 99))
    assert MessageId(A, 99) in seen
    assert MessageId(A, 101) not in seen
    assert seen.sizes() == {"origins": 1, "messages": 2}


def test_an_older_settled_number_takes_nothing_back() -> None:
    seen = Seen()
    seen.note_settled(A, 5, forget_at=10.0)
    seen.note_settled(A, 3, forget_at=1.0)
    assert seen.has_ended(MessageId(A, 4))
    seen.forget(now=5.0)
    assert seen.has_ended(MessageId(A, 4))


def test_a_late_copy_of_an_ended_message_takes_no_room() -> None:
    seen = Seen()
    seen.note_settled(A, 5, forget_at=10.0)
    seen.add(MessageId(A, 4))
    assert list(seen.summary()) == [(A, 5, [])]
    assert seen.sizes() == {"origins": 1, "messages": 0}


def test_a_process_is_forgotten_after_its_time_and_no_sooner() -> None:
    seen = Seen()
    seen.note_settled(A, 2, forget_at=10.0)
    seen.add(MessageId(A, 3))
    seen.forget(now=10.0)
    assert MessageId(A, 3) in seen
    seen.forget(now=10.1)
    assert MessageId(A, 3) not in seen
    assert MessageId(A, 1) not in seen
    assert seen.sizes() == {"origins": 0, "messages": 0}


def test_a_summary_taken_in_elsewhere_says_the_same_there() -> None:
    there, here = Seen(), Seen()
    there.note_settled(A, 3, forget_at=10.0)
    there.add(MessageId(A, 7))
    there.add(MessageId(A, 4))
    assert list(there.summary()) == [(A, 3, [4, 7])]
    here.note_settled(A, 5, forget_at=1.0)
    here.merge(there.summary(), forget_at=20.0)
    assert list(here.summary()) == [(A, 5, [7])]
    here.forget(now=15.0)
    assert MessageId(A, 7) in here


class SeenAsSets(RuleBasedStateMachine):
    """`Seen` against a plain account of all that it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = Seen()
        self.floor: dict[str, int] = {}
        self.taken: set[MessageId] = set()
        self.keep_until: dict[str, float] = {}
        self.now = 0.0

    def is_known(self, message: MessageId) -> bool:
        return message.number < self.floor.get(message.origin, 0) or message in self.taken

    @rule(origin=ORIGINS, number=NUMBERS, settled=st.integers(0, 12), life=st.integers(0, 5))
    def arrive(self, origin: str, number: int, settled: int, life: int) -> None:
        self.keep_until[origin] = max(self.keep_until.get(origin, 0.0), self.now + life)
        self.floor[origin] = max(self.floor.get(origin, 0), settled)
        self.taken.add(MessageId(origin, number))
        self.seen.note_settled(origin, settled, self.now + life)
        self.seen.add(MessageId(origin, number))

    @rule(origin=ORIGINS, number=NUMBERS)
    def go_back(self, origin: str, number: int) -> None:
        self.taken.discard(MessageId(origin, number))
        self.seen.discard(MessageId(origin, number))

    @rule(seconds=st.integers(1, 4))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        for origin in [origin for origin, until in self.keep_until.items() if until < self.now]:
            del self.keep_until[origin]
            del self.floor[origin]
            self.taken = {message for message in self.taken if message.origin != origin}
        self.seen.forget(self.now)

    @rule()
    def move_to_a_new_receiver(self) -> None:
        moved = Seen()
        moved.merge(self.seen.summary(), self.now + 3)
        self.keep_until = dict.fromkeys(self.keep_until, self.now + 3)
        self.seen = moved

    @invariant()
    def knows_the_same(self) -> None:
        for origin in (A, B, "c" * 16):
            for number in range(1, 14):
                message = MessageId(origin, number)
                assert (message in self.seen) == self.is_known(message)
                assert self.seen.has_ended(message) == (number < self.floor.get(origin, 0))

    @invariant()
    def keeps_no_more_than_needed(self) -> None:
        open_ones = {message for message in self.taken if message.number >= self.floor.get(message.origin, 0)}
        assert self.seen.sizes() == {"origins": len(self.keep_until), "messages": len(open_ones)}


TestSeenAsSets = SeenAsSets.TestCase
TestSeenAsSets.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_who_is_remembered() -> None:
    seen = Seen()
    seen.note_settled("a" * 16, 5, 10.0)
    assert len(seen) == 1
    assert seen.knows("a" * 16)
    assert not seen.knows("b" * 16)
    seen.forget(11.0)
    assert len(seen) == 0
    assert not seen.knows("a" * 16)
