# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from brokerless.rpc.envelope import Envelope, MessageId, Pattern
from brokerless.rpc.receiver.figures import (
    BUCKETS,
    KINDS,
    MAX_BURSTS,
    QUIET_SECONDS,
    REPEAT_SECONDS,
    Bound,
    Bounds,
    Histogram,
    Tally,
    quantile,
)
from brokerless.rpc.topics import parse_topic
from hypothesis import given
from hypothesis import strategies as st

FULL = Bound("full", "{subject} is full")


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_a_histogram_counts_each_time_in_the_bucket_that_it_belongs_to(times: list[float]) -> None:
    histogram = Histogram()
    for seconds in times:
        histogram.observe(seconds)
    ends = [*BUCKETS, float("inf")]
    below = [0.0, *BUCKETS]
    expected = [
        sum(1 for seconds in times if (low < seconds or low == seconds == 0) and seconds <= end) for low, end in zip(below, ends, strict=True)
    ]
    assert histogram.written() == {"count": len(times), "sum": pytest.approx(sum(times)), "buckets": expected}


def test_a_quantile_is_as_exact_as_the_buckets() -> None:
    assert quantile([0] * 17, 0.5) is None
    assert quantile([0, 4, 0, *[0] * 14], 0.5) == pytest.approx(0.00075)
    assert quantile([0, 4, 0, *[0] * 14], 1.0) == pytest.approx(0.001)
    assert quantile([50, 49, *[0] * 14, 1], 0.999) == BUCKETS[-1]
    assert quantile([99, *[0] * 15, 1], 0.5) == pytest.approx(0.0005 * 50 / 99)


@pytest.mark.parametrize("pattern", Pattern)
def test_a_message_is_counted_under_its_kind(pattern: Pattern) -> None:
    tally = Tally()
    for topic in ("compute.c1", "compute.c1", "fanout~compute"):
        tally.count("sent", Envelope(MessageId("a" * 16, 1), pattern, parse_topic(topic), "c1", 1.0))
    assert list(tally.messages()) == [("fanout", "sent", 1), (pattern.name.lower(), "sent", 2)]
    assert sorted(KINDS) == ["call", "cast", "fanout", "notification", "reply"]


def test_a_burst_is_told_when_it_begins_and_when_it_is_over() -> None:
    bounds = Bounds()
    for turn in range(100):
        bounds.hit(FULL, "compute", 50.0 + turn * 0.1)
    assert bounds.take_lines(60.0) == ["compute is full"]
    assert bounds.take_lines(60.0 + QUIET_SECONDS) == ["compute is full (100 times in 10 s)"]
    assert bounds.take_lines(1000.0) == []
    bounds.hit(FULL, "compute", 1001.0, times=3)
    assert bounds.take_lines(1001.0) == ["compute is full"]
    assert bounds.counts == {"full": 103}


def test_a_burst_of_one_is_told_once() -> None:
    bounds = Bounds()
    bounds.hit(FULL, "compute", 1.0)
    assert bounds.take_lines(1.0) == ["compute is full"]
    assert bounds.take_lines(1.0 + QUIET_SECONDS) == []


def test_a_burst_that_goes_on_is_told_of_again_now_and_then() -> None:
    bounds = Bounds()
    lines = []
    for second in range(int(REPEAT_SECONDS) + 1):
        bounds.hit(FULL, "compute", float(second))
        lines += bounds.take_lines(float(second))
    assert lines == ["compute is full", "compute is full (61 times in 60 s so far)"]


def test_many_subjects_fill_neither_the_memory_nor_the_log() -> None:
    bounds = Bounds()
    for number in range(10_000):
        bounds.hit(FULL, f"evil{number}", 1.0)
    lines = bounds.take_lines(1.0)
    assert len(lines) == MAX_BURSTS + 1
    assert lines[-1] == "others is full"
    assert bounds.take_lines(1.0 + QUIET_SECONDS) == [f"others is full ({10_000 - MAX_BURSTS} times in 0 s)"]
    assert bounds.counts == {"full": 10_000}
