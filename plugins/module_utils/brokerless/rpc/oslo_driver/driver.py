# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The driver itself: what a transport `zmq://[/NAMESPACE][?OPTION=VALUE]` of oslo.messaging does.

Nothing is opened when a transport is made, and the driver keeps no connection: each time it asks for that of its process, which all transports
share and which a forked child makes anew. So a transport that was made and used before a fork works on both sides of it.

It works with native threads, and in a process that eventlet patched: all that blocks in the runtime are locks, queues and `select` of the standard
library, which eventlet makes green in place, while libzmq itself is only asked without waiting. eventlet is never imported here.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ...soft_import import soft_base, soft_import
from ..driver.connection import Incoming, NotAccepted, NotAnswered, process_connection
from ..protocol import MAX_TTL
from ..topics import Address, TopicError
from .addresses import Addressing, pools_of
from .bodies import NotOurs, decode_reply, encode_request
from .incoming import NotificationMessage, RpcMessage
from .listeners import Listener
from .options import GROUP, driver_options, settings_of

if TYPE_CHECKING:
    import oslo_messaging
    from oslo_config import cfg
    from oslo_messaging._drivers import base, common
    from oslo_messaging._drivers.base import BaseDriver

    from ..driver.connection import Driver
else:
    oslo_messaging = soft_import("oslo_messaging", "oslo.messaging")
    base = soft_import("oslo_messaging._drivers.base", "oslo.messaging")
    common = soft_import("oslo_messaging._drivers.common", "oslo.messaging")
    BaseDriver = soft_base(base, "BaseDriver")

LOG = logging.getLogger("brokerless.oslo_driver")

PATIENCE = 5.0
"""Seconds for which a full backlog may keep a cast waiting, before it fails."""
ATTEMPT_SECONDS = 1.0
"""How long one attempt to reach the receiver takes, where `retry` says how many there are."""
ASKING_SECONDS = 5.0
"""How long the receiver may take to say who consumes an address."""
POOLS_SECONDS = 1.0
"""For so long the sender of notifications goes by what it knows of the pools that listen."""


