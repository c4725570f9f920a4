# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import accumulate

import pytest
from brokerless.rpc.bundle import LARGEST, MOST, bundled, unbundled
from brokerless.rpc.protocol import Ping, ProtocolError, encode
from hypothesis import example, given
from hypothesis import strategies as st

HEADERS = st.binary(min_size=1, max_size=50).filter(lambda header: header[0] != 0xC1)
MESSAGES = st.lists(st.lists(st.binary(max_size=50), max_size=1).flatmap(lambda body: HEADERS.map(lambda header: [header, *body])), max_size=20)


def opened(sent: list[list[bytes]]) -> list[list[bytes]]:
    return [list(message) for frames in sent for message in unbundled(frames)]


@given(MESSAGES)
def test_what_goes_in_comes_out(messages: list[list[bytes]]) -> None:
    assert opened(list(bundled(messages))) == messages


def test_many_messages_are_one_frame() -> None:
    messages = [[b"header", b"body"]] * 100
    assert [len(frames) for frames in bundled(messages)] == [1]


def test_one_message_of_one_frame_is_sent_as_it_is() -> None:
    assert list(bundled([encode(Ping(1))])) == [encode(Ping(1))]


def test_bundles_are_bounded_and_large_messages_travel_alone_in_their_order() -> None:
    large = [b"header", b"x" * (LARGEST + 1)]
    messages = [[b"first"], large, [b"second"], [b"third"], large, *([[b"x" * 1000]] * 200)]
    sent = list(bundled(messages))
    assert opened(sent) == messages
    assert sent.count(large) == 2
    assert all(sum(map(len, frames)) < 1.1 * LARGEST for frames in sent if frames != large)


def test_a_bundle_has_so_many_messages_and_bytes_at_most() -> None:
    messages = [[b"h", b"b"]] * (MOST + 1)
    sent = list(bundled(messages))
    assert opened(sent) == messages
    assert len(sent) == 2
    ((bundle,), _last) = sent
    with pytest.raises(ProtocolError, match=f"more than {MOST} messages"):
        unbundled([bundle + bundle[1:12]])
    full = [[b"x" * (LARGEST // MOST), b""]] * MOST
    ((bundle,),) = bundled(full)
    assert opened([[bundle]]) == full
    with pytest.raises(ProtocolError, match=r"a bundle of \d+ bytes"):
        unbundled([bundle + bytes(LARGEST)])


def test_nothing_is_sent_for_nothing() -> None:
    assert list(bundled([])) == []


@given(MESSAGES.filter(lambda messages: len(messages) > 1), st.integers(1, 200))
def test_a_bundle_that_is_broken_off_is_refused(messages: list[list[bytes]], cut: int) -> None:
    ((bundle,),) = bundled(messages)
    rest = bundle[: max(1, len(bundle) - cut)]
    starts = list(accumulate((1 + sum(4 + len(frame) for frame in message) for message in messages), initial=1))
    if len(rest) in starts:
        assert list(unbundled([rest])) == messages[: starts.index(len(rest))]
    else:
        with pytest.raises(ProtocolError, match="broken off"):
            unbundled([rest])


@given(st.binary(max_size=300))
@example(b"\x02\x00\x00\x00\x01")
@example(b"\x01\xff\xff\xff\xff")
def test_any_bytes_are_messages_or_refused(content: bytes) -> None:
    try:
        messages = unbundled([b"\xc1" + content])
    except ProtocolError:
        return
    assert sum(len(frame) for message in messages for frame in message) < len(content) or not content


@pytest.mark.parametrize("count", [0, 3, 255])
def test_a_message_of_another_number_of_frames_is_refused(count: int) -> None:
    with pytest.raises(ProtocolError, match=f"a message of {count} frames"):
        unbundled([bytes((0xC1, count))])


@pytest.mark.parametrize("frames", [[], [b""], [b"\x93"], [b"\xc1", b"body"]])
def test_what_is_no_bundle_is_one_message(frames: list[bytes]) -> None:
    assert list(unbundled(frames)) == [frames]
