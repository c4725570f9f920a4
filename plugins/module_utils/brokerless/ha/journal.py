# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The journal: written before a router loses its agent and after it has one again, so that whoever comes next finishes what was begun.

Two places: a file, for a daemon that is alone, and a queue of RabbitMQ, which all replicas share. In the queue there is one message for each
entry, which the leader holds unacknowledged; when the leader dies, they all are the next one's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO, TypeAlias

from ..soft_import import soft_import

if TYPE_CHECKING:
    import kombu
else:
    kombu = soft_import("kombu", "kombu")

LOG = logging.getLogger("rpcdaemon.journal")
FORMAT = 1
MOST_ENTRIES = 10_000
HEARTBEAT = 5.0
"""Seconds: RabbitMQ takes entries from a leader that stands still for twice as long, for the next one."""
COMPACT_LINES = 10_000
"""After so many lines the file is written anew, with what is not over only."""


class JournalError(Exception):
    """The journal can't be read or written; the message names it and the fault. Without it, nothing may be moved."""


@dataclass(frozen=True, slots=True)
class OpenMove:
    """A move that has begun: the router, the agents by id and host, how far it came, and whose it is: the leader's term and name.

    `begun_at` is the time of the day, in seconds since 1970, for people.
    """

    router: str
    source: str
    source_host: str
    target: str
    target_host: str
    stage: str
    term: str
    begun_at: float

    @property
    def key(self) -> str:
        """Return what it is an entry about."""
        return f"move:{self.router}"

    def at_stage(self, stage: str, target: str, target_host: str) -> OpenMove:
        """Return it as it is further on."""
        return replace(self, stage=stage, target=target, target_host=target_host)


@dataclass(frozen=True, slots=True)
class HostWish:
    """What the operator wants of a host until he says otherwise: `draining` or `cordoned`. `said_at` is in seconds since 1970."""

    host: str
    wish: str
    said_at: float

    @property
    def key(self) -> str:
        """Return what it is an entry about."""
        return f"host:{self.host}"


Entry: TypeAlias = OpenMove | HostWish
_KINDS: Mapping[str, type[OpenMove] | type[HostWish]] = {"move": OpenMove, "host": HostWish}


def written(entry: Entry) -> str:
    """Return an entry as a line of JSON."""
    return json.dumps({"format": FORMAT, "kind": entry.key.partition(":")[0], **asdict(entry)}, sort_keys=True)


def read(text: str) -> Entry:
    """Read what `written` wrote. Raises `ValueError` that names the fault."""
    told = json.loads(text)
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise ValueError(f"it is not of format {FORMAT}")
    kind = _KINDS.get(str(told.get("kind")))
    if kind is None:
        raise ValueError(f"it is of the unknown kind {told.get('kind')!r}")
    values: dict[str, Any] = {}
    for each in fields(kind):
        value = told.get(each.name)
        if not isinstance(value, str if each.type == "str" else int | float):
            raise ValueError(f"{each.name} is missing or of the wrong kind")  # noqa: TRY004 - what was read is wrong, not a caller
        values[each.name] = value
    return kind(**values)


class Journal(Protocol):
    """Where entries are kept. All methods may be called from any thread, and raise `JournalError`."""

    def entries(self) -> list[Entry]:
        """Return what was written and not ended, by whomever."""

    def put(self, entry: Entry) -> None:
        """Write an entry down, in place of what was written under the same key; return when it is safe."""

    def end(self, key: str) -> None:
        """What is written under the key is over."""

    def keep(self) -> None:
        """Be called every second or so: see that nobody takes us for dead, and what others left."""

    def close(self) -> None:
        """Leave open what is open."""


