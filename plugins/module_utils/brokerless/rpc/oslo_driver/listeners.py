# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The listeners that servers of oslo.messaging poll."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...soft_import import soft_base, soft_import
from .bodies import NotOurs, Request, decode_request

if TYPE_CHECKING:
    from oslo_messaging._drivers.base import PollStyleListener

    from ..driver.connection import Incoming, Subscription
    from ..driver.workers import SharedSubscription
else:
    PollStyleListener = soft_base(soft_import("oslo_messaging._drivers.base", "oslo.messaging"), "PollStyleListener")

LOG = logging.getLogger("brokerless.oslo_driver")

Subscribe = Callable[[Callable[["Incoming"], None]], "Subscription | SharedSubscription"]


class Listener(PollStyleListener):  # type: ignore[misc]
    """What was handed to one server and is not polled yet."""

    def __init__(self, subscribe: Subscribe, message_of: Callable[[Incoming, Request], Any]) -> None:
        """Consume: `subscribe` is given whom to hand messages to; `message_of` makes of each what the server gets."""
        super().__init__(prefetch_size=0)
        self._came: queue.SimpleQueue[Incoming | None] = queue.SimpleQueue()
        self._message_of = message_of
        self._stopping = threading.Lock()
        self._subscription: Subscription | SharedSubscription | None = subscribe(self._came.put)

    def poll(self, timeout: float | None = None, batch_size: int | None = 1, batch_timeout: float | None = None) -> list[Any]:
        """Return what came: at least one message, unless none comes within `timeout` seconds (None: for ever) or the listener is stopped.

        After the first one, `batch_size` are waited for (None: as many as come), for `batch_timeout` seconds if that is given. A stopped listener
        returns what it still has, and then nothing.
        """
        first = self._next(timeout)
        if first is None:
            return []
        messages = [first]
        ends_at = None if batch_timeout is None else time.monotonic() + batch_timeout
        while batch_size is None or len(messages) < batch_size:
            # neither a size nor a time: whatever is there
            left = (0.0 if batch_size is None else None) if ends_at is None else max(0.0, ends_at - time.monotonic())
            message = self._next(left)
            if message is None:
                break
            messages.append(message)
        return messages

    def _next(self, timeout: float | None) -> Any:
        ends_at = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                incoming = self._came.get(timeout=None if ends_at is None else max(0.0, ends_at - time.monotonic()))
            except queue.Empty:
                return None
            if incoming is None:
                self._came.put(None)
                return None
            message = self._read(incoming)
            if message is not None:
                return message

    def _read(self, incoming: Incoming) -> Any:
        """Return the message as its server gets it; None for one that is not for it: its caller has given up, or it is none of ours."""
        if incoming.wants_reply and incoming.expires_in() <= 0:
            LOG.warning("a call for %s is not run: its caller has given up meanwhile", incoming.address)
            incoming.finish()
            return None
        try:
            return self._message_of(incoming, decode_request(incoming.body))
        except NotOurs as error:
            LOG.error("a message for %s is dropped: %s", incoming.address, error)  # noqa: TRY400
            incoming.finish()
            return None

    def stop(self) -> None:
        """Consume nothing more, and let `poll` return what is there."""
        with self._stopping:
            subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.close()
            self._came.put(None)
