# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The exceptions of the RPC functions, with the names that Nova's services know them by.

The positional arguments of each are plain values from which it can be built again, because they travel: a `Timeout` of a nested call
reaches the outer caller as a `Timeout`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class RPCException(Exception):
    """The base of what the RPC functions raise."""


class Timeout(RPCException):
    """A call had no answer in time.

    `info` says what is known about the reason, `topic` and `method` what was called, `seconds` how long the caller waited.
    """

    def __init__(self, info: str | None = None, topic: str | None = None, method: str | None = None, seconds: float | None = None) -> None:
        super().__init__(info, topic, method, seconds)
        self.info = info
        self.topic = topic
        self.method = method
        self.seconds = seconds

    def __str__(self) -> str:
        what = f" to method {self.method!r}" if self.method else ""
        where = f" on topic {self.topic!r}" if self.topic else ""
        within = f" within {self.seconds:g} s" if self.seconds is not None else ""
        why = f": {self.info}" if self.info else ""
        return f"no answer{what}{where}{within}{why}"


class NotSent(RPCException):
    """A message was not accepted for sending, and nothing of it will arrive; `info` says why."""

    def __init__(self, info: str | None = None, topic: str | None = None, method: str | None = None) -> None:
        super().__init__(info, topic, method)
        self.info = info
        self.topic = topic
        self.method = method

    def __str__(self) -> str:
        what = f" method {self.method!r}" if self.method else " message"
        where = f" for topic {self.topic!r}" if self.topic else ""
        why = f": {self.info}" if self.info else ""
        return f"not sent:{what}{where}{why}"


class RemoteError(RPCException):
    """The method raised an exception whose class is not re-created here.

    `exc_type` is the name of its class, `value` its text, `traceback` the remote traceback's text. To have it raised by its own class, put the
    module that defines it into the option `allowed_rpc_exception_modules`.
    """

    def __init__(self, exc_type: str | None = None, value: str | None = None, traceback: str | None = None) -> None:
        super().__init__(exc_type, value, traceback)
        self.exc_type = exc_type
        self.value = value
        self.traceback = traceback

    def __str__(self) -> str:
        return f"Remote error: {self.exc_type} {self.value}\n{self.traceback or ''}".rstrip()


class MalformedBody(RPCException):
    """A message's body is not what this version reads or writes; the text says where."""


class UnsupportedRpcEnvelopeVersion(MalformedBody):
    """A message's body is of a format that this version does not know."""


class Unserialisable(RPCException, TypeError):
    """An argument or a return value is not something that JSON can carry; the text names its path and its type."""


class NoSuchMethod(RPCException, AttributeError):
    """The consumer of the topic has no public method of that name."""


class UnsupportedRpcVersion(RPCException):
    """The consumer has no API of the requested namespace and version: the same major version, and a minor version at least as high."""

    def __init__(self, version: str | None = None, namespace: str | None = None) -> None:
        super().__init__(version, namespace)
        self.version = version
        self.namespace = namespace

    def __str__(self) -> str:
        within = f" of namespace {self.namespace!r}" if self.namespace is not None else ""
        return f"RPC version {self.version}{within} is not supported by this endpoint"


class ResultTooLarge(RPCException):
    """The values that a method returned make a message larger than `rpc_zmq_max_message_size` allows."""


class InvalidRPCConnectionReuse(RPCException):
    """A connection was used after `close()`."""


class ClientException(Exception):
    """Wraps, as its `__cause__`, an exception that is the caller's to handle: it is sent back and not logged as an error here."""


def client_exceptions(*expected: type[Exception]) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Decorate a method of a consumer: the `expected` exceptions are answers to its caller, not faults of this service to log."""

    def decorate(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        @functools.wraps(method)
        def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            try:
                return method(*args, **kwargs)
            except expected as error:
                raise ClientException(str(error)) from error

        return wrapped

    return decorate