class FileJournal:
    """A file of JSON lines: each is an entry, or `{"ended": KEY}`. The last word on a key counts."""

    def __init__(self, path: Path) -> None:
        """Read the file, which need not be there. A last line that was broken off is left out: what it stood for had not begun."""
        self._path = path
        self._lock = threading.Lock()
        self._open: dict[str, Entry] = {}
        self._lines = 0
        self._file: TextIO | None = None
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            self._open = _last_words(text.splitlines(keepends=True), path)
            self._compact()
        except (OSError, UnicodeDecodeError) as error:
            raise JournalError(f"journal {path}: {error}") from error

    def entries(self) -> list[Entry]:
        with self._lock:
            return list(self._open.values())

    def put(self, entry: Entry) -> None:
        with self._lock:
            self._write(written(entry))
            self._open[entry.key] = entry

    def end(self, key: str) -> None:
        with self._lock:
            if self._open.pop(key, None) is not None:
                self._write(json.dumps({"ended": key}))

    def keep(self) -> None:
        """Nothing is to be done for a file."""

    def _write(self, line: str) -> None:
        if self._file is None:
            raise JournalError(f"journal {self._path} is closed")
        try:
            self._file.write(line + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise JournalError(f"journal {self._path}: {error}") from error
        self._lines += 1
        if self._lines >= COMPACT_LINES + len(self._open):
            self._compact()

    def _compact(self) -> None:
        if self._file is not None:
            self._file.close()
        beside = self._path.with_name(self._path.name + ".new")
        with beside.open("w", encoding="utf-8") as new:
            new.writelines(written(entry) + "\n" for entry in self._open.values())
            new.flush()
            os.fsync(new.fileno())
        beside.replace(self._path)
        self._lines = len(self._open)
        self._file = self._path.open("a", encoding="utf-8")

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


def _last_words(lines: Iterable[str], path: Path) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for number, line in enumerate(lines, 1):
        if not line.endswith("\n"):
            LOG.warning("journal %s: line %d was broken off when it was written; it is left out", path, number)
            continue
        try:
            told: Any = json.loads(line)
            if isinstance(told, Mapping) and isinstance(told.get("ended"), str):
                found.pop(told["ended"], None)
            else:
                entry = read(line)
                found[entry.key] = entry
        except ValueError as error:
            raise JournalError(f"journal {path}, line {number}: {error}; move the file away if nothing is under way") from error
    return found


class QueueJournal:
    """A durable queue of RabbitMQ with a persistent message for each entry. Only the leader may have it open: whoever has, holds all messages."""

    def __init__(self, urls: Sequence[str], queue: str, time_limit: float = 10.0) -> None:
        """Take over the entries of `queue`, which is made if it isn't there. `time_limit` (seconds) is for each question to RabbitMQ."""
        self._urls = list(urls)
        self._time_limit = time_limit
        self._name = queue
        self._lock = threading.Lock()
        self._held: dict[str, tuple[Entry, Any]] = {}
        self._known: list[Entry] = []
        """What was held when RabbitMQ answered last: who reads the entries doesn't wait for it."""
        self._connection: Any = None
        with self._told():
            self._connect()

    def _connect(self) -> None:
        """Connect anew. What was held on an earlier connection is in the queue again, and is taken over."""
        if self._connection is not None:
            self._connection.release()
        self._held.clear()
        options = {"confirm_publish": True, "read_timeout": self._time_limit, "write_timeout": self._time_limit}
        self._connection = kombu.Connection(self._urls, heartbeat=HEARTBEAT, connect_timeout=self._time_limit, transport_options=options)
        channel = self._connection.channel()
        arguments = {"x-max-length": MOST_ENTRIES, "x-overflow": "reject-publish"}
        self._queue = kombu.Queue(self._name, channel=channel, durable=True, queue_arguments=arguments)
        self._queue.declare()
        self._producer = kombu.Producer(channel)
        self._take_over()

    def _take_over(self) -> None:
        """Fetch all messages and hold them; of two under the same key the later one counts."""
        while (message := self._queue.get(no_ack=False)) is not None:
            try:
                entry = read(message.body if isinstance(message.body, str) else bytes(message.body).decode())
            except ValueError as error:
                LOG.error("journal queue %s: a message is no entry and is dropped: %s", self._name, error)  # noqa: TRY400 - it is not our fault
                message.ack()
                continue
            earlier = self._held.get(entry.key)
            self._held[entry.key] = (entry, message)
            if earlier is not None:
                earlier[1].ack()

    def entries(self) -> list[Entry]:
        return list(self._known)

    def put(self, entry: Entry) -> None:
        with self._lock, self._told():
            self._publish(entry)
            if self._held.get(entry.key, (None,))[0] != entry:
                raise JournalError(f"journal queue {self._name}: what was written did not come back; does another daemon read it?")

    def _publish(self, entry: Entry) -> None:
        try:
            self._publish_once(entry)
        except self._faults():
            # RabbitMQ takes messages away that are held for longer than its consumer_timeout, half an hour, and the channel with them
            self._connect()
            self._publish_once(entry)

    def _publish_once(self, entry: Entry) -> None:
        self._producer.publish(written(entry), routing_key=self._name, content_type="text/plain", delivery_mode=2, mandatory=True)
        self._take_over()

    def end(self, key: str) -> None:
        with self._lock, self._told():
            held = self._held.pop(key, None)
            if held is None:
                return
            try:
                held[1].ack()
            except self._faults():
                self._connect()
                if again := self._held.pop(key, None):
                    again[1].ack()

    def keep(self) -> None:
        with self._lock, self._told():
            try:
                self._connection.heartbeat_check()
                self._take_over()
            except self._faults():
                self._connect()

    @staticmethod
    def _faults() -> tuple[type[BaseException], ...]:
        connection = kombu.Connection("amqp://")
        return (OSError, kombu.exceptions.OperationalError, *connection.connection_errors, *connection.channel_errors)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
            self._known = [entry for entry, _message in self._held.values()]
        except self._faults() as error:
            raise JournalError(f"journal queue {self._name}: {error}") from error

    def close(self) -> None:
        with self._lock, contextlib.suppress(*self._faults()):
            self._connection.release()
