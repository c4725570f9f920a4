# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct
from typing import Any

import msgpack
import pytest
from brokerless.rpc import protocol
from brokerless.rpc.envelope import MAX_HOPS, Envelope, MessageId, Pattern
from brokerless.rpc.protocol import (
    Accepted,
    Announce,
    Assigned,
    Bye,
    Consume,
    Consuming,
    Copy,
    Credit,
    Held,
    Hello,
    Inspect,
    Message,
    Parcel,
    Ping,
    Pong,
    ProtocolError,
    Report,
    Returned,
    Seek,
    Tap,
    Welcome,
    WhoAreYou,
    decode,
    encode,
    new_incarnation,
)
from brokerless.rpc.topics import Address
from hypothesis import given, settings
from hypothesis import strategies as st

ORIGIN = "0123456789abcdef"
CALL = MessageId(ORIGIN, 7)
ENVELOPE = Envelope(CALL, Pattern.CAST, Address("compute"), "control1", 30.0)
NUMBER_MOST = (1 << 63) - 1

# --- all messages, as strategies -----------------------------------------------------------------------------------------------------------

NUMBERS = st.integers(0, NUMBER_MOST)
ORIGINS = st.binary(min_size=8, max_size=8).map(new_incarnation)
IDS = st.builds(MessageId, ORIGINS, st.integers(1, NUMBER_MOST))
HOSTS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}(\.[a-z]{1,5})?", fullmatch=True)
NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_@:#%+-]{0,20}", fullmatch=True)
ADDRESSES = st.one_of(
    st.tuples(NAMES, st.just(""), st.just(False), NAMES | st.just(""), NAMES | st.just("")).map(Address._make),
    st.tuples(NAMES, NAMES).map(lambda parts: Address(*parts)),
    st.tuples(NAMES, st.just(""), st.just(True)).map(lambda parts: Address(*parts)),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
# a TTL travels in whole milliseconds
TTLS = st.integers(0, int(protocol.MAX_TTL)).map(float)
MAYBE_HOSTS = HOSTS | st.just("")
HOPS = st.integers(0, MAX_HOPS)
ENVELOPES = st.builds(
    Envelope,
    IDS,
    st.sampled_from([Pattern.CAST, Pattern.CALL, Pattern.NOTIFICATION]),
    ADDRESSES,
    HOSTS,
    TTLS,
    host=MAYBE_HOSTS,
    settled=NUMBERS,
    after=NUMBERS,
    hops=HOPS,
    attempt=NUMBERS,
) | st.builds(Envelope, IDS, st.just(Pattern.REPLY), ADDRESSES, HOSTS, TTLS, host=MAYBE_HOSTS, answers=IDS)
TAKEN = st.lists(st.tuples(ORIGINS, NUMBERS, st.lists(st.integers(1, NUMBER_MOST), max_size=5).map(tuple)), max_size=4).map(tuple)
BY_KIND: dict[type, st.SearchStrategy[Any]] = {
    Hello: st.builds(
        Hello,
        st.sampled_from(["service", "receiver"]),
        HOSTS,
        ORIGINS,
        name=TEXTS,
        pid=st.integers(0, 1 << 31),
        window=st.integers(0, 1 << 24),
        taken=TAKEN,
    ),
    Welcome: st.builds(Welcome, HOSTS, ORIGINS),
    WhoAreYou: st.builds(WhoAreYou),
    Consume: st.builds(Consume, NUMBERS, st.lists(ADDRESSES, max_size=5).map(tuple)),
    Consuming: st.builds(Consuming, NUMBERS),
    Parcel: st.builds(Parcel, ENVELOPES, st.binary(max_size=200)),
    Accepted: st.builds(Accepted, st.lists(IDS, max_size=5).map(tuple)),
    Returned: st.builds(Returned, IDS, st.sampled_from(sorted(protocol.REASONS)), TEXTS),
    Held: st.builds(Held, IDS, TEXTS),
    Assigned: st.builds(Assigned, IDS, HOSTS),
    Announce: st.builds(Announce, st.lists(ADDRESSES, max_size=5).map(tuple)),
    Seek: st.builds(Seek, IDS, ADDRESSES),
    Tap: st.builds(Tap, st.lists(ADDRESSES, max_size=5).map(tuple), st.integers(0, 1 << 24)),
    Copy: st.builds(Copy, ADDRESSES, HOSTS, NUMBERS, st.binary(max_size=200)),
    Credit: st.builds(Credit, st.integers(0, 1 << 24)),
    Ping: st.builds(Ping, NUMBERS),
    Pong: st.builds(Pong, NUMBERS),
    Bye: st.builds(Bye),
    Inspect: st.builds(Inspect, NUMBERS, TEXTS, TEXTS),
    Report: st.builds(Report, NUMBERS, TEXTS),
}
MESSAGES: st.SearchStrategy[Message] = st.one_of(*BY_KIND.values())

SAMPLES: list[Message] = [
    Hello("service", "control1", ORIGIN, "nova-api", 4711, 64, ((ORIGIN, 3, (4, 7)),)),
    Welcome("control1", ORIGIN),
    WhoAreYou(),
    Consume(2, (Address("compute"), Address("compute", server="compute1"), Address("compute", fanout=True))),
    Consuming(2),
    Parcel(ENVELOPE, b"{}"),
    Accepted((CALL, MessageId(ORIGIN, 8))),
    Returned(CALL, protocol.FULL, "the backlog is full"),
    Held(CALL, "compute1 is down"),
    Assigned(CALL, "compute1"),
    Credit(64),
    Ping(1),
    Pong(1),
    Bye(),
    Inspect(3, "route", "compute"),
    Report(3, "{}"),
    Announce((Address("compute"), Address("compute", fanout=True))),
    Seek(CALL, Address("compute")),
    Tap((Address("compute"),), 5),
    Copy(Address("compute"), "compute1", 3, b"{}"),
]


def fields_of(message: Message) -> list[Any]:
    fields: list[Any] = msgpack.unpackb(encode(message)[0])
    return fields


def with_field(message: Message, index: int, value: Any) -> list[bytes]:
    """The frames of `message` with its field of that index (behind version and kind) in another's place."""
    fields = fields_of(message)
    fields[2 + index] = value
    return [msgpack.packb(fields), *encode(message)[1:]]


def fault_of(frames: list[bytes]) -> str:
    with pytest.raises(ProtocolError) as caught:
        decode(frames)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 500
    return text


def decode_or_refuse(frames: list[bytes]) -> Message | None:
    """What `decode` makes of the frames; anything but a message or a `ProtocolError` is a failure."""
    try:
        return decode(frames)
    except ProtocolError:
        return None


# --- there and back ------------------------------------------------------------------------------------------------------------------------


def test_there_is_a_sample_and_a_strategy_for_each_kind() -> None:
    assert {type(message) for message in SAMPLES} == set(BY_KIND) == set(protocol._KINDS)
    assert len(set(protocol._KINDS.values())) == len(protocol._KINDS)


@pytest.mark.parametrize("kind", list(BY_KIND), ids=lambda kind: kind.__name__)
def test_every_message_comes_out_as_it_went_in(kind: type) -> None:
    @settings(max_examples=60, deadline=None)
    @given(BY_KIND[kind])
    def round_trip(message: Message) -> None:
        frames = encode(message)
        assert len(frames) == (2 if isinstance(message, Parcel | Copy) else 1)
        assert decode(frames) == message

    round_trip()


def test_the_time_to_live_travels_in_milliseconds() -> None:
    def travelled(ttl: float) -> float:
        message = decode(encode(Parcel(Envelope(CALL, Pattern.CAST, Address("compute"), "control1", ttl), b"")))
        assert isinstance(message, Parcel)
        return message.envelope.ttl

    assert travelled(1.5) == 1.5
    assert 0.998 <= travelled(0.9999) <= 0.9999
    for milliseconds in (570, 4087, 8675, 604_799_999):
        assert travelled(milliseconds / 1000) == milliseconds / 1000
    assert travelled(-3.0) == 0.0
    assert travelled(protocol.MAX_TTL) == protocol.MAX_TTL
    assert travelled(protocol.MAX_TTL * 2) == protocol.MAX_TTL
    assert travelled(float("inf")) == protocol.MAX_TTL


@pytest.mark.parametrize("message", [Held(CALL, "é" * 5000), Returned(CALL, protocol.FULL, "é" * 5000)], ids=lambda m: type(m).__name__)
def test_a_long_reason_is_cut(message: Held | Returned) -> None:
    copy = decode(encode(message))
    assert isinstance(copy, (Held, Returned))
    assert copy.text == "é" * protocol.MAX_TEXT


def test_a_reason_that_names_a_file_whose_name_is_not_utf8_travels() -> None:
    name = b"ring\xff.json".decode("utf-8", "surrogateescape")
    assert decode(encode(Held(CALL, name))) == Held(CALL, "ring?.json")


def test_a_summary_of_some_hundred_thousand_messages_travels() -> None:
    hello = Hello("service", "control1", ORIGIN, taken=((ORIGIN, 1, tuple(range(1, 300_001))), ("f" * 16, 5, (9,))))
    frames = encode(hello)
    assert len(frames[0]) > 500_000
    assert decode(frames) == hello


def test_a_large_message_of_each_shape_travels() -> None:
    many = range(1, 2000)
    for message in (
        Accepted(tuple(MessageId(ORIGIN, number) for number in many)),
        Consume(1, tuple(Address("compute", server=f"host{number}") for number in many)),
        Report(1, "x" * 100_000),
    ):
        frames = encode(message)
        assert len(frames[0]) > protocol._SMALL_HEADER
        assert decode(frames) == message


def test_an_incarnation_is_made_of_eight_bytes() -> None:
    assert new_incarnation(bytes(range(8))) == "0001020304050607"
    for wrong in (b"", bytes(7), bytes(9)):
        with pytest.raises(ValueError, match="8 bytes"):
            new_incarnation(wrong)


# --- hostile frames ------------------------------------------------------------------------------------------------------------------------

NESTED = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | TEXTS | st.binary(max_size=20) | ORIGINS,
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3),
    max_leaves=30,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=100), max_size=3))
