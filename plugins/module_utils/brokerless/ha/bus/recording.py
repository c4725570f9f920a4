# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Record what is heard in files, and hear it again from there, offline, with the times of then.

A recording is JSON, an object on each line. `event` says what it is and `at` when, in monotonic seconds of the process that recorded it:

| event | members besides `event` and `at` |
|---|---|
| `recording` | `format` (1), `wall` (seconds since 1970), `host`, `process` (its id), `lost` (so many events were not written |
| | before): opens a file, and stands where one was opened again |
| `message` | `exchange`, `routing_key`, `message`: what passed on the bus, a heartbeat or (of who overhears) anything |
| `began` | `source`: from here on everything is heard |
| `interrupted` | `source`, `since` (null: never heard), `reason` |
| `lag` | `source`, `seconds`, `waiting` (null: not known) |
| `noted` | `what`, `data`: what else was told to the watch (see `recorded_watch`) |

No context of a caller is in it, with its tokens, and values whose names speak of secrets are masked. Files are readable by their owner only. When
a file is full it gets the suffix `.1`, that one `.2`, and so on; the oldest is deleted, so that all together have a bound.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Any

from .base import Event, HearingBegan, HearingInterrupted, Lag, Overheard
from .oslo_message import heard

LOG = logging.getLogger("rpcdaemon.recording")
FORMAT = 1
MASK = "***"
_SECRET = re.compile(r"pass(word|wd|phrase)|secret|token|private_key|credential|(^|_)psk($|_)|auth_key", re.IGNORECASE)
_MAX_LINE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Noted:
    """Something else than what the bus told, that the decisions depend on: `what` names its kind."""

    at: float
    what: str
    data: Any


@dataclass(frozen=True, slots=True)
class ProcessBegan:
    """Another process recorded what follows, or the first: nothing that was told before holds, and its monotonic times are its own."""

    at: float


class RecordingError(ValueError):
    """A file is no recording; the text says which, and why."""


