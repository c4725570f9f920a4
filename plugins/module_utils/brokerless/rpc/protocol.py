# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What services and receivers say to each other, and how it is written into ZeroMQ frames.

The same messages travel between a service and its receiver (`ipc://`) and between receivers (`tcp://`). Each is one frame, a MessagePack
array `[protocol version, kind, field, …]`; `Parcel` and `Copy` have a second frame, the body, which no receiver looks into. Nothing that comes in is
trusted: `decode` returns a message whose every field has been checked, or raises `ProtocolError`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ..soft_import import soft_import
from .envelope import MAX_HOPS, Envelope, MessageId, Pattern
from .topics import MAX_NAME_LENGTH, Address, TopicError, check_host

if TYPE_CHECKING:
    import msgpack
else:
    msgpack = soft_import("msgpack", "msgpack")

VERSION = 1
MAX_HEADER = 4 << 20
"""The largest header in bytes: the summary of what a consumer took, for some hundred thousand messages."""
MAX_TEXT = 2000
"""The most characters of a reason or a question."""
MAX_TTL = 7 * 24 * 3600.0
"""The longest life of a message in seconds; one that is to live longer is sent with this."""

_SMALL_HEADER = 4096
_MAX_DEPTH = 5
_MAX_NUMBER = (1 << 63) - 1
_ID = re.compile(r"[0-9a-f]{16}")
_MAX_TTL_MS = int(MAX_TTL * 1000)
_PATTERNS = {int(pattern): pattern for pattern in Pattern}

Taken: TypeAlias = tuple[tuple[str, int, tuple[int, ...]], ...]
"""Of each sending process: its id, the number below which all has ended, and the numbers taken from there on."""


class ProtocolError(ValueError):
    """Frames that are not a message of this protocol; the message names the fault."""


