# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The connection of a process to its host's receiver: one socket around the session that decides, used by one thread at a time.

Whoever wants something of the session leaves a command in a queue, and then takes the turn: works off all commands that are there and sends what
comes of them. If another thread has the turn, that one does it. The I/O thread sleeps until something comes in or is due. So a message is sent
without waking another thread, and nobody waits for a lock. The main thread only wakes the I/O thread: a signal's handler may raise anything in
it, at any place.

Consumers' handlers run in a bounded pool. Nothing here survives a fork by accident: a child makes a connection of its own when it first needs one.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import json
import logging
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..bundle import bundled, unbundled
from ..envelope import Envelope, Pattern
from ..ipc import ipc_endpoint, socket_path
from ..protocol import Copy, Parcel, ProtocolError, decode, encode, new_incarnation
from ..topics import Address
from .backlog import Backlog
from .consumers import Consumers
from .effects import Answer, ConsumptionKnown, HandOver, Note, Overheard, Reported, Say, Settled, Transmit
from .handler_threads import HandlerThreads
from .receiver_socket import ReceiverSocket
from .session import Identity, Session
from .workers import WorkerConnections

if TYPE_CHECKING:
    from oslo_config import cfg

LOG = logging.getLogger("brokerless.driver")
SPARE_CREDIT = 16
"""Messages that may wait in the process beyond those being worked on, so that the pool never runs dry between two messages."""
SUBSCRIBE_SECONDS = 5.0
NOTIFICATION_PATIENCE = 5.0
"""How long a notification may keep its sender waiting for room."""
NO_PATIENCE_LIMIT = float("inf")
EXIT_SECONDS = 5.0
"""How long a process that ends waits for its casts to be handed over."""


BEAT = b""
"""The body of a reply that is no answer yet: whoever works on the call lets the caller know that it does."""


