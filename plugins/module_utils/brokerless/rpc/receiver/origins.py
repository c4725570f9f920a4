# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What a receiver remembers of the processes whose messages it forwards: what they have settled, and to which host each message went.

A sender whose connection breaks may not have heard where its message went. It sends the message again, which then goes to the same host: that one
knows whether it took it. No clock: time comes in as `now`, in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..deadlines import Deadlines
from ..envelope import MessageId

MAX_ORIGINS = 10_000
"""Of so many sending processes it is remembered what they have settled, whether or not a message of theirs is on its way."""


class Origins:
    """Sending processes, each by the origin in its messages' names."""

    def __init__(self) -> None:
        """Nothing is remembered yet."""
        self._settled: dict[str, int] = {}
        self._settled_limit = MAX_ORIGINS
        self._went_to: dict[str, dict[int, str]] = {}
        self._went_until: dict[str, float] = {}
        self._went_due: Deadlines[str] = Deadlines()

    def settle(self, origin: str, settled: int) -> None:
        """All messages of `origin` with a number below `settled` have come to their end: where they went is of no interest any more."""
        numbers = self._went_to.get(origin)
        while numbers and (number := next(iter(numbers))) < settled:
            del numbers[number]
        self._settled[origin] = max(settled, self._settled.get(origin, 0))

    def settled(self, origin: str) -> int:
        """Return the number below which all of the messages of `origin` have come to their end, as far as is known."""
        return self._settled.get(origin, 0)

    @property
    def too_many(self) -> bool:
        """Whether it is time to `keep` only those of whom messages are on their way."""
        return len(self._settled) > self._settled_limit

    def keep(self, origins: Iterable[str]) -> None:
        """Forget what all processes but `origins` have settled."""
        kept = set(origins)
        self._settled = {origin: settled for origin, settled in self._settled.items() if origin in kept}
        self._settled_limit = max(MAX_ORIGINS, 2 * len(self._settled))

    def host_of(self, message: MessageId) -> str | None:
        """Return the host that a message went to, empty if it came back from there, None if that is not remembered."""
        return self._went_to.get(message.origin, {}).get(message.number)

    def went(self, message: MessageId, host: str, until: float) -> None:
        """A message went to `host`, or came back if that is empty; that is remembered until it is settled, or else until `until`."""
        origin, number = message
        self._went_to.setdefault(origin, {})[number] = host
        if origin not in self._went_until:
            self._went_due.set(origin, until)
        self._went_until[origin] = max(until, self._went_until.get(origin, 0.0))

    def never_went(self, message: MessageId) -> None:
        """Forget where a message went: it may go anywhere."""
        self._went_to.get(message.origin, {}).pop(message.number, None)

    def forget(self, now: float) -> None:
        """Forget where messages went of processes that send nothing more."""
        for origin in self._went_due.due(now):
            if self._went_until[origin] > now:
                self._went_due.set(origin, self._went_until[origin])
            else:
                del self._went_until[origin]
                self._went_to.pop(origin, None)