def test_any_bytes_are_refused(frames: list[bytes]) -> None:
    message = decode_or_refuse(frames)
    assert message is None or decode(encode(message)) == message


@settings(max_examples=300, deadline=None)
@given(NESTED, st.lists(st.binary(max_size=10), max_size=1))
def test_any_structure_is_refused(structure: Any, more: list[bytes]) -> None:
    decode_or_refuse([msgpack.packb(structure), *more])


@settings(max_examples=600, deadline=None)
@given(st.integers(0, 20), st.lists(NESTED, max_size=12), st.lists(st.binary(max_size=10), max_size=1))
def test_any_fields_of_any_kind_are_checked(kind: int, fields: list[Any], more: list[bytes]) -> None:
    message = decode_or_refuse([msgpack.packb([protocol.VERSION, kind, *fields]), *more])
    assert message is None or decode(encode(message)) == message


@settings(max_examples=600, deadline=None)
@given(MESSAGES, st.data())
def test_a_message_with_another_value_in_one_field_is_checked(message: Message, data: st.DataObject) -> None:
    fields = fields_of(message)
    fields[data.draw(st.integers(0, len(fields) - 1))] = data.draw(NESTED)
    copy = decode_or_refuse([msgpack.packb(fields), *encode(message)[1:]])
    assert copy is None or decode(encode(copy)) == copy


