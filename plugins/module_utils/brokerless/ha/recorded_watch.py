# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A watch of which all that it is told is recorded, and what was recorded told to another one: the same in, the same decisions out.

The watch has no clock and asks nobody, so that a recording of the calls of its methods is all of it. What the bus told is recorded as it came (see
`bus.recording`); each other call is noted by the name of the method, with its arguments as JSON: objects by their fields, those with the value that
they have by default left out.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import time
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Any

from .bus.base import Event, HeardReport, HearingBegan, Overheard
from .bus.recording import Noted, Recorder
from .policy import PolicySettings
from .watch import Watch

TOLD = (
    "listed",
    "polled",
    "unanswered",
    "probed",
    "tick",
    "looked",
    "read_settling",
    "overdue",
    "leads_no_more",
    "ended",
    "open_moves",
    "wish",
    "release",
    "rebalance",
)
"""The methods by which a watch is told something, but for what the bus tells."""
POLICY = "policy"
"""What is noted beside those: the thresholds by which was judged."""
_AGAIN = ("listed", "open_moves", "wish")
"""Of those, what is noted again at the beginning of each file, so that one can be replayed without the files before it."""


class RecordedWatch(Watch):
    """A watch that records what it is told."""

    def __init__(self, policy: PolicySettings, managed: Collection[str], recorder: Recorder) -> None:
        """`recorder` is closed by who made it."""
        super().__init__(policy, managed)
        self._recorder = recorder
        self._last: dict[str, Noted] = {}
        recorder.opening = self._what_is_known
        for name in TOLD:
            setattr(self, name, self._noted(name, getattr(self, name)))

    def hear(self, event: Event, wall: float) -> None:
        """As `Watch.hear`."""
        if isinstance(event, HeardReport) or not isinstance(event, Overheard):
            self._recorder.record(event)
        super().hear(event, wall)

    def _noted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(method)

        @functools.wraps(method)
        def noted(*arguments: Any, **named: Any) -> Any:
            told = signature.bind(*arguments, **named).arguments
            for argument, value in told.items():
                if isinstance(value, Iterator):
                    told[argument] = list(value)
            if (name == "open_moves" and not told["moves"] and not self.broken) or (name == "overdue" and not self.settling.waiting):
                return method(**told)
            now = told.get("now", time.monotonic())
            data = {argument: _to_json(value) for argument, value in told.items()}
            if name == "polled":
                # only whether it is another than before counts
                data = {"things": [format(hash(frozenset(told["things"])) & (1 << 64) - 1, "x")]}
            note = Noted(now, name, data)
            if name in _AGAIN:
                self._last[f"wish {told['host']}" if name == "wish" else name] = note
            self._recorder.record(note)
            return method(**told)

        return noted

    def _what_is_known(self) -> list[Event | Noted]:
        """Return what a file begins with. What was heard before it is not known there: hearing begins anew."""
        now = time.monotonic()
        found: list[Event | Noted] = [Noted(now, POLICY, _to_json(self.policy))]
        found += [dataclasses.replace(note, at=now) for note in self._last.values()]
        if self.judge.hearing.since is not None:
            found.append(HearingBegan(now, "what was heard before is in an older file"))
        return found


def tell(watch: Watch, note: Noted) -> Any:
    """Tell a watch what was noted, and return what its method does. Raises `ValueError` for what is no such note."""
    if note.what not in TOLD:
        raise ValueError(f"{note.what!r} is nothing that a watch is told")
    hints = _hints_of(note.what)
    try:
        arguments = {name: _reader(hints[name])(value) for name, value in note.data.items()}
        return getattr(watch, note.what)(**arguments)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"what was noted of {note.what} is damaged: {error!r}") from error


@functools.cache
def _hints_of(method: str) -> dict[str, Any]:
    return typing.get_type_hints(getattr(Watch, method))


def policy_of(note: Noted) -> PolicySettings:
    """Return the thresholds that were noted. Raises `ValueError`."""
    try:
        found: PolicySettings = _reader(PolicySettings)(note.data)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the policy that was noted is damaged: {error!r}") from error
    return found


# --- objects as JSON -------------------------------------------------------------------------------------------------------------------------


def _to_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((each, getattr(value, each.name)) for each in dataclasses.fields(value))
        return {each.name: _to_json(member) for each, member in fields if not _is_default(each, member)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, frozenset | set):
        return sorted(map(_to_json, value))
    if isinstance(value, Mapping):
        return {str(key): _to_json(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(member) for member in value]
    return value


def _is_default(each: dataclasses.Field[Any], value: Any) -> bool:
    if each.default_factory is not dataclasses.MISSING:
        return bool(value == each.default_factory())
    return each.default is not dataclasses.MISSING and bool(value == each.default)


@functools.cache
def _reader(hint: Any) -> Callable[[Any], Any]:
    """Return what reads what `_to_json` made of something of the type `hint`; it raises `KeyError`, `TypeError`, `ValueError` or `AttributeError`."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in {UnionType, typing.Union}:
        present = _reader(next(each for each in inner if each is not NoneType))
        return lambda value: None if value is None else present(value)
    if origin is not None and issubclass(origin, Mapping):
        member = _reader(inner[1])
        return lambda value: {key: member(each) for key, each in value.items()}
    if origin is tuple and inner[1:] != (...,):
        members = [_reader(each) for each in inner]
        return lambda value: tuple(read(each) for read, each in zip(members, value, strict=True))
    if origin is not None:
        member, collect = _reader(inner[0]), origin if origin in {frozenset, tuple} else list
        return lambda value: collect(map(member, value))
    if isinstance(hint, type):
        return _reader_of_class(hint)
    return lambda value: value


def _reader_of_class(kind: type) -> Callable[[Any], Any]:
    if dataclasses.is_dataclass(kind):
        fields = typing.get_type_hints(kind)
        return lambda value: kind(**{name: _reader(fields[name])(each) for name, each in value.items()})
    if issubclass(kind, tuple):
        return lambda value: kind(*value)
    if issubclass(kind, Enum):
        return kind

    def plain(value: Any) -> Any:
        if kind is float and isinstance(value, int):
            return float(value)
        if kind in {float, int, str, bool} and not isinstance(value, kind):
            raise TypeError(f"{value!r} is not of type {kind.__name__}")
        return value

    return plain