class NotAnswered(Exception):
    """No answer came in time. `reason` says what is known of why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason or "no answer, and nothing is known of why")
        self.reason = reason


class NotAccepted(Exception):
    """A message was not taken for sending. `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CallerGone(Exception):
    """Nobody waits for the answer to a call any more."""


class Incoming:
    """A message that was handed to a consumer."""

    def __init__(self, connection: Connection, parcel: Parcel, deadline: float, others: deque[None]) -> None:
        self._connection = connection
        self._others = others
        self._finished = False
        self._envelope: Envelope | None = parcel.envelope
        self._deadline = deadline
        self.id = str(parcel.envelope.id)
        self.address = parcel.envelope.address
        self.body = parcel.body
        self.wants_reply = parcel.envelope.pattern is Pattern.CALL

    def expires_in(self) -> float:
        """Return the seconds that are left of its time."""
        return self._deadline - time.monotonic()

    def reply(self, body: bytes) -> None:
        """Answer a call, once; whoever sent no call gets nothing. Raises `NotAccepted` for an answer that is too large: another may go instead."""
        self._connection.check(body)
        envelope, self._envelope = self._envelope, None
        if envelope is not None and self.wants_reply:
            self._connection.send_reply(envelope, body, self._deadline)

    def beat(self, seconds: float) -> None:
        """Let the caller know that its call is being worked on; that is worth nothing after so many `seconds`.

        Raises `CallerGone` if the call was answered, if its time is over, or if there was none.
        """
        envelope = self._envelope
        left = self.expires_in()
        if envelope is None or not self.wants_reply or left <= 0:
            raise CallerGone(f"nobody waits for the answer to a message for {self.address} any more")
        self._connection.send_reply(envelope, BEAT, time.monotonic() + min(seconds, left))

    def finish(self) -> None:
        """Say that the message is worked off, so that there is room for another. Only a handler that is called in turn needs to."""
        if self._finished:
            return
        self._finished = True
        try:
            self._others.pop()  # another consumer of this process, of the same fanout, is not done yet
        except IndexError:
            self._connection.finished_one()


Handler: TypeAlias = Callable[[Incoming], None]


class Subscription:
    """What one handler consumes, until it is closed."""

    def __init__(self, connection: Connection, addresses: tuple[Address, ...], handler: Handler, in_turn: bool) -> None:
        self._connection = connection
        self.addresses = addresses
        self.handler = handler
        self.in_turn = in_turn

    def close(self) -> None:
        """Consume nothing more. Messages that were handed over already are still worked on."""
        self._connection.unsubscribe(self)


class _Waiter:
    """A call, a question or a subscription that a thread waits for."""

    def __init__(self) -> None:
        self.answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.number = 0
        self.note = ""


_Command: TypeAlias = Callable[[float], None]


class Connection:
    """A process's connection to the receiver of its host. All methods may be called from any thread."""

    def __init__(
        self,
        ipc_dir: str,
        host: str,
        *,
        pool_size: int = 1024,
        backlog: int = 4096,
        max_outstanding: int = 100_000,
        max_message: int = 16 << 20,
        heartbeat: float = 1.0,
        worker: int = 0,
    ) -> None:
        """Connect to the receiver in `ipc_dir` on this `host`, or to one of its workers; it need not be there yet.

        At most `pool_size` messages are worked on at the same time, `backlog` messages for one address and `max_outstanding` for all of them may be
        under way, and none may be larger than `max_message` bytes. `heartbeat` is in seconds. Raises `IpcError` if the socket's path is too long.
        """
        self.host = host
        self._endpoint = ipc_endpoint(ipc_dir, worker)
        self._socket_path = socket_path(ipc_dir, worker)
        self._max_message = max_message
        self._backlog = Backlog(backlog, max_outstanding)
        self._handler_threads = HandlerThreads(pool_size, "rpc-worker")
        self._commands: deque[_Command] = deque()
        self._worked_off: deque[None] = deque()
        self._running = 0
        self._window = pool_size + SPARE_CREDIT
        self._woken = False
        self._receiver: ReceiverSocket
        self._turn_taken = threading.Lock()
        self._turn_taken.acquire()
        self._sleeps_until = 0.0
        self._main_thread = threading.main_thread().ident
        # An event descriptor, since eventlet makes the ends of a pipe wait where they would say that there is nothing to read.
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._subscriptions: list[Subscription] = []
        self._consumers: dict[Address, deque[Subscription]] = {}
        self._tokens = itertools.count(1)
        self._listen: Callable[[Copy], None] = lambda _copy: None
        self._waiting_calls: dict[int, _Waiter] = {}
        self._waiting_reports: dict[int, _Waiter] = {}
        self._waiting_consumption: dict[int, _Waiter] = {}
        self._addresses_of: dict[int, Address] = {}
        name = Path(sys.argv[0] or "python").name
        identity = Identity(host, new_incarnation(os.urandom(8)), name, os.getpid(), self._window, heartbeat)
        self._session = Session(identity, time.monotonic())
        self._on: dict[type, Callable[[Any], None]] = {
            HandOver: self._hand_over,
            Answer: self._answer,
            Settled: self._settled,
            Note: self._note,
            ConsumptionKnown: self._consumption_known,
            Reported: self._reported,
            Overheard: self._overheard,
            Say: lambda effect: LOG.log(effect.level, "%s", effect.text),
        }
        self._thread_goes_on = True
        self._closing = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="rpc-io", daemon=True)
        self._thread.start()

    # --- for callers ---------------------------------------------------------------------------------------------------------------------------

    def call(self, address: Address, body: bytes, timeout: float, patience: float = NO_PATIENCE_LIMIT) -> bytes:
        """Send a call and return the body of its answer. `timeout` is in seconds.

        With `patience`, too, it is given up when nothing was heard for so many seconds, neither an answer nor a beat of whoever works on it.
        Raises `NotAnswered` when no answer came in time, with what is known of why, and `NotAccepted` for a message that is too large.
        """
        self._check_open()
        self.check(body)
        deadline = time.monotonic() + timeout
        waiter = _Waiter()

        def send(now: float) -> None:
            waiter.number = self._session.submit(address, body, Pattern.CALL, deadline, now)
            self._waiting_calls[waiter.number] = waiter

        self._command(send)
        answer = BEAT
        while answer == BEAT:
            try:
                answer = waiter.answers.get(timeout=max(0.0, min(patience, deadline - time.monotonic())))
            except queue.Empty:
                raise NotAnswered(self._give_up_call(waiter)) from None
        return answer

    def _give_up_call(self, waiter: _Waiter) -> str:
        reasons: queue.SimpleQueue[str] = queue.SimpleQueue()

        def give_up(now: float) -> None:
            self._waiting_calls.pop(waiter.number, None)
            reasons.put(self._session.why_late(now, waiter.note))
            self._session.abandon(waiter.number)

        self._command(give_up)
        try:
            reason = reasons.get(timeout=1.0)
        except queue.Empty:
            reason = "the I/O thread of this process does not respond"
        return self._diagnose() if not self._session.ready else reason

    def cast(self, address: Address, body: bytes, ttl: float, notification: bool = False, patience: float = NO_PATIENCE_LIMIT) -> None:
        """Send a message that has no answer, and return as soon as this process has taken it over; `ttl` is in seconds.

        From then on it is handed over within `ttl`, or a log line says that it was not. Raises `NotAccepted` when the message is too large, or when
        too many messages for `address`, or in all, are under way for all that time, or for `patience` seconds; a notification waits for room for a
        few seconds only.
        """
        self._check_open()
        self.check(body)
        now = time.monotonic()
        deadline = now + ttl
        patience = min(ttl, patience, NOTIFICATION_PATIENCE if notification else ttl)
        if not self._backlog.enter(address, now + patience):
            raise NotAccepted(f"the backlog of {address} was full for {patience:g} s: messages for it are not handed over fast enough")
        pattern = Pattern.NOTIFICATION if notification else Pattern.CAST
        self._command(lambda now: self._submit_counted(address, body, pattern, deadline, now))

    def send_reply(self, call: Envelope, body: bytes, deadline: float) -> None:
        """Answer `call`. The answer is worth nothing after `deadline`."""
        address = Address("zmq_replies", server=call.id.origin)
        self.check(body)
        self._backlog.enter(address, deadline)
        self._command(lambda now: self._submit_counted(address, body, Pattern.REPLY, deadline, now, call))

    def _submit_counted(self, address: Address, body: bytes, pattern: Pattern, deadline: float, now: float, answers: Envelope | None = None) -> None:
        self._addresses_of[self._session.submit(address, body, pattern, deadline, now, answers)] = address

    def subscribe(self, addresses: Iterable[Address], handler: Handler, *, in_turn: bool = False) -> Subscription:
        """Let `handler` consume `addresses`, in threads of the pool, until the subscription is closed.

        With `in_turn` it is called in whatever thread has the turn, must return at once, and calls `Incoming.finish` when the message is worked off.
        Returns when the receiver knows. If it can't be reached, that is logged, and it is told as soon as it is there.
        """
        self._check_open()
        subscription = Subscription(self, tuple(addresses), handler, in_turn)

        def add(_now: float) -> None:
            self._subscriptions.append(subscription)
            for address in subscription.addresses:
                self._consumers.setdefault(address, deque()).append(subscription)

        if not self._change_consumption(add, self._subscribe_seconds()):
            LOG.warning("%s: consumers of this process wait for it", self._diagnose())
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Let the subscription's handler consume nothing more."""

        def announce(_now: float) -> None:
            self._subscriptions.remove(subscription)

        def remove(_now: float) -> None:
            for address in subscription.addresses:
                consumers = self._consumers[address]
                consumers.remove(subscription)
                if not consumers:
                    del self._consumers[address]

        with self._lock:
            if subscription not in self._subscriptions or self._closing:
                return
        self._change_consumption(announce, SUBSCRIBE_SECONDS if self._session.ready else 0.0)
        self._command(remove)

    def reach(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the receiver; return whether it is there."""
        return self._session.ready or self._change_consumption(lambda _now: None, timeout)

    def _subscribe_seconds(self) -> float:
        return SUBSCRIBE_SECONDS if self._socket_path.exists() else 0.5

    def _change_consumption(self, change: _Command, patience: float) -> bool:
        """Change what is consumed, and wait up to `patience` seconds until the receiver knows; return whether it does."""
        waiter = _Waiter()

        def consume(now: float) -> None:
            change(now)
            addresses = dict.fromkeys(address for subscription in self._subscriptions for address in subscription.addresses)
            self._waiting_consumption[self._session.consume(addresses)] = waiter

        self._command(consume)
        if patience <= 0:
            return False
        try:
            waiter.answers.get(timeout=patience)
        except queue.Empty:
            return False
        return True

    def inspect(self, question: str, argument: str = "", timeout: float = 5.0) -> dict[str, Any]:
        """Ask the receiver about itself: `status`, `route` with a topic as `argument`, or `consumers` of an address. Raises `NotAnswered`."""
        waiter = _Waiter()
        token = next(self._tokens)

        def ask(_now: float) -> None:
            self._waiting_reports[token] = waiter
            self._session.ask(token, question, argument)

        def ask_no_more(_now: float) -> None:
            self._waiting_reports.pop(token, None)
            self._session.ask_no_more(token)

        self._command(ask)
        try:
            answer: dict[str, Any] = json.loads(waiter.answers.get(timeout=timeout))
        except queue.Empty:
            self._command(ask_no_more)
            raise NotAnswered(self._diagnose()) from None
        return answer

    def consumers(self, address: Address, timeout: float = 5.0) -> Consumers:
        """Ask the receiver who consumes `address` now. Raises `NotAnswered`."""
        answer = self.inspect("consumers", json.dumps(address), timeout)
        return Consumers(frozenset(answer.get("hosts", ())), frozenset(answer.get("exchanges", ())))

    def tap(self, addresses: Iterable[Address], listen: Callable[[Copy], None]) -> None:
        """Let `listen` hear copies of what consumers on this host get for `addresses`, which lose nothing by it; nothing else is tapped any more.

        It is called in a thread of the connection and must return at once. Copies are missed while the receiver is away, or when they come too fast.
        """
        tapped = tuple(addresses)

        def tap(_now: float) -> None:
            self._listen = listen
            self._session.tap(tapped)

        self._command(tap)

    @property
    def welcomes(self) -> int:
        """How often a receiver has taken this process in: when that changes, copies may have been missed."""
        return self._session.welcomes

    def settle(self, timeout: float) -> int:
        """Wait until all casts and replies have come to their end, for `timeout` seconds at most; return how many have not."""
        return self._backlog.wait_until_empty(time.monotonic() + timeout)

    def close(self, timeout: float = EXIT_SECONDS) -> None:
        """Consume nothing more, wait up to `timeout` seconds for what is being worked on and what is under way, and disconnect."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        deadline = time.monotonic() + timeout
        if self._subscriptions:
            self._change_consumption(lambda _now: self._subscriptions.clear(), SUBSCRIBE_SECONDS if self._session.ready else 0.0)
        finishing = threading.Thread(target=self._handler_threads.finish, name="rpc-finishing", daemon=True)
        finishing.start()
        finishing.join(max(0.0, deadline - time.monotonic()))
        left = self._backlog.wait_until_empty(deadline)
        if left:
            LOG.error("%d messages were not handed over within the %g s that this process waited at its end: %s", left, timeout, self._diagnose())
        self._command(self._say_farewell)
        self._thread.join(max(1.0, deadline - time.monotonic()))

    def _check_open(self) -> None:
        if self._closing:
            raise NotAccepted("the connection to the receiver is closed")

    def leave_to_parent(self) -> None:
        """After a fork, in the child: never use the socket, whose threads are in the parent, and let nobody wait for them."""
        self._lock = threading.Lock()
        self._closing = True

    def check(self, body: bytes) -> None:
        """Raise `NotAccepted` if a message with that body is too large."""
        if len(body) > self._max_message:
            raise NotAccepted(f"a message of {len(body)} bytes is larger than rpc_zmq_max_message_size, {self._max_message}")

    def _diagnose(self) -> str:
        """Return what is wrong with the receiver, as far as this process can see."""
        path = self._socket_path
        try:
            path.stat()
        except FileNotFoundError:
            return f"there is no receiver at {path}: is brokerless-receiver running?"
        except PermissionError:
            return f"no permission to enter {path.parent}: this user is not in the group that owns it"
        if not os.access(path, os.R_OK | os.W_OK):
            return f"no permission for {path}: this user is not in the group that owns it"
        return f"the receiver at {path} does not answer: {self._session.why_late(time.monotonic(), 'it may be stopped or overloaded')}"

    def _command(self, command: _Command) -> None:
        """Have the session do something, in this thread or in the one that has the turn."""
        self._commands.append(command)
        if threading.get_ident() == self._main_thread:
            self._wake()
            return
        while self._commands and self._turn_taken.acquire(blocking=False):
            self._turn_of_another_thread()
            # Whoever left a command meanwhile and found the turn taken, relies on our looking again after it.
            self._turn_taken.release()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(self._wake_fd, 1)

    # --- the I/O thread --------------------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Take turns, and sleep in between. Before there is a socket, and when there is none any more, the turn stays taken."""
        try:
            with contextlib.closing(ReceiverSocket(self._endpoint, self._wake_fd, self._max_message)) as self._receiver:
                self._turn_of_io_thread()
                while self._thread_goes_on:
                    self._turn_taken.release()
                    self._receiver.wait(0.0 if self._commands else self._sleeps_until - time.monotonic())
                    self._sleeps_until = 0.0
                    self._turn_taken.acquire()
                    self._turn_of_io_thread()
        except Exception:
            LOG.exception("the I/O thread of the RPC driver died; this process can't send or consume any more")
            raise

    def _say_farewell(self, _now: float) -> None:
        self._session.farewell()
        self._thread_goes_on = False
        self._wake()

    def _turn_of_io_thread(self) -> None:
        receiver = self._receiver
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
        self._woken = False
        now = time.monotonic()
        self._read(receiver, now)
        self._follow_connection(receiver, now)
        self._work_off(receiver, now)
        self._sleeps_until = now if receiver.readable() else self._next_wake(now)

    def _turn_of_another_thread(self) -> None:
        """Do what is wanted, and read: whatever is done with the socket may use up its only sign that there is something to read."""
        receiver = self._receiver
        now = time.monotonic()
        try:
            self._work_off(receiver, now)
            more = receiver.readable()
            if more:
                self._read(receiver, now)
                self._work_off(receiver, now)
                more = receiver.readable()
            if more or self._next_wake(now) < self._sleeps_until:
                self._wake()
        except Exception:
            LOG.exception("a fault in the RPC driver; this process can't send or consume any more")
            self._thread_goes_on = False
            self._wake()

    def _next_wake(self, now: float) -> float:
        soonest = self._session.next_wake()
        return min(soonest, now + 0.01) if self._worked_off else soonest

    def _work_off(self, receiver: ReceiverSocket, now: float) -> None:
        """Do what other threads want of the session and what is due, and what the session wants done."""
        while self._commands:
            self._commands.popleft()(now)
        done = len(self._worked_off)
        if done:
            for _turn in range(done):
                self._worked_off.popleft()
            self._session.worked_off(done, now)
        self._session.tick(now)
        messages: list[list[bytes]] = []
        for effect in self._session.take_effects(time.monotonic()):
            if effect.__class__ is Transmit:
                messages.append(encode(effect.message))
            else:
                self._on[effect.__class__](effect)
        for frames in bundled(messages):
            receiver.send(frames)

    def _read(self, receiver: ReceiverSocket, now: float) -> None:
        for frames in receiver.read():
            try:
                for message in unbundled(frames):
                    self._session.receive(decode(message), now)
            except ProtocolError as error:
                LOG.error("the receiver sent what is no message: %s", error)  # noqa: TRY400 - the fault is not in this process

    def _follow_connection(self, receiver: ReceiverSocket, now: float) -> None:
        for is_connected in receiver.changes():
            if is_connected:
                self._session.connected(now)
            else:
                self._read_the_rest(receiver, now)
                self._session.disconnected("the connection broke")
                receiver.reopen()
                return

    def _read_the_rest(self, receiver: ReceiverSocket, now: float) -> None:
        """Read what the receiver said before it went: it may have assigned messages, and that must not be forgotten."""
        while receiver.readable():
            self._read(receiver, now)

    def _answer(self, effect: Answer) -> None:
        waiter = self._waiting_calls.get(effect.number)
        if waiter is not None:
            if effect.body != BEAT:
                del self._waiting_calls[effect.number]
            waiter.answers.put(effect.body)

    def _settled(self, effect: Settled) -> None:
        address = self._addresses_of.pop(effect.number, None)
        if address is not None:
            self._backlog.leave(address)
        waiter = self._waiting_calls.get(effect.number)
        if waiter is not None and not effect.failure:
            waiter.note = "it was handed over, and whoever works on it has not answered"

    def _note(self, effect: Note) -> None:
        waiter = self._waiting_calls.get(effect.number)
        if waiter is not None:
            waiter.note = effect.text

    def _consumption_known(self, effect: ConsumptionKnown) -> None:
        for revision in [revision for revision in self._waiting_consumption if revision <= effect.revision]:
            self._waiting_consumption.pop(revision).answers.put(None)

    def _reported(self, effect: Reported) -> None:
        waiter = self._waiting_reports.pop(effect.token, None)
        if waiter is not None:
            waiter.answers.put(effect.answer)

    def _overheard(self, effect: Overheard) -> None:
        self._listen(effect.copy)

    def _hand_over(self, effect: HandOver) -> None:
        address = effect.parcel.envelope.address
        consumers = self._consumers.get(address)
        if not consumers:
            LOG.error("%s came when nothing consumed it here any more; it is dropped", effect.parcel.envelope)
            self._worked_off.append(None)
            return
        consumers.rotate(-1)
        chosen = list(consumers) if address.fanout else [consumers[-1]]
        others = deque(None for _turn in chosen[1:])
        for consumer in chosen:
            incoming = Incoming(self, effect.parcel, effect.deadline, others)
            if consumer.in_turn:
                self._run_handler(consumer.handler, incoming)
            else:
                self._handler_threads.submit(functools.partial(self._work, consumer.handler, incoming))

    @staticmethod
    def _run_handler(handler: Handler, incoming: Incoming) -> None:
        try:
            handler(incoming)
        except Exception:
            LOG.exception("the consumer of %s failed", incoming.address)

    def _work(self, handler: Handler, incoming: Incoming) -> None:
        self._run_handler(handler, incoming)
        incoming.finish()

    def finished_one(self) -> None:
        """Take note that a message which was handed over is worked off. Called by `Incoming.finish`, in any thread."""
        self._worked_off.append(None)
        if len(self._worked_off) * 2 >= self._window:
            self._wake()


# --- one connection per process ------------------------------------------------------------------------------------------------------------------

Driver: TypeAlias = Connection | WorkerConnections
_connections: dict[str, Driver] = {}
_connections_lock = threading.Lock()
_inherited: list[Driver] = []
_process = os.getpid()


def process_connection(conf: cfg.ConfigOpts) -> Driver:
    """Return this process's connection to the receiver in `rpc_zmq_ipc_dir`, which is made when it is first asked for, and anew after a fork."""
    if _process != os.getpid():  # uWSGI forks without a word to Python
        _leave_to_parent()
    connection = _connections.get(conf.rpc_zmq_ipc_dir)
    if connection is not None:
        return connection
    with _connections_lock:
        connection = _connections.get(conf.rpc_zmq_ipc_dir)
        if connection is None:
            workers = conf.rpc_zmq_receiver_workers
            connection = _connect(conf, 0) if workers == 1 else WorkerConnections(workers, functools.partial(_connect, conf))
            _connections[conf.rpc_zmq_ipc_dir] = connection
        return connection


def _connect(conf: cfg.ConfigOpts, worker: int) -> Connection:
    return Connection(
        conf.rpc_zmq_ipc_dir,
        conf.rpc_zmq_host,
        pool_size=max(1, conf.rpc_thread_pool_size // conf.rpc_zmq_receiver_workers),
        backlog=conf.rpc_zmq_topic_backlog,
        max_outstanding=conf.rpc_zmq_max_outstanding,
        max_message=conf.rpc_zmq_max_message_size,
        heartbeat=conf.rpc_zmq_heartbeat_interval,
        worker=worker,
    )


def close_connections(timeout: float = EXIT_SECONDS) -> None:
    """Close all connections of this process, after waiting up to `timeout` seconds for what is under way on each."""
    with _connections_lock:
        connections = list(_connections.values())
        _connections.clear()
    for connection in connections:
        connection.close(timeout)


def _leave_to_parent() -> None:
    """After a fork: what was made before belongs to the parent, whose threads don't exist here. It must not even be collected."""
    global _connections_lock, _process  # noqa: PLW0603 - the lock may have been held when the process forked
    _process = os.getpid()
    _connections_lock = threading.Lock()
    for connection in _connections.values():
        connection.leave_to_parent()
        _inherited.append(connection)
    _connections.clear()


os.register_at_fork(after_in_child=_leave_to_parent)
atexit.register(close_connections)
