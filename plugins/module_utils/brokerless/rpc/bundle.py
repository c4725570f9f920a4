# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Several messages in one frame: what goes to the same place at the same time costs one send and one receive.

A bundle is one frame: the byte 0xC1, with which no MessagePack begins, and then for each message the number of its frames (one byte) and each frame
with its length before it (four bytes, big-endian). A message of one frame that is alone travels as it is, and so does a large one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from .protocol import ProtocolError

LARGEST = 1 << 16
"""The most bytes of the messages in a bundle; one that is larger travels by itself."""
MOST = 1000
"""The most messages in a bundle."""

_MARK = b"\xc1"
_COUNT = tuple(bytes((count,)) for count in range(3))
_LENGTH = struct.Struct(">I")


def bundled(messages: Iterable[list[bytes]]) -> Iterator[list[bytes]]:
    """Yield what is to be sent for `messages`, each a list of one or two frames, in their order."""
    together: list[list[bytes]] = []
    size = 0
    for frames in messages:
        length = len(frames[0]) if len(frames) == 1 else len(frames[0]) + len(frames[1])
        if together and (size + length > LARGEST or len(together) == MOST):
            yield _joined(together, size)
            together, size = [], 0
        together.append(frames)
        size += length
    if together:
        yield _joined(together, size)


def _joined(messages: list[list[bytes]], size: int) -> list[bytes]:
    if len(messages) == 1 and (len(messages[0]) == 1 or size > LARGEST):
        return messages[0]
    parts = [_MARK]
    for frames in messages:
        parts.append(_COUNT[len(frames)])
        for frame in frames:
            parts.append(_LENGTH.pack(len(frame)))
            parts.append(frame)
    return [b"".join(parts)]


def unbundled(frames: Sequence[bytes]) -> Sequence[Sequence[bytes]]:
    """Return the messages that came together, each as its frames. Raises `ProtocolError` for a bundle that is broken off, and has then no effect."""
    if len(frames) != 1 or frames[0][:1] != _MARK:
        return (frames,)
    bundle = frames[0]
    end = len(bundle)
    if end > 1 + LARGEST + 9 * MOST:
        raise ProtocolError(f"a bundle of {end} bytes")
    position = 1
    messages: list[list[bytes]] = []
    try:
        while position < end:
            count = bundle[position]
            position += 1
            if not 1 <= count <= 2:
                raise ProtocolError(f"a bundle with a message of {count} frames")
            if len(messages) == MOST:
                raise ProtocolError(f"a bundle of more than {MOST} messages")
            message = []
            for _frame in range(count):
                (length,) = _LENGTH.unpack_from(bundle, position)
                position += 4 + length
                message.append(bundle[position - length : position])
            messages.append(message)
    except struct.error as error:
        raise ProtocolError("a bundle that is broken off") from error
    if position != end:
        raise ProtocolError("a bundle that is broken off")
    return messages