# What a RETURNED message was returned for.
NO_CONSUMER = "no-consumer"
FULL = "full"
EXPIRED = "expired"
EARLIER_MISSING = "earlier-missing"
WRONG_HOST = "wrong-host"
TOO_MANY_HOPS = "too-many-hops"
CONSUMER_GONE = "consumer-gone"
DRAINING = "draining"
REASONS = frozenset({NO_CONSUMER, FULL, EXPIRED, EARLIER_MISSING, WRONG_HOST, TOO_MANY_HOPS, CONSUMER_GONE, DRAINING})


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message on a connection: who is there.

    `role` is `service` (a process on this host) or `receiver` (another host's). `incarnation` is new with every start, and for a service is
    the origin of its messages. `window` is how many requests a service takes at a time. `taken` is what a service has accepted so far.
    """

    role: str
    host: str
    incarnation: str
    name: str = ""
    pid: int = 0
    window: int = 0
    taken: Taken = ()


@dataclass(frozen=True, slots=True)
class Welcome:
    """The receiver's answer to `Hello`: who it is. Only now may messages be sent on the connection."""

    host: str
    incarnation: str


@dataclass(frozen=True, slots=True)
class WhoAreYou:
    """The receiver does not know who is on this connection, and asks for a `Hello`."""


@dataclass(frozen=True, slots=True)
class Consume:
    """All that a service's process consumes from now on, in place of what it said before."""

    revision: int
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Consuming:
    """The receiver has taken in the `Consume` of that revision."""

    revision: int


@dataclass(slots=True)
class Parcel:
    """A message on its way: the envelope and the body."""

    envelope: Envelope
    body: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """These messages were handed over and will not be handed over again."""

    messages: tuple[MessageId, ...]


@dataclass(frozen=True, slots=True)
class Returned:
    """The message was certainly not handed over there and will not be, unless it is sent again."""

    message: MessageId
    reason: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """The message is still kept, and this is why it has not been handed over yet."""

    message: MessageId
    text: str


@dataclass(frozen=True, slots=True)
class Assigned:
    """A message for a bare topic goes to that host now. Should the receiver die, its sender sends it there again, and nowhere else."""

    message: MessageId
    host: str


@dataclass(frozen=True, slots=True)
class Announce:
    """What the services of the receiver's host consume from now on; it goes to the hosts that connected.

    With `complete` it stands in place of what was said before. A receiver that has just been started, to which services may yet come back, adds
    to it.
    """

    addresses: tuple[Address, ...]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Seek:
    """Which host shall have this message for that bare topic? The broker answers with `Assigned` or `Returned`."""

    message: MessageId
    address: Address


@dataclass(frozen=True, slots=True)
class Tap:
    """Copies of what consumers on this host get for these addresses, please, in place of what was said before, and room for that many more."""

    addresses: tuple[Address, ...]
    count: int


@dataclass(slots=True)
class Copy:
    """A copy of a message for a consumer of that address, from a host. So many before it were `lost`, for want of room."""

    address: Address
    sender: str
    lost: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Credit:
    """A consumer can take that many more messages."""

    count: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? `stamp` comes back as it was."""

    stamp: int


@dataclass(frozen=True, slots=True)
class Pong:
    """Yes."""

    stamp: int


@dataclass(frozen=True, slots=True)
class Bye:
    """Whoever says so is about to go, and will take and send nothing more on this connection."""


@dataclass(frozen=True, slots=True)
class Inspect:
    """A question to the receiver about itself: `status`, `route` of a topic or `consumers` of an address."""

    token: int
    question: str
    argument: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The answer, a JSON object."""

    token: int
    answer: str


Message: TypeAlias = (
    Hello
    | Welcome
    | WhoAreYou
    | Consume
    | Consuming
    | Announce
    | Seek
    | Parcel
    | Accepted
    | Returned
    | Held
    | Assigned
    | Tap
    | Copy
    | Credit
    | Ping
    | Pong
    | Bye
    | Inspect
    | Report
)

_KINDS: dict[type, int] = {
    Hello: 1,
    Welcome: 2,
    WhoAreYou: 3,
    Consume: 4,
    Consuming: 5,
    Parcel: 6,
    Accepted: 7,
    Returned: 8,
    Held: 9,
    Credit: 10,
    Ping: 11,
    Pong: 12,
    Bye: 13,
    Inspect: 14,
    Report: 15,
    Assigned: 16,
    Announce: 17,
    Seek: 18,
    Tap: 19,
    Copy: 20,
}


def new_incarnation(random_bytes: bytes) -> str:
    """Return the name of one start of a process, from 8 random bytes."""
    if len(random_bytes) != 8:
        raise ValueError("an incarnation is made from 8 bytes")
    return random_bytes.hex()


def encode(message: Message) -> list[bytes]:
    """Return the frames of `message`."""
    kind = _KINDS[type(message)]
    if isinstance(message, Parcel):
        return [_packed((VERSION, kind, *_envelope_fields(message.envelope))), message.body]
    header = _packed((VERSION, kind, *_FIELDS[type(message)](message)))
    return [header, message.body] if isinstance(message, Copy) else [header]


def _packed(fields: tuple[Any, ...]) -> bytes:
    # A reason may name a file whose name is not UTF-8, which Python shows with surrogates.
    packed: bytes = msgpack.packb(fields, unicode_errors="replace")
    return packed


def decode(frames: Sequence[bytes]) -> Message:
    """Return the message that `frames` hold. Raises `ProtocolError` for anything that `encode` would not have written."""
    if not frames:
        raise ProtocolError("a message without frames")
    header = frames[0]
    if len(header) > MAX_HEADER:
        raise ProtocolError(f"a header of {len(header)} bytes; at most {MAX_HEADER} are allowed")
    try:
        fields = msgpack.unpackb(header, use_list=True) if len(header) <= _SMALL_HEADER else _unpack_large(header)
    except (ValueError, msgpack.UnpackException) as error:
        raise ProtocolError(f"a header that is not MessagePack: {error}") from error
    if not isinstance(fields, list) or len(fields) < 2:
        raise ProtocolError("a header that is not an array of a version, a kind and fields")
    version, kind = fields[0], fields[1]
    if version.__class__ is not int or version != VERSION:
        raise ProtocolError(f"protocol version {_shown(version)}; this is version {VERSION}")
    reader = _READERS.get(kind) if kind.__class__ is int else None
    if reader is None:
        raise ProtocolError(f"unknown kind of message {_shown(kind)}")
    has_body = reader is _read_envelope or reader is _read_copy
    if len(frames) != 1 + has_body:
        raise ProtocolError(f"{len(frames)} frames in a message that has {1 + has_body}")
    try:
        read = reader(fields[2:])
    except TopicError as error:
        raise ProtocolError(str(error)) from error
    if isinstance(read, Envelope):
        return Parcel(read, frames[1])
    if isinstance(read, Copy):
        read.body = frames[1]
    return read


def _unpack_large(header: bytes) -> Any:
    """Unpack a header of many elements, which `unpackb` must not be trusted with.

    It reserves room for as many elements as an array claims to have, before it has seen them, for hundreds of arrays inside each other:
    gigabytes and seconds, for one hostile frame. Raises `ValueError` or `msgpack.UnpackException`.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=len(header), max_array_len=0, max_map_len=0)
    unpacker.feed(header)

    def value(depth: int) -> Any:
        position = unpacker.tell()
        if position < len(header) and (header[position] & 0xF0 == 0x90 or header[position] in (0xDC, 0xDD)):
            if depth == _MAX_DEPTH:
                raise ValueError("arrays too deep inside each other")
            return [value(depth + 1) for _turn in range(unpacker.read_array_header())]
        return unpacker.unpack()

    fields = value(0)
    if unpacker.tell() != len(header):
        raise ValueError("more behind its end")
    return fields


# --- fields out ----------------------------------------------------------------------------------------------------------------------------


def _envelope_fields(envelope: Envelope) -> tuple[Any, ...]:
    return (
        envelope.id,
        int(envelope.pattern),
        envelope.address,
        envelope.sender,
        # never more than there is, and never less for being written again
        int(min(max(0.0, envelope.ttl), MAX_TTL) * 1000 + 1e-6),
        envelope.host,
        envelope.settled,
        envelope.after,
        envelope.answers,
        envelope.hops,
        envelope.attempt,
    )


_FIELDS: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    Hello: lambda m: (m.role, m.host, m.incarnation, m.name, m.pid, m.window, m.taken),
    Welcome: lambda m: (m.host, m.incarnation),
    WhoAreYou: lambda _m: (),
    Consume: lambda m: (m.revision, m.addresses),
    Consuming: lambda m: (m.revision,),
    Accepted: lambda m: (m.messages,),
    Returned: lambda m: (m.message, m.reason, m.text[:MAX_TEXT]),
    Held: lambda m: (m.message, m.text[:MAX_TEXT]),
    Assigned: lambda m: (m.message, m.host),
    Announce: lambda m: (m.addresses, m.complete),
    Seek: lambda m: (m.message, m.address),
    Tap: lambda m: (m.addresses, m.count),
    Copy: lambda m: (m.address, m.sender, m.lost),
    Credit: lambda m: (m.count,),
    Ping: lambda m: (m.stamp,),
    Pong: lambda m: (m.stamp,),
    Bye: lambda _m: (),
    Inspect: lambda m: (m.token, m.question, m.argument),
    Report: lambda m: (m.token, m.answer),
}


# --- fields in -----------------------------------------------------------------------------------------------------------------------------


def _shown(value: Any) -> str:
    # The representation of arrays deep inside each other would be a RecursionError.
    return f"{value!r:.40}" if value is None or isinstance(value, (bool, int, float, str, bytes)) else f"of type {type(value).__name__}"


def _fields(values: list[Any], count: int) -> list[Any]:
    if len(values) != count:
        raise ProtocolError(f"{len(values)} fields in a message that has {count}")
    return values


def _array(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ProtocolError(f"{name} is not an array")
    return value


def _number(value: Any, name: str, most: int = _MAX_NUMBER, least: int = 0) -> int:
    if value.__class__ is not int or not least <= value <= most:
        raise ProtocolError(f"{name} is not a whole number from {least} to {most}")
    number: int = value
    return number


def _text(value: Any, name: str, most: int = MAX_NAME_LENGTH) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise ProtocolError(f"{name} is not a text of at most {most} characters")
    return value


@functools.lru_cache(maxsize=4096)
def _is_incarnation(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def _incarnation(value: Any, name: str) -> str:
    if not isinstance(value, str) or not _is_incarnation(value):
        raise ProtocolError(f"{name} is not 16 hexadecimal digits")
    return value


def _message_id(value: Any) -> MessageId:
    if not isinstance(value, list) or len(value) != 2:
        raise ProtocolError("a message id is not an array of origin and number")
    origin, number = value
    if number.__class__ is not int or not 0 < number <= _MAX_NUMBER or origin.__class__ is not str or not _is_incarnation(origin):
        return MessageId(_incarnation(origin, "origin"), _number(number, "number", least=1))
    return MessageId(origin, number)


@functools.lru_cache(maxsize=4096, typed=True)
def _checked_address(topic: Any, server: Any, fanout: Any, exchange: Any, namespace: Any) -> Address:
    if not isinstance(fanout, bool):
        raise ProtocolError("fanout is not true or false")
    for part in (topic, server, exchange, namespace):
        _text(part, "a part of the address")
    return Address(topic, server, fanout, exchange, namespace).checked()


def read_address(value: Any) -> Address:
    """Return the address whose parts are in the array `value`. Raises `ProtocolError`, or `TopicError` for a part that is not acceptable."""
    parts = _fields(_array(value, "address"), 5)
    try:
        return _checked_address(*parts)
    except TypeError as error:
        raise ProtocolError("a part of the address is an array or a map") from error


@functools.lru_cache(maxsize=4096, typed=True)
def _checked_host(value: Any) -> str:
    return check_host(_text(value, "host"))


def _host(value: Any) -> str:
    try:
        return _checked_host(value)
    except TypeError as error:
        raise ProtocolError("host is an array or a map") from error


def _read_envelope(values: list[Any]) -> Envelope:
    message, pattern, address, sender, ttl, host, settled, after, answers, hops, attempt = _fields(values, 11)
    known_pattern = _PATTERNS.get(pattern) if pattern.__class__ is int else None
    if known_pattern is None:
        raise ProtocolError(f"unknown pattern {_shown(pattern)}")
    if (answers is not None) != (known_pattern is Pattern.REPLY):
        raise ProtocolError("a reply must say which call it answers, and nothing else may")
    return Envelope(
        _message_id(message),
        known_pattern,
        read_address(address),
        _host(sender),
        _number(ttl, "ttl", _MAX_TTL_MS) / 1000,
        _host(host) if host != "" else "",
        _number(settled, "settled"),
        _number(after, "after"),
        _message_id(answers) if answers is not None else None,
        _number(hops, "hops", MAX_HOPS + 1),
        _number(attempt, "attempt"),
    )


def _read_hello(values: list[Any]) -> Hello:
    role, host, incarnation, name, pid, window, taken = _fields(values, 7)
    if role not in ("service", "receiver"):
        raise ProtocolError("role is neither service nor receiver")
    summary = []
    for entry in _array(taken, "taken"):
        origin, settled, numbers = _fields(_array(entry, "an entry of taken"), 3)
        checked = tuple(_number(number, "number", least=1) for number in _array(numbers, "numbers"))
        summary.append((_incarnation(origin, "origin"), _number(settled, "settled"), checked))
    return Hello(
        role,
        _host(host),
        _incarnation(incarnation, "incarnation"),
        _text(name, "name"),
        _number(pid, "pid", 1 << 31),
        _number(window, "window", 1 << 24),
        tuple(summary),
    )


def _read_returned(values: list[Any]) -> Returned:
    message, reason, text = _fields(values, 3)
    if not isinstance(reason, str) or reason not in REASONS:
        raise ProtocolError(f"unknown reason {_shown(reason)}")
    return Returned(_message_id(message), reason, _text(text, "text", MAX_TEXT))


def _read_welcome(values: list[Any]) -> Welcome:
    host, incarnation = _fields(values, 2)
    return Welcome(_host(host), _incarnation(incarnation, "incarnation"))


def _addresses(value: Any) -> tuple[Address, ...]:
    return tuple(read_address(address) for address in _array(value, "addresses"))


def _read_consume(values: list[Any]) -> Consume:
    revision, addresses = _fields(values, 2)
    return Consume(_number(revision, "revision"), _addresses(addresses))


def _read_announce(values: list[Any]) -> Announce:
    addresses, complete = _fields(values, 2)
    if not isinstance(complete, bool):
        raise ProtocolError("complete is not true or false")
    return Announce(_addresses(addresses), complete)


def _read_seek(values: list[Any]) -> Seek:
    message, address = _fields(values, 2)
    return Seek(_message_id(message), read_address(address))


def _read_tap(values: list[Any]) -> Tap:
    addresses, count = _fields(values, 2)
    return Tap(_addresses(addresses), _number(count, "count", 1 << 24))


def _read_copy(values: list[Any]) -> Copy:
    address, sender, lost = _fields(values, 3)
    return Copy(read_address(address), _host(sender), _number(lost, "lost"))


def _read_held(values: list[Any]) -> Held:
    message, text = _fields(values, 2)
    return Held(_message_id(message), _text(text, "text", MAX_TEXT))


def _read_assigned(values: list[Any]) -> Assigned:
    message, host = _fields(values, 2)
    return Assigned(_message_id(message), _host(host))


def _read_inspect(values: list[Any]) -> Inspect:
    token, question, argument = _fields(values, 3)
    return Inspect(_number(token, "token"), _text(question, "question"), _text(argument, "argument", MAX_TEXT))


def _read_report(values: list[Any]) -> Report:
    token, answer = _fields(values, 2)
    return Report(_number(token, "token"), _text(answer, "answer", MAX_HEADER))


_READERS: dict[int, Callable[[list[Any]], Message | Envelope]] = {
    _KINDS[Parcel]: _read_envelope,
    _KINDS[Hello]: _read_hello,
    _KINDS[Welcome]: _read_welcome,
    _KINDS[WhoAreYou]: lambda values: WhoAreYou(*_fields(values, 0)),
    _KINDS[Consume]: _read_consume,
    _KINDS[Consuming]: lambda values: Consuming(_number(_fields(values, 1)[0], "revision")),
    _KINDS[Accepted]: lambda values: Accepted(tuple(map(_message_id, _array(_fields(values, 1)[0], "messages")))),
    _KINDS[Returned]: _read_returned,
    _KINDS[Held]: _read_held,
    _KINDS[Assigned]: _read_assigned,
    _KINDS[Announce]: _read_announce,
    _KINDS[Seek]: _read_seek,
    _KINDS[Tap]: _read_tap,
    _KINDS[Copy]: _read_copy,
    _KINDS[Credit]: lambda values: Credit(_number(_fields(values, 1)[0], "count", 1 << 24)),
    _KINDS[Ping]: lambda values: Ping(_number(_fields(values, 1)[0], "stamp")),
    _KINDS[Pong]: lambda values: Pong(_number(_fields(values, 1)[0], "stamp")),
    _KINDS[Bye]: lambda values: Bye(*_fields(values, 0)),
    _KINDS[Inspect]: _read_inspect,
    _KINDS[Report]: _read_report,
}
