# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What a consumer does with one request: read it, run the method it means, and answer.

Methods whose names start with a dash are internal: they are answered here and never reach a consumer's proxy. There is one,
`-ping`, which answers `{"host": …, "pid": …}`.
"""

from __future__ import annotations

import inspect
import logging
import os
from typing import TYPE_CHECKING, Any

from .context import RpcContext
from .dispatch import dispatch, public_method
from .driver.connection import NotAccepted
from .errors import ClientException, MalformedBody, NoSuchMethod, ResultTooLarge, Unserialisable, UnsupportedRpcVersion
from .json_bodies import Request, decode_request, encode_failure, encode_values
from .json_values import cut
from .remote_exceptions import failure_of

if TYPE_CHECKING:
    from .driver.connection import Incoming
    from .topics import Address

log = logging.getLogger(__name__)

PING = "-ping"


class RequestHandler:
    """The handler of one consumer's messages; it is called in any of the process's worker threads and never raises."""

    def __init__(self, proxy: object, host: str, max_body_size: int) -> None:
        """`proxy` has the methods, or is a dispatcher; `host` names this host in answers to pings; `max_body_size` is in bytes."""
        self._proxy = proxy
        self._host = host
        self._max_body_size = max_body_size

    def __call__(self, incoming: Incoming) -> None:
        """Answer one message."""
        try:
            request = decode_request(incoming.body)
        except MalformedBody as error:
            log.warning("Refused a message on topic %s: %s", incoming.address, error)
            _reply(incoming, encode_failure(failure_of(error)))
            return
        name = "(notification)" if request.method is None else cut(request.method, 60)
        # A cast was taken over in time, and nobody else will run it or tell its sender; a caller has given up.
        if incoming.wants_reply and incoming.expires_in() <= 0:
            log.warning("Not run: method %r on topic %s, because its caller's time ran out before a worker was free", name, incoming.address)
            return
        try:
            values = self._values(request)
            answer = self._encode(name, values) if incoming.wants_reply else b""
        except BaseException as error:  # noqa: BLE001 (a method may raise anything, SystemExit too, and it is the caller who must learn of it)
            _log_failure(error, name, incoming.address)
            cause = error.__cause__ if isinstance(error, ClientException) else None
            answer = encode_failure(failure_of(cause or error))
        _reply(incoming, answer)

    def _encode(self, name: str, values: list[Any]) -> bytes:
        try:
            body = encode_values(values)
        except Unserialisable as error:
            raise Unserialisable(f"what method {name!r} returned can't be sent: {error}") from None
        if len(body) > self._max_body_size:
            raise ResultTooLarge(f"what method {name!r} returned makes {len(body)} bytes; at most {self._max_body_size} can be sent")
        return body

    def _values(self, request: Request) -> list[Any]:
        if request.method is None:
            return self._notify(request)
        if request.method == PING:
            return [{"host": self._host, "pid": os.getpid()}]
        context = RpcContext.from_dict(request.context)
        result = dispatch(self._proxy, context, request.namespace, request.version, request.method, request.args)
        values = list(result) if inspect.isgenerator(result) else context.replies or [result]
        if context.failure is not None:
            raise context.failure
        return values

    def _notify(self, request: Request) -> list[Any]:
        take = public_method(self._proxy, "process_notification")
        if take is None:
            raise NoSuchMethod("the consumer takes no notifications: it has no process_notification(context, message)")
        take(RpcContext.from_dict(request.context), request.message)
        return []


def _reply(incoming: Incoming, body: bytes) -> None:
    """Answer, if an answer is wanted. What can't be sent any more is a line in the log: its caller learns by its timeout."""
    try:
        incoming.reply(body)
    except NotAccepted as error:
        log.warning("An answer of topic %s was not sent: %s", incoming.address, error.reason)


def _log_failure(error: BaseException, name: str, address: Address) -> None:
    """Log what a method raised: with its traceback if it is this service's fault, in one line if it is the caller's."""
    if isinstance(error, ClientException):
        log.debug("Method %r on topic %s answered with an expected exception: %r", name, address, error.__cause__)
    elif type(error) in (NoSuchMethod, UnsupportedRpcVersion):
        log.warning("Could not run method %r on topic %s: %s", name, address, error)
    else:
        log.error("Method %r on topic %s failed", name, address, exc_info=error)