def masked(value: Any) -> Any:
    """Return a value of JSON with everything masked whose name speaks of a secret."""
    if isinstance(value, Mapping):
        return {key: MASK if member and _SECRET.search(str(key)) else masked(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [masked(member) for member in value]
    return value


class Recorder:
    """Writes a recording. Any thread may record; a disk that is full or away stops nothing but the recording, until it is well again."""

    def __init__(self, path: Path, max_bytes: int = 50 << 20, files: int = 4) -> None:
        """Nothing is opened yet. `files` of `max_bytes` each are kept at most, `path` being the newest."""
        self._path = path
        self._max_bytes = max_bytes
        self._files = files
        self._lock = threading.Lock()
        self._file: BufferedWriter | None = None
        self._size = 0
        self._failed = False
        self._who = {"host": socket.gethostname(), "process": uuid.uuid4().hex}
        self.lost = 0
        """How many events could not be written."""
        self.opening: Callable[[], Iterable[Event | Noted]] = tuple
        """Returns what is written at the beginning of each file, after its first line."""

    def record(self, event: Event | Noted) -> None:
        """Write one event. Fails never."""
        line = _line(_told(event))
        with self._lock:
            try:
                self._write(line)
            except OSError as error:
                self.lost += 1
                if not self._failed:
                    LOG.warning("recording to %s fails: %s; what is heard meanwhile is not recorded", self._path, error)
                self._failed = True
                self._close()
            else:
                self._failed = False

    def close(self) -> None:
        """Close the file. Recording goes on in it if more is recorded."""
        with self._lock:
            self._close()

    def _write(self, line: bytes) -> None:
        if len(line) > min(self._max_bytes, _MAX_LINE_BYTES):
            raise OSError(f"an event of {len(line)} bytes is longer than a file may be")
        if self._file is not None and self._size + len(line) > self._max_bytes:
            self._close()
            self._rotate()
        if self._file is None:
            self._open()
        self._append(line)

    def _append(self, line: bytes) -> None:
        if self._file is None:
            return
        self._file.write(line)
        self._file.flush()
        self._size += len(line)

    def _open(self) -> None:
        self._file = os.fdopen(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab")
        self._size = self._file.tell()
        # a process that was killed may have left half a line
        beginning = b"\n" if self._size and not _ends_with_a_line(self._path) else b""
        clocks = {"at": time.monotonic(), "wall": time.time()}
        self._append(beginning + _line({"event": "recording", **clocks, "format": FORMAT, **self._who, "lost": self.lost}))
        for event in self.opening():
            self._append(_line(_told(event)))

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._file = None

    def _rotate(self) -> None:
        for number in range(self._files - 1, 0, -1):
            younger = _numbered(self._path, number - 1)
            if number == self._files - 1:
                _numbered(self._path, number).unlink(missing_ok=True)
            if younger.exists():
                younger.rename(_numbered(self._path, number))
        if self._files == 1:
            self._path.unlink(missing_ok=True)


def recordings_of(path: Path) -> list[Path]:
    """Return the files of one recording that exist, the oldest first."""
    numbers = {0: path}
    for each in path.parent.glob(f"{path.name}.*"):
        if (suffix := each.name[len(path.name) + 1 :]).isdecimal():
            numbers[int(suffix)] = each
    return [numbers[number] for number in sorted(numbers, reverse=True) if numbers[number].exists()]


@dataclass(slots=True)
class Replay:
    """Hears a recording again. `lines` and `damaged` count what was read, and what of it was no event."""

    files: Iterable[Path]
    lines: int = 0
    damaged: int = 0

    def run(self, tell: Callable[[Event | Noted | ProcessBegan, float], None]) -> None:
        """Tell each event with the wall clock of then, in seconds since 1970.

        Where a process could not write all of what it heard, hearing was interrupted. Raises `RecordingError`, and `OSError` for a file that can't
        be read.
        """
        process: object = None
        lost: object = None
        last: float | None = None
        wall_ahead = 0.0
        for file, number, told in self._objects():
            at = _number(told.get("at"))
            if told.get("event") == "recording":
                wall = _number(told.get("wall"))
                if told.get("format") != FORMAT or at is None or wall is None:
                    raise RecordingError(f"{file}, line {number}: no recording of format {FORMAT}")
                wall_ahead = wall - at
                if last is None or process != told.get("process"):
                    tell(ProcessBegan(at), wall)
                elif lost != told.get("lost"):
                    tell(HearingInterrupted(at, "recording", last, "not all was recorded"), wall)
                last, process, lost = at, told.get("process"), told.get("lost")
                continue
            if last is None:
                raise RecordingError(f"{file}, line {number}: a recording begins with the event 'recording'")
            event = None if at is None else _event(told, at)
            if at is None or event is None:
                self.damaged += 1
                continue
            last = max(last, at)
            tell(event, at + wall_ahead)

    def _objects(self) -> Iterator[tuple[Path, int, dict[str, Any]]]:
        for file in self.files:
            with file.open("rb") as lines:
                for number, line in enumerate(iter(lambda lines=lines: lines.readline(_MAX_LINE_BYTES), b""), 1):  # type: ignore[misc]
                    self.lines += 1
                    try:
                        told = json.loads(line)
                    except (ValueError, RecursionError):
                        told = None
                    if isinstance(told, dict):
                        yield file, number, told
                    else:
                        self.damaged += 1


def _told(event: Event | Noted) -> dict[str, Any]:
    """Return an event as it is written."""
    match event:
        case Overheard():
            where = {"exchange": event.exchange, "routing_key": event.routing_key}
            return {"event": "message", "at": event.heard_at, **where, "message": masked(event.message)}
        case HearingBegan():
            return {"event": "began", "at": event.at, "source": event.source}
        case HearingInterrupted():
            return {"event": "interrupted", "at": event.at, "source": event.source, "since": event.since, "reason": event.reason}
        case Lag():
            return {"event": "lag", "at": event.at, "source": event.source, "seconds": event.seconds, "waiting": event.waiting}
        case Noted():
            return {"event": "noted", "at": event.at, "what": event.what, "data": masked(event.data)}


def _event(told: Mapping[str, Any], at: float) -> Event | Noted | None:
    """Return what was written as an event again, None if it is none."""
    text = {name: str(told.get(name, "")) for name in ("exchange", "routing_key", "source", "reason", "what")}
    kind = told.get("event")
    if kind == "message" and isinstance(told.get("message"), Mapping):
        return heard(at, text["exchange"], text["routing_key"], told["message"])
    if kind == "began":
        return HearingBegan(at, text["source"])
    if kind == "interrupted":
        return HearingInterrupted(at, text["source"], _number(told.get("since")), text["reason"])
    if kind == "lag" and (seconds := _number(told.get("seconds"))) is not None:
        waiting = told.get("waiting")
        return Lag(at, text["source"], seconds, waiting if isinstance(waiting, int) else None)
    if kind == "noted":
        return Noted(at, text["what"], told.get("data"))
    return None


def _line(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, separators=(",", ":")).encode("ascii") + b"\n"


def _number(value: object) -> float | None:
    """Return a finite number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        return None
    return float(value)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
