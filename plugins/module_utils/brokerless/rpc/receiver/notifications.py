# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The receiver's store of notifications to which nobody listens now.

A notification that is kept here becomes a message of the receiver's own: its sender is told that it has come to its end, and need not live until
somebody listens. It lives no longer than the receiver. No clock: time comes in as `now`, in seconds.
"""

from __future__ import annotations

from dataclasses import replace

from ..envelope import Envelope, MessageId
from ..seen import Seen


class NotificationStore:
    """Which notifications are the receiver's own, and which of the senders' messages they were."""

    def __init__(self, origin: str, limit: int) -> None:
        """`origin` is the receiver's incarnation; at most `limit` notifications are kept."""
        self._origin = origin
        self._limit = limit
        self._last_number = 0
        self._kept: dict[MessageId, None] = {}
        self._adopted = Seen()

    def __contains__(self, message: MessageId) -> bool:
        """Whether a message is one of the store's own."""
        return message.origin == self._origin

    def __len__(self) -> int:
        return len(self._kept)

    def was_adopted(self, message: MessageId) -> bool:
        """Whether a sender's message is kept here, or was, so that a copy of it must not be."""
        return message in self._adopted

    def adopt(self, envelope: Envelope, remember_until: float) -> Envelope:
        """Keep a notification; return the envelope that it has from now on. That it was adopted is remembered until `remember_until` at least."""
        self._adopted.note_settled(envelope.id.origin, envelope.settled, remember_until)
        self._adopted.add(envelope.id)
        self._last_number += 1
        message = MessageId(self._origin, self._last_number)
        self._kept[message] = None
        return replace(envelope, id=message, settled=0, after=0)

    def one_too_many(self) -> MessageId | None:
        """Return the oldest notification if there are more than may be kept."""
        return next(iter(self._kept)) if len(self._kept) > self._limit else None

    def end(self, message: MessageId) -> None:
        """The notification has come to its end."""
        self._kept.pop(message, None)

    def settled(self) -> int:
        """Return the number below which all of the store's own messages have come to their end."""
        return next(iter(self._kept)).number if self._kept else self._last_number + 1

    def forget(self, now: float) -> None:
        """Drop what need not be remembered any more."""
        self._adopted.forget(now)
