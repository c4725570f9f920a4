# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Windows of the week, compared with a calendar."""

from __future__ import annotations

import datetime as dt

import pytest
from brokerless.ha.maintenance import DAY, DAYS, WEEK, Windows, parse_windows
from hypothesis import given
from hypothesis import strategies as st


def at(text: str) -> float:
    return dt.datetime.fromisoformat(f"{text}+00:00").timestamp()


@pytest.mark.parametrize(
    ("windows", "moment", "seconds"),
    [
        ("", "2026-11-21 12:00:00", 0),
        ("22:00-06:00", "2026-11-21 21:59:59", 1),
        ("22:00-06:00", "2026-11-21 22:00:00", 0),
        ("22:00-06:00", "2026-11-22 05:59:59", 0),
        ("22:00-06:00", "2026-11-22 06:00:00", 16 * 3600),
        ("mon-fri 22:00-06:00", "2026-11-21 05:00:00", 0),  # Saturday, in Friday's window
        ("mon-fri 22:00-06:00", "2026-11-22 05:00:00", DAY + 17 * 3600),
        ("sun 20:00-04:00", "2026-11-23 03:00:00", 0),  # Monday, over the end of the week
        ("sat-mon 10:00-11:00", "2026-11-22 10:30:00", 0),
        ("sat-mon 10:00-11:00", "2026-11-24 10:30:00", 4 * DAY - 1800),
        ("sun 00:00-24:00, 12:00-12:30", "2026-11-21 12:15:00", 0),
        ("sun 00:00-24:00, 12:00-12:30", "2026-11-21 12:30:00", 11.5 * 3600),
    ],
)
def test_windows_are_open_when_they_say(windows: str, moment: str, seconds: float) -> None:
    assert parse_windows(windows).opens_in(at(moment)) == seconds


@pytest.mark.parametrize("text", ["22:00", "mon 22:00-25:00", "24:00-25:00", "may 10:00-11:00", "mon-may 10:00-11:00", "mon10:00-11:00"])
def test_what_is_no_window_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=text):
        parse_windows(text)


@given(st.sampled_from(DAYS), st.integers(0, 1439), st.integers(0, 1440), st.integers(0, 2**31))
def test_when_a_window_opens_it_is_open(day: str, begin: int, end: int, moment: int) -> None:
    windows = parse_windows(f"{day} {begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}")
    seconds = windows.opens_in(moment)
    assert 0 <= seconds < WEEK
    assert windows.opens_in(moment + seconds) == 0
    if seconds:
        assert windows.opens_in(moment + seconds - 1) == 1
        opened = dt.datetime.fromtimestamp(moment + seconds, dt.UTC)
        assert (DAYS[opened.weekday()], opened.hour * 60 + opened.minute, opened.second) == (day, begin, 0)


def test_no_window_is_always() -> None:
    assert parse_windows(" , ") == Windows()
