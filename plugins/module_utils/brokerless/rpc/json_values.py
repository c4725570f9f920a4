# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What may be sent: which Python values JSON carries, and how.

| sent | arrives as |
|---|---|
| None, bool, int, finite float, str (and what derives from them) | the same, as the plain type |
| mapping with string keys | dict |
| list, tuple | list |
| set, frozenset | list, sorted if it can be |
| datetime, date, time | its ISO 8601 text |
| UUID, IP address or network of `ipaddress` | its text |

Everything else is refused with the path of the culprit: bytes, keys that are not strings, NaN, infinities, containers that contain
themselves, nesting deeper than `MAX_DEPTH`, and objects of any other class, because the other side would get something else than what
was sent.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .errors import Unserialisable

MAX_DEPTH = 100
"""How deep lists and objects may be nested."""

MAX_INTEGER_BITS = 4096
"""The longest integer that is sent; Python refuses to read much longer ones from text."""

_SMALL_INTEGER = 1 << 63
_ISO = (dt.date, dt.time)
_TEXT = (uuid.UUID, ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network)


def plain(value: object, path: str) -> Any:
    """Return `value` as None, bools, ints, floats, strings, lists and dicts only.

    `path` is how an error names the value (`args`). Raises `Unserialisable`, which is a `TypeError`, with the path of the culprit.
    """
    return value if _is_plain(value, MAX_DEPTH) else _plain(value, path, ())


def _is_plain(value: object, depth: int) -> bool:
    """Whether the value is plain already, as almost all are: to look costs a fraction of what a copy does."""
    kind = value.__class__
    if value is None or kind is str or kind is bool:
        return True
    if kind is int:
        return abs(value) < _SMALL_INTEGER  # type: ignore[arg-type]
    if depth == 0:
        return False
    if kind is dict:
        return all(key.__class__ is str and _is_plain(member, depth - 1) for key, member in value.items())  # type: ignore[attr-defined]
    return kind is list and all(_is_plain(member, depth - 1) for member in value)  # type: ignore[attr-defined]


def _plain(value: object, path: str, inside: tuple[int, ...]) -> Any:
    scalar, found = _scalar(value, path)
    if found:
        return scalar
    if not isinstance(value, Mapping | list | tuple | set | frozenset):
        raise Unserialisable(f"{path} is {_kind(value)}, which JSON can't carry")
    if id(value) in inside:
        raise Unserialisable(f"{path} contains itself, which JSON can't carry")
    if len(inside) >= MAX_DEPTH:
        raise Unserialisable(f"{path} is nested deeper than {MAX_DEPTH} levels")
    inside = (*inside, id(value))
    if isinstance(value, Mapping):
        return {key: _plain(member, f"{path}[{_short(key)}]", inside) for key, member in plain_keys(value, path)}
    if isinstance(value, set | frozenset):
        members = [_plain(member, f"a member of {path}", inside) for member in value]
        return _sorted_if_possible(members)
    return [_plain(member, f"{path}[{index}]", inside) for index, member in enumerate(value)]


def plain_keys(mapping: Mapping[Any, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Yield the mapping's items, the keys as plain strings. Raises `Unserialisable` at a key that is not a string."""
    for key, member in mapping.items():
        if not isinstance(key, str):
            raise Unserialisable(f"{path} has the key {_short(key)}, {_kind(key)}; keys must be strings")
        yield str.__str__(key), member


def _scalar(value: object, path: str) -> tuple[Any, bool]:
    """Return the plain form of a value that contains no others, and whether it is one."""
    if value is None or isinstance(value, bool):
        return value, True
    if isinstance(value, str):
        return str.__str__(value), True
    if isinstance(value, int):
        if value.bit_length() > MAX_INTEGER_BITS:
            raise Unserialisable(f"{path} is an integer of {value.bit_length()} bits; at most {MAX_INTEGER_BITS} are allowed")
        return int(value), True
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unserialisable(f"{path} is {value}, which JSON can't carry")
        return float(value), True
    if isinstance(value, _ISO):
        return value.isoformat(), True
    if isinstance(value, _TEXT):
        return str(value), True
    return None, False


def _sorted_if_possible(members: list[Any]) -> list[Any]:
    try:
        return sorted(members)
    except TypeError:
        return members


def _kind(value: object) -> str:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"of type {name}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def plain_or_text(values: Iterable[object], limit: int) -> list[Any]:
    """Return the values with each that can't be sent replaced by its `repr`, and texts cut to `limit` characters.

    For what is better told in part than not at all: the arguments of an exception. A container whose JSON would be longer than `limit` is
    replaced as well.
    """
    return [_plain_or_text(value, limit) for value in values]


def _plain_or_text(value: object, limit: int) -> Any:
    try:
        sendable = plain(value, "value")
    except Unserialisable:
        return _text_of(value, limit)
    if isinstance(sendable, str):
        return cut(sendable, limit)
    if isinstance(sendable, list | dict) and _size(sendable) > limit:
        return _text_of(sendable, limit)
    return sendable


def _size(value: object) -> int:
    """Return about how many characters the JSON of a plain value has."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(_size(member) + 2 for member in value)
    if isinstance(value, dict):
        return sum(len(key) + _size(member) + 4 for key, member in value.items())
    return 8


def _text_of(value: object, limit: int) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 (a class of the service's own: whatever its repr does must not hide the exception that is told about)
        text = f"<{type(value).__name__} whose repr fails>"
    return cut(text, limit)


def cut(text: str, limit: int) -> str:
    """Return `text`, its middle left out if it has more than `limit` characters."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
