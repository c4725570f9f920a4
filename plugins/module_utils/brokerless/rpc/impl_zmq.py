# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The RPC functions that Nova's services call, as `nova.rpc` documents them, over the receiver of this host.

A message is `{"method": …, "args": {…}}`, perhaps with `version` and `namespace`. A topic is bare (`compute`: any one host that serves it), directed
(`compute.machine1`) or, for consumers of a fanout, all of them. Bodies are JSON (`json_bodies`), and what they may hold is what JSON can carry
(`json_values`).

`conf` is an oslo.config object; our options are registered on it if they are not yet. `context` is None, a mapping, or an object with `to_dict()`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .driver.connection import NotAccepted, NotAnswered, close_connections, process_connection
from .errors import InvalidRPCConnectionReuse, NotSent, Timeout
from .json_bodies import decode_reply, encode_request
from .options import register_options
from .remote_exceptions import Failure, exception_of
from .request_handler import PING, RequestHandler
from .topics import Address, TopicError, parse_topic

if TYPE_CHECKING:
    from oslo_config import cfg

    from .driver.connection import Driver, Subscription
    from .driver.workers import SharedSubscription

log = logging.getLogger(__name__)


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options on `conf`. Registering them twice does no harm."""
    register_options(conf)


def _driver(conf: cfg.ConfigOpts) -> Driver:
    _register_options_once(conf)
    return process_connection(conf)


def _register_options_once(conf: cfg.ConfigOpts) -> None:
    """Register the options unless they are; to ask is a hundred times as fast as to register them again, and each call asks."""
    if "rpc_zmq_ipc_dir" not in conf:
        register_options(conf)


def multicall(
    conf: cfg.ConfigOpts,
    context: object,
    topic: str,
    msg: Mapping[str, Any],
    timeout: float | None = None,
    envelope: bool = False,  # noqa: ARG001 (Nova's signature)
) -> list[Any]:
    """Call a method and return the list of all the values of its answer.

    A method that returns a generator answers with what it yields, one that used `context.reply` with what it gave there, any other with
    one value. `timeout` is in seconds and is `rpc_response_timeout` if None. `envelope` changes nothing: bodies always carry their format.

    Raises `Timeout` if no answer came in time, `NotSent` if the message was refused, `Unserialisable` (a `TypeError`) if JSON can't carry an
    argument, `TopicError` for a bad topic; and what the method raised, as `remote_exceptions` tells.
    """
    address = parse_topic(topic)
    if address.fanout:
        raise TopicError(f"topic {topic!r} is a fanout, which can't be called; use fanout_cast")
    body = encode_request(context, msg)
    driver = _driver(conf)
    seconds = _seconds(conf.rpc_response_timeout if timeout is None else timeout)
    method = str(msg["method"])
    try:
        answer = decode_reply(driver.call(address, body, seconds))
    except NotAnswered as error:
        raise Timeout(error.reason, str(address), method, seconds) from None
    except NotAccepted as error:
        raise NotSent(error.reason, str(address), method) from None
    if isinstance(answer, Failure):
        raise exception_of(answer, conf.allowed_rpc_exception_modules)
    return answer


def call(conf: cfg.ConfigOpts, context: object, topic: str, msg: Mapping[str, Any], timeout: float | None = None, envelope: bool = False) -> Any:
    """Call a method and return the last value of its answer, None if the answer has none. Otherwise as `multicall`."""
    values = multicall(conf, context, topic, msg, timeout, envelope)
    return values[-1] if values else None


def cast(
    conf: cfg.ConfigOpts,
    context: object,
    topic: str,
    msg: Mapping[str, Any],
    timeout: float | None = None,
    envelope: bool = False,  # noqa: ARG001 (Nova's signature)
) -> None:
    """Have a method run once, and don't wait for it.

    Returns when the message is accepted. `timeout` (seconds; `rpc_cast_timeout` if None) is how long it may take to hand it over; after that it
    is an error in the log of this host. Raises `NotSent`, `Unserialisable` and `TopicError` as `multicall`.
    """
    _send(conf, parse_topic(topic), encode_request(context, msg), timeout, str(msg["method"]))


def fanout_cast(conf: cfg.ConfigOpts, context: object, topic: str, msg: Mapping[str, Any], **kwargs: Any) -> None:
    """Have a method run once by every consumer of the bare topic. Otherwise as `cast`; of the keyword arguments only `timeout` counts."""
    address = parse_topic(topic)
    fanout = Address(address.topic, server=address.server, fanout=True).checked()
    _send(conf, fanout, encode_request(context, msg), kwargs.get("timeout"), str(msg["method"]))


def notify(
    conf: cfg.ConfigOpts,
    context: object,
    topic: str,
    msg: Mapping[str, Any],
    envelope: bool = False,  # noqa: ARG001 (Nova's signature)
) -> None:
    """Send a notification, any mapping, to one consumer of the topic, whose dots become dashes: `notifications.info` is `notifications-info`.

    A consumer gets it by its method `process_notification(context, message)`. If there is none, the receiver keeps it until there is, for
    `rpc_notification_timeout` at most. Otherwise as `cast`.
    """
    address = parse_topic(topic.replace(".", "-"))
    _register_options_once(conf)
    _send(conf, address, encode_request(context, msg, method_needed=False), conf.rpc_notification_timeout, None, notification=True)


def cleanup() -> None:
    """Wait a few seconds for casts that are under way, and close this process's link to its receiver, and with it all of its consumers.

    The next call makes a new one.
    """
    close_connections()


def ping(conf: cfg.ConfigOpts, topic: str, timeout: float | None = None) -> dict[str, Any]:
    """Ask a consumer of the topic, bare or directed, who it is: `{"host": …, "pid": …}`. The consumer's own methods are not involved.

    Raises as `call`.
    """
    answer = call(conf, None, topic, {"method": PING}, timeout)
    return answer if isinstance(answer, dict) else {}


def create_connection(conf: cfg.ConfigOpts, new: bool = True) -> Connection:  # noqa: ARG001 (Nova's signature)
    """Return a new connection, for consumers. `new` changes nothing: the process has one link to its receiver in any case."""
    return Connection(conf)


def _send(conf: cfg.ConfigOpts, address: Address, body: bytes, timeout: float | None, method: str | None, notification: bool = False) -> None:
    driver = _driver(conf)
    ttl = _seconds(conf.rpc_cast_timeout if timeout is None else timeout)
    try:
        driver.cast(address, body, ttl, notification=notification)
    except NotAccepted as error:
        raise NotSent(error.reason, str(address), method) from None


def _seconds(timeout: object) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < float("inf"):
        raise ValueError(f"timeout must be a positive number of seconds, not {timeout!r}")
    return float(timeout)


class Connection:
    """The consumers of a service. They get messages from `consume_in_thread()` on, in the process's worker threads, until `close()`."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        _register_options_once(conf)
        self._conf = conf
        self._pid = os.getpid()
        self._host: str = conf.rpc_zmq_host
        self._max_message_size: int = conf.rpc_zmq_max_message_size
        self._waiting: list[tuple[list[Address], RequestHandler]] = []
        self._known: set[Address] = set()
        self._subscriptions: list[Subscription | SharedSubscription] = []
        # close() may be called by a signal's handler in the midst of any other method, so what it needs must be free for this same thread
        self._lock = threading.RLock()
        self._closed = False
        self._held_until_closed = threading.Lock()
        self._held_until_closed.acquire()

    def create_consumer(self, topic: str, proxy: object, fanout: bool = False) -> None:
        """Add a consumer of `topic`, whose messages call methods of `proxy` from the next `consume_in_thread()` on.

        `T` and `T.<this host>` mean the same: messages to the bare topic and to this host; `T.<other>` means that only. With `fanout` the consumer
        gets the fanouts of `T`. What this connection consumes already is skipped. `proxy` is an object whose public methods are called as
        `method(context, **args)`, or a dispatcher (see `dispatch`). Raises `TopicError`.
        """
        address = parse_topic(topic)
        if fanout or address.fanout:
            addresses = [Address(address.topic, fanout=True)]
        elif address.server in ("", self._host):
            addresses = [Address(address.topic), Address(address.topic, server=self._host)]
        else:
            addresses = [address]
        with self._lock:
            self._check_open()
            added = [wanted for wanted in addresses if wanted not in self._known]
            if not added:
                log.debug("Topic %s is consumed already", topic)
                return
            self._known.update(added)
            self._waiting.append((added, RequestHandler(proxy, self._host, self._max_message_size)))

    def consume_in_thread(self) -> None:
        """Make the consumers live that were created since the last time, and return."""
        with self._lock:
            self._check_open()
            self._pid = os.getpid()
            while self._waiting:
                addresses, handler = self._waiting[0]
                subscription = _driver(self._conf).subscribe(addresses, handler)
                if self._closed:
                    subscription.close()
                    return
                self._subscriptions.append(subscription)
                del self._waiting[0]

    def wait(self) -> None:
        """Block until `close()`, which another thread or a signal's handler calls."""
        with self._held_until_closed:
            return

    def close(self) -> None:
        """Stop the consumers: they get no further messages, and what they work on goes on to its end. Closing twice does no harm."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._held_until_closed.release()
            subscriptions, self._subscriptions = self._subscriptions, []
            self._waiting.clear()
        if self._pid == os.getpid():
            # in a child of the process that consumes there is nothing to close: the link is the parent's
            for subscription in subscriptions:
                subscription.close()

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidRPCConnectionReuse("the connection was closed; create another one")

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()