@settings(max_examples=600, deadline=None)
@given(MESSAGES, st.data())
def test_a_message_with_a_changed_byte_is_checked(message: Message, data: st.DataObject) -> None:
    header, *body = encode(message)
    changed = bytearray(header)
    changed[data.draw(st.integers(0, len(header) - 1))] = data.draw(st.integers(0, 255))
    copy = decode_or_refuse([bytes(changed), *body])
    assert copy is None or decode(encode(copy)) == copy


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_a_truncated_message_is_refused_wherever_it_ends(message: Message) -> None:
    header, *body = encode(message)
    for length in range(len(header)):
        fault_of([header[:length], *body])


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_with_a_frame_a_byte_or_a_field_too_many_or_too_few_is_refused(message: Message) -> None:
    header, *body = encode(message)
    fields = fields_of(message)
    assert "frames" in fault_of([header, *body, b""])
    assert "not MessagePack" in fault_of([header + b"\x00", *body])
    assert "fields in a message that has" in fault_of([msgpack.packb([*fields, 0]), *body])
    if len(fields) > 2:
        assert "fields in a message that has" in fault_of([msgpack.packb(fields[:-1]), *body])


def test_a_parcel_without_its_body_is_refused() -> None:
    assert fault_of(encode(SAMPLES[5])[:1]) == "1 frames in a message that has 2"


