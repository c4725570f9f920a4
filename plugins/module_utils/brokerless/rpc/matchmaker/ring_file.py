# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The ring file: JSON that lists the hosts of each base topic, `{"scheduler": ["o1p409", "o2p409"]}`.

Keys are base topics, or globs of them (`q-agent-notifier-*`). What is not a ring is refused with an error that names the file, the key and
the fault, and `files/schemas/matchmaker_ring.schema.json` says the same to editors and to other programs.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from types import MappingProxyType

from ..topics import MAX_NAME_LENGTH, TopicError, check_host, check_topic

MAX_RING_BYTES = 8 << 20
"""The largest ring file in bytes. Ten thousand hosts under ten topics need less than a quarter of it."""

_GLOB_CHARACTERS = "*?["
_CHARACTER_CLASS = re.compile(r"\[!?[A-Za-z0-9_.@:#%+-]+\]")
_GLOB = re.compile(rf"(?:[A-Za-z0-9_*?]|{_CHARACTER_CLASS.pattern})(?:[A-Za-z0-9_.@:#%+*?-]|{_CHARACTER_CLASS.pattern})*")


class RingError(ValueError):
    """A ring can't be read or is not acceptable; the message names the file, the key and the fault, in one line."""


class DuplicateKey(ValueError):
    """A JSON object has one key twice, so that one of its two values would get lost; `key` is that key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"key {_shown(key)} appears more than once")
        self.key = key


@dataclass(frozen=True)
class Ring:
    """Which hosts serve which base topic. Made by `read_ring`, `parse_ring` or `check_ring`, which let nothing wrong pass.

    `topics` maps each key to its hosts, in the order in which a round robin takes them. Two rings are equal if they say the same.
    """

    topics: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "topics", MappingProxyType({key: tuple(hosts) for key, hosts in self.topics.items()}))

    @cached_property
    def _globs(self) -> tuple[str, ...]:
        return tuple(sorted((key for key in self.topics if is_glob(key)), key=lambda key: (-len(key), key)))

    def matching_key(self, topic: str) -> str | None:
        """Return the key that decides about `topic`: the topic itself, else the longest glob that matches it, else None.

        Of several globs of the same length the alphabetically first one decides.
        """
        if topic in self.topics:
            return topic
        return next((glob for glob in self._globs if fnmatchcase(topic, glob)), None)

    def hosts_of(self, topic: str) -> tuple[str, ...]:
        """Return the hosts of the base topic `topic`, in the ring's order; none if no key matches it."""
        key = self.matching_key(topic)
        return () if key is None else self.topics[key]

    def hosts(self) -> frozenset[str]:
        """Return every host of the ring."""
        return frozenset(host for hosts in self.topics.values() for host in hosts)

    def to_json(self) -> str:
        """Return the text of the ring's file: keys sorted, two spaces of indentation, a newline at the end. Equal rings have equal texts."""
        return json.dumps({key: list(self.topics[key]) for key in sorted(self.topics)}, indent=2) + "\n"


def is_glob(key: str) -> bool:
    """Whether a key of a ring stands for all topics that match it, rather than for one topic."""
    return any(character in key for character in _GLOB_CHARACTERS)


def check_ring_key(key: object) -> str:
    """Return `key` if it can be a key of a ring: a base topic, or a glob of `*`, `?`, `[abc]` and `[!abc]`. Raises `TopicError`, naming the fault."""
    if not isinstance(key, str) or not is_glob(key) or len(key) > MAX_NAME_LENGTH or ".." in key:
        return check_topic(key)
    if _GLOB.fullmatch(key):
        return key
    bad = next((character for character in key if not _GLOB.fullmatch("a" + character) and character not in "[]!"), None)
    if bad is not None:
        raise TopicError(f"topic {key!r} contains {bad!r}, which is not allowed in it")
    raise TopicError(f"topic {key!r} is not a glob; it may hold *, ?, [abc] and [!abc], and begins with one of them, a letter, a digit or '_'")


