# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What was accepted already: the memory that keeps a message from being handed over twice.

A sending process says with each message below which number all of its messages have come to their end (`Envelope.settled`). So
what must be remembered of a process is never more than what it has in flight.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .envelope import MessageId


class Seen:
    """The messages accepted, by the process they come from."""

    def __init__(self) -> None:
        self._floor: dict[str, int] = {}
        self._numbers: dict[str, set[int]] = {}
        self._forget_at: dict[str, float] = {}

    def __contains__(self, message: MessageId) -> bool:
        """Whether the message was accepted, or has come to its end at its sender, so that a copy of it must not be handed over."""
        number = message.number
        return number < self._floor.get(message.origin, 0) or number in self._numbers.get(message.origin, ())

    def __len__(self) -> int:
        """Return how many processes are remembered."""
        return len(self._forget_at)

    def knows(self, origin: str) -> bool:
        """Whether anything is remembered of a process."""
        return origin in self._forget_at

    def has_ended(self, message: MessageId) -> bool:
        """Whether the sender has said that the message came to its end."""
        return message.number < self._floor.get(message.origin, 0)

    def add(self, message: MessageId) -> None:
        """Remember that the message was accepted."""
        if not self.has_ended(message):
            self._numbers.setdefault(message.origin, set()).add(message.number)

    def discard(self, message: MessageId) -> None:
        """Forget that the message was accepted: it went back to its sender and may come again."""
        self._numbers.get(message.origin, set()).discard(message.number)

    def note_settled(self, origin: str, settled: int, forget_at: float) -> None:
        """Take in that all messages of `origin` below `settled` have come to their end, and keep what is known of it until `forget_at` at least."""
        if forget_at > self._forget_at.get(origin, float("-inf")):
            self._forget_at[origin] = forget_at
        floor = self._floor.get(origin, 0)
        if settled <= floor:
            return
        self._floor[origin] = settled
        numbers = self._numbers.get(origin)
        if numbers and settled - floor < len(numbers):
            numbers.difference_update(range(floor, settled))
        elif numbers:
            self._numbers[origin] = {number for number in numbers if number >= settled}

    def forget(self, now: float) -> None:
        """Drop the processes of which no message can be under way any more."""
        for origin in [origin for origin, forget_at in self._forget_at.items() if forget_at < now]:
            del self._forget_at[origin]
            self._floor.pop(origin, None)
            self._numbers.pop(origin, None)

    def summary(self) -> Iterator[tuple[str, int, list[int]]]:
        """Yield, for each process, its id, the number below which all has ended, and the numbers accepted from there on."""
        for origin in self._forget_at:
            yield origin, self._floor.get(origin, 0), sorted(self._numbers.get(origin, ()))

    def merge(self, taken: Iterable[tuple[str, int, Iterable[int]]], forget_at: float) -> None:
        """Take in another's summary."""
        for origin, settled, numbers in taken:
            self.note_settled(origin, settled, forget_at)
            floor = self._floor.get(origin, 0)
            self._numbers.setdefault(origin, set()).update(number for number in numbers if number >= floor)

    def sizes(self) -> Mapping[str, int]:
        """Return how many processes and messages are remembered."""
        return {"origins": len(self._forget_at), "messages": sum(map(len, self._numbers.values()))}