def test_no_frames_are_refused() -> None:
    assert fault_of([]) == "a message without frames"


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        (b"", "a header that is not MessagePack"),
        (b"\xc1", "a header that is not MessagePack"),
        (b"\xd9\x01\xff", "a header that is not MessagePack"),
        (msgpack.packb({"version": 1}), "a header that is not an array of a version, a kind and fields"),
        (msgpack.packb([]), "a header that is not an array of a version, a kind and fields"),
        (msgpack.packb([1]), "a header that is not an array of a version, a kind and fields"),
        (msgpack.packb([2, 3]), "protocol version 2; this is version 1"),
        (msgpack.packb([None, 3]), "protocol version None; this is version 1"),
        (msgpack.packb([True, 3]), "protocol version True; this is version 1"),
        (msgpack.packb([1.0, 3]), "protocol version 1.0; this is version 1"),
        (msgpack.packb(["x" * 1000, 3]), "protocol version 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; this is version 1"),
        (msgpack.packb([[1], 3]), "protocol version of type list; this is version 1"),
        (msgpack.packb([1, 0]), "unknown kind of message 0"),
        (msgpack.packb([1, 99]), "unknown kind of message 99"),
        (msgpack.packb([1, -1]), "unknown kind of message -1"),
        (msgpack.packb([1, True]), "unknown kind of message True"),
        (msgpack.packb([1, 3.0]), "unknown kind of message 3.0"),
        (msgpack.packb([1, 6.0]), "unknown kind of message 6.0"),
        (msgpack.packb([1, [3]]), "unknown kind of message of type list"),
        (msgpack.packb([1, {"a": 3}]), "unknown kind of message of type dict"),
        (msgpack.packb([1, msgpack.Timestamp(1)]), "unknown kind of message of type Timestamp"),
        (b"\x93\x01\x03\x81\x01\x02", "a header that is not MessagePack"),
    ],
    ids=repr,
)
def test_a_header_that_is_none_is_named(header: bytes, fault: str) -> None:
    assert fault_of([header]).startswith(fault)


@pytest.mark.parametrize("depth", [100, 511, 1000, 1023, 4000])
@pytest.mark.parametrize("before", [b"\x92", b"\x92\x01", b"\x93\x01\x02"], ids=["version", "kind", "field"])
def test_arrays_deep_inside_each_other_are_refused(depth: int, before: bytes) -> None:
    fault_of([before + b"\x91" * depth + b"\x01" + b"\x01"])


@pytest.mark.parametrize(("count", "size"), [(">I", b"\xdd"), (">H", b"\xdc")], ids=["array32", "array16"])
def test_arrays_that_claim_to_be_large_take_no_room(count: str, size: bytes) -> None:
    # A decoder that believes them would reserve gigabytes: 500 arrays of millions each, inside each other.
    claimed = struct.pack(count, min(protocol.MAX_HEADER, 2 ** (8 * struct.calcsize(count))) - 10)
    header = ((size + claimed) * 500).ljust(protocol.MAX_HEADER, b"\x01")
    assert fault_of([header]).endswith("arrays too deep inside each other")