def check_ring(value: object, source: str) -> Ring:
    """Return the ring that `value`, decoded JSON, describes. `source` names its origin in errors. Raises `RingError`."""
    where = _where(source)
    if not isinstance(value, Mapping):
        raise RingError(f"{where}: must hold a JSON object of topics and their hosts, not {_kind(value)}")
    if not value:
        raise RingError(f"{where}: defines no topic")
    return Ring({_check_key(key, where): _check_hosts(key, hosts, where) for key, hosts in value.items()})


def parse_ring(text: str | bytes, source: str) -> Ring:
    """Return the ring that `text`, the content of a ring file, describes. `source` names the file in errors. Raises `RingError`."""
    where = _where(source)
    if isinstance(text, bytes):
        _check_size(len(text), where)
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RingError(f"{where}: is not UTF-8 text (byte {error.start + 1} is 0x{error.object[error.start]:02x})") from error
    else:
        _check_size(len(text), where)
    if not text.strip():
        raise RingError(f"{where}: is empty, which is not JSON")
    if text.startswith("\ufeff"):
        raise RingError(f"{where}: begins with a byte order mark; save it as UTF-8 without one")
    try:
        value = json.loads(text, object_pairs_hook=_object_of_unique_keys)
    except json.JSONDecodeError as error:
        raise RingError(f"{where}: is not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from error
    except DuplicateKey as error:
        raise RingError(f"{where}: {error}") from error
    except RecursionError as error:
        raise RingError(f"{where}: is nested too deeply to be a ring") from error
    except ValueError as error:
        raise RingError(f"{where}: holds a number that is too long to be read") from error
    return check_ring(value, source)


def read_ring(path: str) -> Ring:
    """Return the ring of the file at `path`. Raises `RingError` if the file can't be read or is not a ring; never waits for a FIFO or device."""
    where = _where(path)
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            _check_regular(status.st_mode, where)
            _check_size(status.st_size, where)
            content = file.read(MAX_RING_BYTES + 1)
    except IsADirectoryError as error:
        raise RingError(f"{where}: is a directory, not a file") from error
    except OSError as error:
        raise RingError(f"{where}: {_unreadable(error)}") from error
    except RingError:
        raise
    except ValueError as error:
        raise RingError(f"{where}: the path can't be the name of a file: {error}") from error
    return parse_ring(content, path)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _check_key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise RingError(f"{where}: key {_shown(key)} must be a string, not {_kind(key)}")
    try:
        return check_ring_key(key)
    except TopicError as error:
        raise RingError(f"{where}: {error}") from error


def _check_hosts(key: object, hosts: object, where: str) -> tuple[str, ...]:
    subject = f"{where}: key {_shown(key)}"
    if not isinstance(hosts, list | tuple):
        raise RingError(f"{subject}: must be an array of hosts, not {_kind(hosts)}")
    if not hosts:
        raise RingError(f"{subject}: its array of hosts is empty")
    seen: set[str] = set()
    for position, host in enumerate(hosts, start=1):
        if not isinstance(host, str):
            raise RingError(f"{subject}: host {position} must be a string, not {_kind(host)}")
        if not host:
            raise RingError(f"{subject}: host {position} is empty")
        try:
            check_host(host)
        except TopicError as error:
            raise RingError(f"{subject}: {error}") from error
        if host in seen:
            raise RingError(f"{subject}: host {_shown(host)} is listed more than once")
        seen.add(host)
    return tuple(hosts)


def _check_regular(mode: int, where: str) -> None:
    if not stat.S_ISREG(mode):
        raise RingError(f"{where}: is not a regular file")


def _check_size(size: int, where: str) -> None:
    if size > MAX_RING_BYTES:
        raise RingError(f"{where}: is too big for a ring; at most {MAX_RING_BYTES >> 20} MiB are read")


def _object_of_unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise DuplicateKey(key)
        result[key] = value
    return result


def _unreadable(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "does not exist"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "can't be read, permission denied"
    return f"can't be read: {error.strerror or error}"


def _where(source: str) -> str:
    return f"ring file {source if source.isprintable() else repr(source)}"


def _shown(name: object) -> str:
    text = repr(name)
    return text if len(text) <= MAX_NAME_LENGTH else f"{text[:40]}…"


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "an array"
    return type(value).__name__
