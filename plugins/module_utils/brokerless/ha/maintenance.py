# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""When that may be done which nobody is in need of: windows of the week, in UTC. No clock: time comes in, in seconds since 1970."""

from __future__ import annotations

import re
from dataclasses import dataclass

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTE, DAY, WEEK = 60, 86_400, 7 * 86_400
_MONDAY = 4 * DAY
"""The first Monday after the beginning of 1970, which was a Thursday."""
_WINDOW = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))? +)?(\d{1,2}):(\d\d)-(\d{1,2}):(\d\d)")


@dataclass(frozen=True, slots=True)
class Windows:
    """Times of the week: (begin, end) in seconds after Monday, 00:00 UTC; an end may lie in the next week. Without any it is always time."""

    spans: tuple[tuple[int, int], ...] = ()

    def opens_in(self, wall: float) -> float:
        """Return in how many seconds a window opens; 0 while one is open."""
        if not self.spans:
            return 0.0
        now = (wall - _MONDAY) % WEEK
        if any(begin <= moment < end for begin, end in self.spans for moment in (now, now + WEEK)):
            return 0.0
        return min((begin - now) % WEEK for begin, _end in self.spans)


def parse_windows(text: str) -> Windows:
    """Read windows, with commas between them, such as `mon-fri 22:00-06:00, sun 00:00-24:00`; without a day a window is of every day.

    One that ends before it begins, or then, ends on the next day. Raises `ValueError` that names what is no window.
    """
    found: list[tuple[int, int]] = []
    for part in filter(None, (each.strip().lower() for each in text.split(","))):
        match = _WINDOW.fullmatch(part)
        first, last = (match[1] or "mon", match[2] or match[1] or "sun") if match else ("", "")
        if match is None or not {first, last} <= set(DAYS):
            raise ValueError(f"{part!r} is no window, which would look like mon-fri 22:00-06:00")
        begin, end = (int(match[number]) * 60 + int(match[number + 1]) for number in (3, 5))
        if not (begin < 24 * 60 and end <= 24 * 60 and int(match[4]) < 60 and int(match[6]) < 60):
            raise ValueError(f"{part!r} has a time that is none; the last one of a day is 24:00")
        days = (DAYS.index(last) - DAYS.index(first)) % 7 + 1
        for day in range(DAYS.index(first), DAYS.index(first) + days):
            start = day % 7 * DAY + begin * MINUTE
            found.append((start, start + ((end - begin) * MINUTE if end > begin else (end - begin) * MINUTE + DAY)))
    return Windows(tuple(sorted(found)))