def test_maps_and_arrays_in_a_large_header_are_refused_where_none_belong() -> None:
    padding = "x" * protocol._SMALL_HEADER
    assert "not MessagePack" in fault_of([msgpack.packb([1, 15, {"a": 1}, padding])])
    assert "token is not a whole number" in fault_of([msgpack.packb([1, 15, [1], padding])])
    assert "not an array of a version" in fault_of([msgpack.packb(padding)])
    assert "not MessagePack" in fault_of([msgpack.packb([1, 15, 1, padding]) + b"\x00"])
    assert "not MessagePack" in fault_of([msgpack.packb([1, 15, 1, padding])[:-1]])
    assert "not MessagePack" in fault_of([b"\x95" + msgpack.packb([1, 15, 1, padding])[1:]])


def test_a_header_beyond_the_limit_is_refused_unread() -> None:
    limit = protocol.MAX_HEADER
    assert fault_of([bytes(limit + 1)]) == f"a header of {limit + 1} bytes; at most {limit} are allowed"


TOO_MUCH = NUMBER_MOST + 1
BAD_FIELDS: list[tuple[Message, int, Any, str]] = [
    (SAMPLES[0], 0, "broker", "role is neither service nor receiver"),
    (SAMPLES[0], 0, ["service"], "role is neither service nor receiver"),
    (SAMPLES[0], 1, "", "host is empty"),
    (SAMPLES[0], 1, "a b", "host 'a b' contains ' '"),
    (SAMPLES[0], 1, "../etc", "host '../etc' contains '..'"),
    (SAMPLES[0], 1, "a" * 256, "host is not a text of at most 255 characters"),
    (SAMPLES[0], 2, "0" * 15, "incarnation is not 16 hexadecimal digits"),
    (SAMPLES[0], 2, "0" * 16 + "\n", "incarnation is not 16 hexadecimal digits"),
    (SAMPLES[0], 2, "A" * 16, "incarnation is not 16 hexadecimal digits"),
    (SAMPLES[0], 2, 1, "incarnation is not 16 hexadecimal digits"),
    (SAMPLES[0], 3, "x" * 256, "name is not a text of at most 255 characters"),
    (SAMPLES[0], 3, b"x", "name is not a text of at most 255 characters"),
    (SAMPLES[0], 4, (1 << 31) + 1, "pid is not a whole number from 0 to 2147483648"),
    (SAMPLES[0], 5, (1 << 24) + 1, "window is not a whole number from 0 to 16777216"),
    (SAMPLES[0], 6, None, "taken is not an array"),
    (SAMPLES[0], 6, [7], "an entry of taken is not an array"),
    (SAMPLES[0], 6, [[ORIGIN, 1]], "2 fields in a message that has 3"),
    (SAMPLES[0], 6, [["", 1, []]], "origin is not 16 hexadecimal digits"),
    (SAMPLES[0], 6, [[ORIGIN, -1, []]], "settled is not a whole number"),
    (SAMPLES[0], 6, [[ORIGIN, 1, 5]], "numbers is not an array"),
    (SAMPLES[0], 6, [[ORIGIN, 1, [0]]], "number is not a whole number from 1"),
    (SAMPLES[1], 0, None, "host is not a text"),
    (SAMPLES[1], 1, "g" * 16, "incarnation is not 16 hexadecimal digits"),
    (SAMPLES[3], 0, True, "revision is not a whole number"),
    (SAMPLES[3], 1, {}, "addresses is not an array"),
    (SAMPLES[3], 1, [["compute"]], "1 fields in a message that has 5"),
    (SAMPLES[4], 0, -1, "revision is not a whole number"),
    (SAMPLES[5], 0, 7, "a message id is not an array of origin and number"),
    (SAMPLES[5], 0, [ORIGIN], "a message id is not an array of origin and number"),
    (SAMPLES[5], 0, [ORIGIN, 0], "number is not a whole number from 1"),
    (SAMPLES[5], 0, [ORIGIN, TOO_MUCH], "number is not a whole number from 1"),
    (SAMPLES[5], 1, 0, "unknown pattern 0"),
    (SAMPLES[5], 1, 5, "unknown pattern 5"),
    (SAMPLES[5], 1, [1], "unknown pattern of type list"),
    (SAMPLES[5], 1, 3, "a reply must say which call it answers"),
    (SAMPLES[5], 2, "compute", "address is not an array"),
    (SAMPLES[5], 2, ["", "", False, "", ""], "topic is empty"),
    (SAMPLES[5], 2, ["a/b", "", False, "", ""], "topic 'a/b' contains '/'"),
    (SAMPLES[5], 2, ["a\0", "", False, "", ""], "topic 'a\\x00' contains '\\x00'"),
    (SAMPLES[5], 2, [1, "", False, "", ""], "a part of the address is not a text"),
    (SAMPLES[5], 2, ["a", "b c", False, "", ""], "server 'b c' contains ' '"),
    (SAMPLES[5], 2, ["a", "b", True, "", ""], "fanout of topic 'a' can't be directed"),
    (SAMPLES[5], 2, ["a", "", 1, "", ""], "fanout is not true or false"),
    (SAMPLES[5], 2, ["a", "", False, "b c", ""], "exchange 'b c' contains ' '"),
    (SAMPLES[5], 2, ["a", "", False, "", "b c"], "namespace 'b c' contains ' '"),
    (SAMPLES[5], 3, "", "host is empty"),
    (SAMPLES[5], 4, int(protocol.MAX_TTL * 1000) + 1, "ttl is not a whole number from 0 to 604800000"),
    (SAMPLES[5], 4, 1.5, "ttl is not a whole number"),
    (SAMPLES[5], 5, "a/b", "host 'a/b' contains '/'"),
    (SAMPLES[5], 5, None, "host is not a text"),
    (SAMPLES[5], 6, -1, "settled is not a whole number"),
    (SAMPLES[5], 7, TOO_MUCH, "after is not a whole number"),
    (SAMPLES[5], 8, [ORIGIN, 1], "a reply must say which call it answers, and nothing else may"),
    (SAMPLES[5], 9, MAX_HOPS + 2, "hops is not a whole number from 0 to 5"),
    (SAMPLES[5], 10, "0", "attempt is not a whole number"),
    (SAMPLES[6], 0, 7, "messages is not an array"),
    (SAMPLES[6], 0, [7], "a message id is not an array"),
    (SAMPLES[7], 1, "because", "unknown reason 'because'"),
    (SAMPLES[7], 1, ["full"], "unknown reason of type list"),
    (SAMPLES[7], 1, {}, "unknown reason of type dict"),
    (SAMPLES[7], 2, "x" * 2001, "text is not a text of at most 2000 characters"),
    (SAMPLES[8], 0, None, "a message id is not an array"),
    (SAMPLES[8], 1, 5, "text is not a text of at most 2000 characters"),
    (SAMPLES[9], 1, "", "host is empty"),
    (SAMPLES[10], 0, (1 << 24) + 1, "count is not a whole number"),
    (SAMPLES[11], 0, TOO_MUCH, "stamp is not a whole number"),
    (SAMPLES[12], 0, None, "stamp is not a whole number"),
    (SAMPLES[14], 0, -1, "token is not a whole number"),
    (SAMPLES[14], 1, "x" * 256, "question is not a text of at most 255 characters"),
    (SAMPLES[14], 2, "x" * 2001, "argument is not a text of at most 2000 characters"),
    (SAMPLES[15], 1, 7, "answer is not a text"),
    (SAMPLES[16], 0, 7, "addresses is not an array"),
    (SAMPLES[16], 1, 1, "complete is not true or false"),
    (SAMPLES[17], 0, 7, "a message id is not an array"),
    (SAMPLES[17], 1, "compute", "address is not an array"),
]


@pytest.mark.parametrize(
    ("message", "index", "value", "fault"), BAD_FIELDS, ids=[f"{type(m).__name__}-{index}-{value!r:.30}" for m, index, value, _other in BAD_FIELDS]
)
def test_each_field_is_checked_and_named(message: Message, index: int, value: Any, fault: str) -> None:
    assert fault in fault_of(with_field(message, index, value))