class ZmqDriver(BaseDriver):  # type: ignore[misc]
    """oslo.messaging's driver over the receiver of this host."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        url: oslo_messaging.TransportURL,
        default_exchange: str | None = None,
        allowed_remote_exmods: Collection[str] | None = None,
    ) -> None:
        """Read the options; nothing is connected yet. Raises what `settings_of` raises, and `TopicError` for a virtual host that is too long."""
        conf.register_opts(driver_options(), group=GROUP)
        conf = common.ConfigOptsProxy(conf, url, GROUP)
        super().__init__(conf, url, default_exchange, allowed_remote_exmods)
        self._settings = settings_of(conf[GROUP])
        self._addressing = Addressing(url.virtual_host, default_exchange or "")
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
        self._pools: dict[Address, tuple[float, list[Address]]] = {}
        if url.hosts:
            LOG.warning("hosts in the transport URL are not used: zmq:// goes to this host's receiver, at %s", self._settings.rpc_zmq_ipc_dir)

    def _connection(self) -> Driver:
        return process_connection(self._settings)

    def require_features(self, requeue: bool = False) -> None:
        """Return: there is nothing that is not supported."""

    # --- sending -----------------------------------------------------------------------------------------------------------------------------

    def send(
        self,
        target: oslo_messaging.Target,
        ctxt: Any,
        message: dict[str, Any],
        wait_for_reply: bool | None = None,
        timeout: float | None = None,
        call_monitor_timeout: float | None = None,
        retry: int | None = None,
        transport_options: Any = None,
    ) -> Any:
        """Send a call, and return its answer, or a cast.

        Raises `MessagingTimeout` if no answer came in `timeout` seconds, or no sign of life in `call_monitor_timeout`; what the method raised;
        `MessageDeliveryFailure` if the message was not taken for sending, or if the receiver could not be reached in `retry` attempts (None or
        negative: it is waited for as long as the message lives); `MessageUndeliverable` if nobody consumes the address and `transport_options` ask
        for `at_least_once`; `InvalidTarget`.
        """
        address = self._target_address(target)
        if wait_for_reply and address.fanout:
            raise oslo_messaging.InvalidTarget("a fanout can't be called", target)
        body = encode_request(ctxt, message, call_monitor_timeout)
        connection = self._connection()
        self._reach(connection, address, retry)
        if transport_options is not None and transport_options.at_least_once:
            self._check_consumed(connection, address, message, timeout)
        try:
            if not wait_for_reply:
                connection.cast(address, body, self._settings.rpc_cast_timeout, patience=PATIENCE)
                return None
            answer = connection.call(address, body, MAX_TTL if timeout is None else timeout, call_monitor_timeout or MAX_TTL)
        except NotAnswered as error:
            raise oslo_messaging.MessagingTimeout(f"no answer to {message.get('method')!r} of {address} in time: {error.reason}") from None
        except NotAccepted as error:
            raise oslo_messaging.MessageDeliveryFailure(f"{message.get('method')!r} of {address} was not sent: {error.reason}") from None
        return self._result(answer, address)

    def _target_address(self, target: oslo_messaging.Target) -> Address:
        try:
            if target.fanout:
                return self._addressing.of_fanout(target.exchange, target.topic)
            if target.server:
                return self._addressing.of_server(target.exchange, target.topic, target.server)
            return self._addressing.of_topic(target.exchange, target.topic)
        except TopicError as error:
            raise oslo_messaging.InvalidTarget(str(error), target) from None

    def _result(self, answer: bytes, address: Address) -> Any:
        try:
            reply = decode_reply(answer)
            failure = common.deserialize_remote_exception(reply.failure, self._allowed_remote_exmods) if reply.failure is not None else None
        except (NotOurs, ValueError, AttributeError) as error:
            raise oslo_messaging.MessagingException(f"the answer of {address} can't be read: {error}") from None
        if failure is not None:
            raise failure
        return reply.result

    @staticmethod
    def _reach(connection: Driver, address: Address, retry: int | None) -> None:
        """Wait for the receiver if there are only so many attempts to."""
        if retry is not None and retry >= 0 and not connection.reach(ATTEMPT_SECONDS * (retry + 1)):
            raise oslo_messaging.MessageDeliveryFailure(f"a message for {address} was not sent: this host's receiver can't be reached")

    @staticmethod
    def _check_consumed(connection: Driver, address: Address, message: dict[str, Any], timeout: float | None) -> None:
        try:
            hosts = connection.consumers(address, min(ASKING_SECONDS, timeout or ASKING_SECONDS)).hosts
        except NotAnswered as error:
            raise oslo_messaging.MessagingTimeout(f"who consumes {address} is not known: {error.reason}") from None
        if not hosts:
            raise oslo_messaging.MessageUndeliverable(f"nobody consumes {address}", address.exchange, str(address), message)

    def send_notification(
        self,
        target: oslo_messaging.Target,
        ctxt: Any,
        message: dict[str, Any],
        version: float,
        retry: int | None = None,
    ) -> None:
        """Send a notification to any one listener of its topic, and to one of each pool that listens.

        The receiver keeps it while nobody listens (`rpc_notification_timeout`). Raises as `send`.
        """
        address = self._target_address(target)
        body = encode_request(ctxt, message)
        connection = self._connection()
        self._reach(connection, address, retry)
        try:
            for receiving in [address, *self._pools_that_listen(connection, address)]:
                connection.cast(receiving, body, self._settings.rpc_notification_timeout, notification=True)
        except NotAccepted as error:
            raise oslo_messaging.MessageDeliveryFailure(f"a notification for {address} was not sent: {error.reason}") from None

    def _pools_that_listen(self, connection: Driver, address: Address) -> list[Address]:
        known_until, pools = self._pools.get(address, (0.0, []))
        if time.monotonic() >= known_until:
            try:
                pools = pools_of(address, connection.consumers(address, POOLS_SECONDS).exchanges)
            except NotAnswered as error:
                LOG.warning("which pools listen to %s is not known, those of before get the notification: %s", address, error.reason)
            self._pools[address] = (time.monotonic() + POOLS_SECONDS, pools)
        return pools

    # --- listening ---------------------------------------------------------------------------------------------------------------------------

    def listen(self, target: oslo_messaging.Target, batch_size: int, batch_timeout: float | None) -> Any:
        """Return a listener for the topic, for the server in it, and for fanouts of the topic. Raises `InvalidTarget`."""
        names = (target.exchange, target.topic)
        try:
            addresses = [self._addressing.of_topic(*names), self._addressing.of_server(*names, target.server), self._addressing.of_fanout(*names)]
        except TopicError as error:
            raise oslo_messaging.InvalidTarget(str(error), target) from None
        listener = self._listener(addresses, RpcMessage)
        return base.PollStyleListenerAdapter(listener, batch_size, batch_timeout)

    def listen_for_notifications(
        self,
        targets_and_priorities: Collection[tuple[oslo_messaging.Target, str]],
        pool: str | None,
        batch_size: int,
        batch_timeout: float | None,
    ) -> Any:
        """Return a listener for the topics with their priorities, shared with all others, or with its `pool`. Raises `InvalidTarget`."""
        addresses = []
        for target, priority in targets_and_priorities:
            try:
                addresses.append(self._addressing.of_topic(target.exchange, f"{target.topic}.{priority}", pool or ""))
            except TopicError as error:
                raise oslo_messaging.InvalidTarget(str(error), target) from None
        listener = self._listener(addresses, lambda incoming, request: NotificationMessage(incoming, request, self._send_again))
        return base.PollStyleListenerAdapter(listener, batch_size, batch_timeout)

    def _listener(self, addresses: list[Address], message_of: Any) -> Listener:
        listener = Listener(lambda take: self._connection().subscribe(dict.fromkeys(addresses), take, in_turn=True), message_of)
        self._listeners.add(listener)
        return listener

    def _send_again(self, incoming: Incoming) -> None:
        self._connection().cast(incoming.address, incoming.body, max(0.0, incoming.expires_in()), notification=True)

    def cleanup(self) -> None:
        """Stop the listeners. The connection stays: other transports of the process use it, and what is under way on it comes to its end."""
        for listener in list(self._listeners):
            listener.stop()
