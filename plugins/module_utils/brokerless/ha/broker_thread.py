# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A thread with a connection to one of several RabbitMQ brokers, for as long as it takes: whatever breaks is made anew, after a growing pause.

What is done on the connection is a `BrokerSession`'s affair. It does all its writing and waiting in `opened`, `turn` and `leaving`; a callback
of a consumer only takes down what came, since a time limit that strikes in the midst of a callback could not be told from one that strikes
when there is nothing to read.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..soft_import import soft_import
from .broker_urls import shown

if TYPE_CHECKING:
    import kombu
    from amqp import exceptions as amqp_exceptions
else:
    kombu = soft_import("kombu", "kombu")
    amqp_exceptions = soft_import("amqp.exceptions", "kombu")

TURN_SECONDS = 0.2
"""How long a turn waits for something to read."""
ANSWER_SECONDS = 5.0
"""How long a broker may take to greet, or to answer a question."""
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 3.0
"""Seconds until a broker is tried again: after the first failure about, and at most."""


class SessionFailed(Exception):
    """The session can't go on with this connection; the text says why, for the operator."""


class BrokerSession(Protocol):
    """What is done on a connection. All methods run in the thread, with monotonic seconds as `now`."""

    def opened(self, channel: Any, now: float) -> None:
        """Prepare a new channel. May raise `SessionFailed`, or what the broker answers."""

    def turn(self, now: float) -> None:
        """Do what is due; called after each thing that was read, and every `TURN_SECONDS`. May raise as `opened` does."""

    def leaving(self, now: float) -> None:
        """Say farewell, on a connection that works still."""

    def closed(self, reason: str, now: float) -> None:
        """The connection is gone, or was not to be had."""


class BrokerThread:
    """Runs a session between `start` and `close`. Says in the log when it begins, and once for each kind of trouble in a row."""

    def __init__(self, name: str, urls: Sequence[str], heartbeat: float, session: BrokerSession, log: logging.Logger) -> None:
        """Nothing is connected yet. `urls` are kombu's, tried in turn; a connection that is silent for two `heartbeat`s (seconds) is given up."""
        self._name = name
        self._urls = list(urls)
        self._heartbeat = heartbeat
        self._session = session
        self._log = log
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._said: set[str] = set()

    def start(self) -> None:
        """Begin; a broker that is not there is waited for."""
        self._thread.start()

    def close(self) -> None:
        """Say farewell and end, within seconds; may be called again."""
        self._closing.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(3 * ANSWER_SECONDS)

    def _run(self) -> None:
        attempt = 0
        while not self._closing.is_set():
            url = self._urls[attempt % len(self._urls)]
            self._lasted = False
            reason = self._use(url)
            if self._closing.is_set():
                return
            self._session.closed(reason, time.monotonic())
            self._say(f"RabbitMQ at {shown(url)}: {reason}")
            attempt = 1 + (self._urls.index(url) if self._lasted else attempt)
            rounds = 0 if self._lasted else (attempt - 1) // len(self._urls)
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(rounds, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            self._closing.wait(pause)

    def _use(self, url: str) -> str:
        """Use a broker until it fails or the end comes, and return why it failed."""
        try:
            with self._connected(url) as connection:
                channel = connection.channel()
                channel.auto_decode = False
                self._session.opened(channel, time.monotonic())
                self._lasted = True
                self._said.clear()
                self._log.info("%s: connected to RabbitMQ at %s", self._name, shown(url))
                while not self._closing.is_set():
                    with contextlib.suppress(TimeoutError):
                        connection.drain_events(timeout=TURN_SECONDS)
                    connection.heartbeat_tick()
                    self._session.turn(time.monotonic())
                self._session.leaving(time.monotonic())
        except SessionFailed as error:
            return str(error)
        except (OSError, amqp_exceptions.AMQPError) as error:
            return fault_of(error)
        except Exception as error:  # noqa: BLE001 - the next connection may do, and nobody else would notice that the thread has ended
            self._log.exception("%s: met what it does not know; connecting again", self._name)
            return f"an error of our own, {type(error).__name__}"
        return "closed"

    @contextlib.contextmanager
    def _connected(self, url: str) -> Iterator[Any]:
        options = {"client_properties": {"connection_name": self._name}}
        client = kombu.Connection(url, heartbeat=self._heartbeat, connect_timeout=ANSWER_SECONDS, transport_options=options)
        connection = client.transport.establish_connection()
        try:
            # for all that is written, and for each answer that is waited for
            connection.sock.settimeout(ANSWER_SECONDS)
            yield connection
            connection.close()
        finally:
            connection.collect()

    def _say(self, what: str) -> None:
        """Log a trouble unless it was said since the last time that all was well."""
        level = logging.DEBUG if what in self._said else logging.WARNING
        self._said.add(what)
        self._log.log(level, "%s: %s; trying again", self._name, what)


def fault_of(error: BaseException) -> str:
    """Return what an error of the connection means for the operator, in one line."""
    text = " ".join(str(getattr(error, "reply_text", "") or error).split()) or type(error).__name__
    if isinstance(error, amqp_exceptions.AccessRefused):
        return f"refuses us ({text}): check user, password and virtual host, and the user's rights to configure, write and read"
    if isinstance(error, amqp_exceptions.NotAllowed):
        return f"does not allow it ({text}): check the virtual host"
    if isinstance(error, TimeoutError):
        return f"no answer for {ANSWER_SECONDS:g} s"
    if isinstance(error, amqp_exceptions.AMQPError):
        return f"the connection ended ({text})"
    return f"can't be reached, or went away ({text})"
