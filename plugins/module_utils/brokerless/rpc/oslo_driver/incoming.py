# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What a server of oslo.messaging gets: messages that it answers, acknowledges or gives back."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from ...soft_import import soft_base, soft_import
from ..driver.connection import NotAccepted
from .bodies import encode_failure, encode_result

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from oslo_messaging._drivers import common
    from oslo_messaging._drivers.base import IncomingMessage, RpcIncomingMessage

    from ..driver.connection import Incoming
    from .bodies import Request
else:
    common = soft_import("oslo_messaging._drivers.common", "oslo.messaging")
    base = soft_import("oslo_messaging._drivers.base", "oslo.messaging")
    IncomingMessage, RpcIncomingMessage = soft_base(base, "IncomingMessage"), soft_base(base, "RpcIncomingMessage")

LOG = logging.getLogger("brokerless.oslo_driver")


class RpcMessage(RpcIncomingMessage):  # type: ignore[misc]
    """A call or a cast. It counts against the process's bound until it was answered, which RPCServer does with casts, too, or dropped."""

    def __init__(self, incoming: Incoming, request: Request) -> None:
        super().__init__(request.context, request.message, incoming.id)
        self.client_timeout = request.monitor if incoming.wants_reply else None
        self._incoming = incoming

    def acknowledge(self) -> None:
        """Do nothing: the message counts as handed over since it came to this process."""

    def requeue(self) -> None:
        """Drop the message; oslo.messaging gives no RPC back."""
        LOG.error("a message for %s was given back, which RPC does not know; it is dropped", self._incoming.address)
        self._incoming.finish()

    def reply(self, reply: object = None, failure: tuple[type[BaseException], BaseException, TracebackType | None] | None = None) -> None:
        """Answer the call with what the method returned, or with the exception of `failure`, as `sys.exc_info()` gives it; a cast gets no answer.

        What can't be sent becomes an exception at the caller. Raises nothing.
        """
        try:
            if self._incoming.wants_reply and self._incoming.expires_in() <= 0:
                LOG.info("a call for %s was answered too late: its caller has given up", self._incoming.address)
            elif self._incoming.wants_reply:
                self._answer(encode_failure(common.serialize_remote_exception(failure)) if failure else encode_result(reply))
        except Exception as error:  # noqa: BLE001 - whatever the method returned, its caller must not wait in vain
            LOG.error("the answer to a call for %s can't be sent, its caller is told so: %s", self._incoming.address, error)  # noqa: TRY400
            self._answer_last(encode_failure(common.serialize_remote_exception(sys.exc_info())))
        finally:
            self._incoming.finish()

    def _answer(self, body: bytes) -> None:
        self._incoming.reply(body)

    def _answer_last(self, body: bytes) -> None:
        try:
            self._answer(body)
        except NotAccepted as error:
            LOG.error("no answer was sent to a call for %s; its caller waits until its time is over: %s", self._incoming.address, error.reason)  # noqa: TRY400

    def heartbeat(self) -> None:
        """Tell the caller that its call is being worked on. Raises `CallerGone` when nobody waits any more, which ends whoever keeps telling."""
        self._incoming.beat(float(self.client_timeout or 0.0))

    def __del__(self) -> None:
        """Make room for another message, whatever became of this one."""
        incoming = getattr(self, "_incoming", None)
        if incoming is not None:
            incoming.finish()


class NotificationMessage(IncomingMessage):  # type: ignore[misc]
    """A notification."""

    def __init__(self, incoming: Incoming, request: Request, send_again: Callable[[Incoming], None]) -> None:
        super().__init__(request.context, request.message, incoming.id)
        self._incoming = incoming
        self._send_again = send_again

    def acknowledge(self) -> None:
        """Say that it was dealt with."""
        self._incoming.finish()

    def requeue(self) -> None:
        """Send it again, to any one of those who listen to its topic, or to its pool."""
        try:
            self._send_again(self._incoming)
        except NotAccepted as error:
            LOG.error("a notification for %s that was given back is lost: %s", self._incoming.address, error.reason)  # noqa: TRY400
        self._incoming.finish()

    def __del__(self) -> None:
        """Make room for another one, whatever became of this one."""
        incoming = getattr(self, "_incoming", None)
        if incoming is not None:
            incoming.finish()
