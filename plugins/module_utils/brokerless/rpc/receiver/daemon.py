# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The receiver's daemon: sockets, signals and the clock around the core, and no decisions.

Three ROUTER sockets, however many services and hosts there are: `clients` (bound to a UNIX socket), `links` (bound to TCP, for the connections
that other hosts make) and `peers` (for the connections that this host makes, one for each host).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import logging
import os
import platform
import signal
import socket
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...soft_import import soft_import
from ...version import VERSION
from ..bundle import bundled, unbundled
from ..ipc import IpcError, checked_ipc_directory, ipc_endpoint, socket_path
from ..matchmaker import load_matchmaker
from ..matchmaker.base import MatchMaker, Settings
from ..matchmaker.redis_settings import RedisSettings
from ..protocol import MAX_HEADER, Bye, Hello, Message, ProtocolError, decode, encode, new_incarnation
from .bind_addresses import BindError, adapters_of_this_host, bind_endpoints, endpoint
from .core import CoreSettings, ReceiverCore
from .effects import Dial, Effect, HangUp, ToClient, ToLink, ToPeer
from .gatekeeper import Gatekeeper, KeyChanges
from .metrics_endpoint import FiguresDesk, MetricsEndpoint, metric_families
from .name_lookup import NameLookup
from .systemd_notify import Notifier

if TYPE_CHECKING:
    import zmq
    from oslo_config import cfg
    from zmq.utils import monitor
else:
    zmq = soft_import("zmq", "pyzmq")
    monitor = soft_import("zmq.utils.monitor", "pyzmq")

LOG = logging.getLogger("brokerless.receiver")
MAX_UNREAD = 100_000
"""Messages that may wait on a connection to be read; whoever reads none for so long is treated as gone, as far as sending goes."""
READ_BATCH = 200
"""How many messages are read from one socket before the others have their turn."""
RING_LOOK_SECONDS = 1.0
DRAIN_SECONDS = 10.0
FAREWELL_MS = 500


def make_matchmaker(conf: cfg.ConfigOpts, worker: int = 0) -> MatchMaker:
    """Return the MatchMaker that the options ask for. Raises a `ValueError` that names it, or its source, and the fault."""
    redis = conf.matchmaker_redis
    settings = Settings(
        conf.rpc_zmq_host,
        ring_file=conf.rpc_zmq_matchmaker_ringfile,
        broker=conf.rpc_zmq_broker_ip,
        heartbeat_freq=conf.matchmaker_heartbeat_freq,
        heartbeat_ttl=conf.matchmaker_heartbeat_ttl,
        redis=RedisSettings(
            redis.host, redis.port, redis.username or "", redis.password or "", redis.db, redis.url or "", redis.key_prefix, redis.timeout
        ),
        options=conf.rpc_zmq_matchmaker_options,
        worker=worker,
    )
    return load_matchmaker(conf.rpc_zmq_matchmaker, settings)


class ReceiverDaemon:
    """One receiver: binds its sockets when it is made, works in `run`."""

    def __init__(self, conf: cfg.ConfigOpts, matchmaker: MatchMaker, notifier: Notifier, worker: int = 0) -> None:
        """Be the receiver, or one of its workers, by its number.

        Raises `BindError` or `IpcError` when the receiver can't listen where it shall, `KeyFileError` without good keys; nothing stays bound.
        """
        self._conf = conf
        self._notifier = notifier
        self._worker = worker
        self._port: int = conf.rpc_zmq_start_port + worker
        self._closing = contextlib.ExitStack()
        self._names = NameLookup(conf.rpc_zmq_host_addresses, self._name_answered)
        self._answers: deque[tuple[str, str | None, str]] = deque()
        self._figures = FiguresDesk(self._wake)
        self._dials = 0
        self._routing_ids: dict[str, bytes] = {}
        self._hosts: dict[bytes, str] = {}
        self._endpoints: dict[str, str] = {}
        self._peer_hosts: dict[str, str] = {}
        self._file_seen = _file_signature(matchmaker.watched_file)
        self._look_at_file = time.monotonic() + RING_LOOK_SECONDS
        self._matchmaker_has_news = False
        self._stop_by: float | None = None
        self._gate = Gatekeeper(conf, self._connection_refused) if conf.rpc_zmq_curve else None
        with contextlib.ExitStack() as on_failure:
            on_failure.push(self._closing)
            self._open_sockets()
            on_failure.pop_all()
        settings = CoreSettings(
            host=conf.rpc_zmq_host,
            incarnation=new_incarnation(os.urandom(8)),
            backlog=conf.rpc_zmq_topic_backlog,
            heartbeat=conf.rpc_zmq_heartbeat_interval,
            per_sender=conf.rpc_zmq_max_outstanding,
            notifications=conf.rpc_zmq_notification_store,
            most_bytes=conf.rpc_zmq_max_waiting_bytes,
            version=VERSION,
            pid=os.getpid(),
            ports=(self._port,),
        )
        self._core = ReceiverCore(settings, matchmaker, time.monotonic())
        if self._gate:
            self._core.curve = self._gate.status()

    # --- sockets -----------------------------------------------------------------------------------------------------------------------------

    def _open_sockets(self) -> None:
        conf = self._conf
        context = zmq.Context(io_threads=conf.rpc_zmq_contexts)
        self._closing.callback(context.term)
        directory = checked_ipc_directory(conf.rpc_zmq_ipc_dir)
        self._clients = self._router(context)
        self._links = self._router(context)
        self._peers = self._router(context)
        self._peers.setsockopt(zmq.RECONNECT_IVL, -1)
        self._peers_monitor = self._peers.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_CLOSED
            | zmq.EVENT_DISCONNECTED
        )
        self._closing.callback(self._peers_monitor.close)
        self._closing.callback(self._peers.disable_monitor)
        if self._gate:
            self._gate.guard(context, self._links, self._peers, self._closing)
        for listening in (self._clients, self._links):
            listening.setsockopt(zmq.SNDHWM, MAX_UNREAD)
        for place in bind_endpoints(conf.rpc_zmq_bind_address, self._port, adapters_of_this_host()):
            _bind(self._links, place)
        _lock_socket(socket_path(directory, self._worker), self._closing)
        _bind(self._clients, ipc_endpoint(directory, self._worker))
        path = socket_path(directory, self._worker)
        path.chmod(0o660)
        self._closing.callback(_remove, path)
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)
            self._closing.callback(end.close)
        if conf.rpc_zmq_metrics_port:
            labels = {"version": VERSION, "python": platform.python_version(), "pyzmq": zmq.__version__, "zeromq": zmq.zmq_version()}
            shown = functools.partial(metric_families, labels=labels, started_at=time.time())
            metrics = MetricsEndpoint(conf.rpc_zmq_metrics_address, conf.rpc_zmq_metrics_port - self._worker, self._figures, shown)
            self._closing.callback(metrics.close)
        self._poller = zmq.Poller()
        for readable in (self._clients, self._links, self._peers, self._peers_monitor, self._wake_read.fileno()):
            self._poller.register(readable, zmq.POLLIN)
        if self._gate:
            self._gate.register(self._poller)

    def _router(self, context: zmq.Context[Any]) -> zmq.Socket[Any]:
        router: zmq.Socket[Any] = context.socket(zmq.ROUTER)
        self._closing.callback(router.close, FAREWELL_MS)
        beat = max(1, int(self._conf.rpc_zmq_heartbeat_interval * 1000))
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.setsockopt(zmq.IPV6, 1)
        router.setsockopt(zmq.SNDHWM, 0)
        router.setsockopt(zmq.LINGER, FAREWELL_MS)
        router.setsockopt(zmq.MAXMSGSIZE, max(MAX_HEADER, self._conf.rpc_zmq_max_message_size))
        router.setsockopt(zmq.HEARTBEAT_IVL, beat)
        router.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * beat)
        return router

    # --- the loop ----------------------------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until SIGTERM or SIGINT, then drain. SIGHUP makes the MatchMaker read its ring anew."""
        with self._closing:
            previous = signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
            self._closing.callback(signal.set_wakeup_fd, previous)
            self._closing.callback(self._names.close)
            self._closing.callback(self._close_matchmaker)
            self._core.matchmaker.follow(self._matchmaker_changed)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, _noted_by_the_wakeup_fd)
            self._notifier.notify("READY=1", f"STATUS=listening on port {self._port}")
            next_watchdog = time.monotonic()
            while not self._finished():
                self._turn()
                if self._notifier.watchdog_seconds is not None and time.monotonic() >= next_watchdog:
                    next_watchdog = time.monotonic() + self._notifier.watchdog_seconds
                    self._notifier.notify("WATCHDOG=1")
            self._core.farewell(time.monotonic())
            self._carry_out()

    def _finished(self) -> bool:
        if self._stop_by is None:
            return False
        if time.monotonic() < self._stop_by:
            return self._core.drained
        LOG.warning("some messages in consumers' hands were not acknowledged within %.0f s; stopping all the same", DRAIN_SECONDS)
        return True

    def _turn(self) -> None:
        wait = self._core.next_wake() - time.monotonic()
        ready = dict(self._poller.poll(max(0, int(wait * 1000) + 1) if wait > 0 else 0))
        if self._wake_read.fileno() in ready:
            self._handle_wakeups()
        if self._gate:
            self._gate.work(ready, time.monotonic())
        if self._peers_monitor in ready:
            self._handle_connections()
        if self._clients in ready:
            self._read(self._clients, self._from_client)
        if self._peers in ready:
            self._read(self._peers, self._from_peer)
        if self._links in ready:
            self._read(self._links, self._from_link)
        now = time.monotonic()
        self._core.tick(now)
        if now >= self._look_at_file:
            self._look_at_file = now + RING_LOOK_SECONDS
            self._follow_ring_file()
            if self._gate:
                self._keys_changed(self._gate.follow())
        self._carry_out()

    def _read(self, source: zmq.Socket[Any], handle: Callable[[bytes, Message, float], None]) -> None:
        now = time.monotonic()
        for _turn in range(READ_BATCH):
            try:
                if self._gate and source is self._links:
                    received = self._gate.receive(source, now)
                    if received is None:
                        continue
                    key, *frames = received
                else:
                    key, *frames = source.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            for message in self._messages(source, key, frames, now):
                handle(key, message, now)

    def _messages(self, source: zmq.Socket[Any], key: bytes, frames: list[bytes], now: float) -> Iterator[Message]:
        """Yield the messages that came together; what is none takes no other with it."""
        try:
            together = unbundled(frames)
        except ProtocolError as error:
            self._core.refused(self._name_of(source, key), str(error), now)
            return
        for each in together:
            try:
                yield decode(each)
            except ProtocolError as error:
                self._core.refused(self._name_of(source, key), str(error), now)

    def _name_of(self, source: zmq.Socket[Any], key: bytes) -> str:
        kind = "a service" if source is self._clients else "another host"
        return f"{kind} (connection {key.hex()})"

    def _from_client(self, key: bytes, message: Message, now: float) -> None:
        self._core.from_client(key, message, now)

    def _from_link(self, key: bytes, message: Message, now: float) -> None:
        if self._gate and isinstance(message, Hello) and not self._gate.speaks_for(key, message.host, now):
            return
        self._core.from_link(key, message, now)

    def _from_peer(self, key: bytes, message: Message, now: float) -> None:
        host = self._hosts.get(key)
        if host is not None:
            self._core.from_peer(host, message, now)

    # --- effects -----------------------------------------------------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        while effects := self._core.take_effects(time.monotonic()):
            self._do(effects)

    def _do(self, effects: list[Effect]) -> None:
        """Carry out the effects; what goes to the same place goes together."""
        to_clients: dict[bytes, list[list[bytes]]] = defaultdict(list)
        to_links: dict[bytes, list[list[bytes]]] = defaultdict(list)
        to_peers: dict[str, list[list[bytes]]] = defaultdict(list)
        for effect in effects:
            if isinstance(effect, ToClient):
                to_clients[effect.client].append(encode(effect.message))
            elif isinstance(effect, ToPeer):
                to_peers[effect.host].append(encode(effect.message))
            elif isinstance(effect, ToLink):
                to_links[effect.link].append(encode(effect.message))
            elif isinstance(effect, Dial):
                self._names.start(effect.host)
            elif isinstance(effect, HangUp):
                self._send_to_peer(effect.host, to_peers.pop(effect.host, []))
                self._hang_up(effect.host)
            else:
                LOG.log(effect.level, "%s", effect.text)
        for client, messages in to_clients.items():
            self._send_to_client(client, messages)
        for link, messages in to_links.items():
            self._send_to_link(link, messages)
        for host, messages in to_peers.items():
            self._send_to_peer(host, messages)

    def _send_to_client(self, client: bytes, messages: list[list[bytes]]) -> None:
        if not _send(self._clients, client, messages):
            self._core.client_gone(client, time.monotonic())

    def _send_to_link(self, link: bytes, messages: list[list[bytes]]) -> None:
        if not _send(self._links, link, messages):
            self._core.link_gone(link, time.monotonic())

    def _send_to_peer(self, host: str, messages: list[list[bytes]]) -> None:
        routing_id = self._routing_ids.get(host)
        if routing_id is not None and not _send(self._peers, routing_id, messages):
            self._core.peer_lost(host, "the connection broke", time.monotonic())

    def _name_answered(self, host: str, address: str | None, fault: str) -> None:
        self._answers.append((host, address, fault))
        self._wake()

    def _matchmaker_changed(self) -> None:
        """Called by the MatchMaker's own threads."""
        self._matchmaker_has_news = True
        self._wake()

    def _wake(self) -> None:
        """Make the loop turn; called from other threads."""
        with contextlib.suppress(OSError):  # it is full, and wakes us anyway; or closed, and we are leaving
            self._wake_write.send(b"\0")

    def _dial(self, host: str, address: str) -> None:
        place = endpoint(address, self._port)
        now = time.monotonic()
        other = self._peer_hosts.get(place)
        if other is not None:
            self._core.same_place(host, other, address, now)
            return
        fault = self._gate.prepare_dial(self._peers, host) if self._gate else ""
        if fault:
            self._core.peer_lost(host, fault, now)
            return
        self._dials += 1
        routing_id = f"{self._dials}:{host}".encode()[:255]
        self._peers.setsockopt(zmq.CONNECT_ROUTING_ID, routing_id)
        try:
            self._peers.connect(place)
        except zmq.ZMQError as error:
            self._core.peer_lost(host, f"can't connect to {place}: {error.strerror}", now)
            return
        self._routing_ids[host] = routing_id
        self._hosts[routing_id] = host
        self._endpoints[host] = place
        self._peer_hosts[place] = host

    def _hang_up(self, host: str) -> None:
        routing_id = self._routing_ids.pop(host, None)
        if routing_id is None:
            return
        place = self._endpoints.pop(host)
        del self._hosts[routing_id]
        del self._peer_hosts[place]
        with contextlib.suppress(zmq.ZMQError):
            self._peers.disconnect(place)

    def _handle_connections(self) -> None:
        while self._peers_monitor.poll(0):
            event = monitor.parse_monitor_message(self._peers_monitor.recv_multipart())
            place = event["endpoint"].decode()
            host = self._peer_hosts.get(place)
            if host is None:
                continue
            now = time.monotonic()
            if event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._core.peer_connected(host, place.removeprefix("tcp://"), now)
            elif event["event"] == zmq.EVENT_CLOSED:
                self._core.peer_lost(host, f"nothing listens at {place.removeprefix('tcp://')}", now)
            elif event["event"] == zmq.EVENT_DISCONNECTED:
                self._core.peer_lost(host, "the connection broke", now)
            elif self._gate:
                self._core.peer_lost(host, self._gate.why_failed(host, event["event"], event["value"]), now)
            else:
                self._core.peer_lost(host, "whatever listens there does not speak ZeroMQ, or refuses us", now)

    # --- signals and the ring ------------------------------------------------------------------------------------------------------------------

    def _handle_wakeups(self) -> None:
        try:
            signals = self._wake_read.recv(4096)
        except BlockingIOError:
            return
        while self._answers:
            host, address, fault = self._answers.popleft()
            if address is None:
                self._core.peer_lost(host, fault, time.monotonic())
            else:
                self._dial(host, address)
        self._figures.answer(self._core.figures)
        if self._matchmaker_has_news:
            self._matchmaker_has_news = False
            self._core.matchmaker_changed(time.monotonic())
        if signal.SIGHUP in signals:
            self._handle_sighup()
        if (signal.SIGTERM in signals or signal.SIGINT in signals) and self._stop_by is None:
            LOG.info("asked to stop: returning what no consumer has, then leaving")
            self._notifier.notify("STOPPING=1")
            self._stop_by = time.monotonic() + DRAIN_SECONDS
            self._core.drain(time.monotonic())

    def _close_matchmaker(self) -> None:
        self._core.matchmaker.close()

    def _handle_sighup(self) -> None:
        if self._core.matchmaker.follows:
            LOG.info("SIGHUP: %s follows its source by itself, there is nothing to read anew", self._core.matchmaker)
        else:
            LOG.info("SIGHUP: reading the ring anew")
            self._new_matchmaker()
        if self._gate:
            LOG.info("SIGHUP: reading the public keys anew")
            self._keys_changed(self._gate.reload())

    def _follow_ring_file(self) -> None:
        path = self._core.matchmaker.watched_file
        seen = _file_signature(path)
        if seen != self._file_seen:
            LOG.info("%s has changed: reading it", path)
            self._new_matchmaker()

    def _new_matchmaker(self) -> None:
        self._file_seen = _file_signature(self._core.matchmaker.watched_file)
        try:
            matchmaker = make_matchmaker(self._conf, self._worker)
        except ValueError as error:
            LOG.error("%s; the ring that was read before stays in use", error)  # noqa: TRY400 - the operator's fault has no traceback
            self._core.matchmaker_failed(str(error))
            return
        self._core.matchmaker.close()
        self._core.replace_matchmaker(matchmaker, time.monotonic())
        matchmaker.follow(self._matchmaker_changed)
        LOG.info("%s: %d hosts", matchmaker, len(matchmaker.hosts()))

    # --- keys ----------------------------------------------------------------------------------------------------------------------------------

    def _connection_refused(self) -> None:
        self._core.counters["refused_connections"] += 1

    def _keys_changed(self, changes: KeyChanges | None) -> None:
        if changes is None or self._gate is None:
            return
        self._core.curve = self._gate.status()
        now = time.monotonic()
        for link in changes.cut_links:
            _send(self._links, link, [encode(Bye())])
            self._core.link_gone(link, now)
        for host in changes.redial:
            self._core.peer_lost(host, "its public key was replaced", now)
        for host in changes.hosts:
            self._core.dial_soon(host, now)


def _send(router: zmq.Socket[Any], key: bytes, messages: list[list[bytes]]) -> bool:
    """Send to the connection `key`; return whether it is there."""
    try:
        for frames in bundled(messages):
            router.send_multipart([key, *frames], zmq.NOBLOCK)
    except zmq.ZMQError as error:
        if error.errno in (errno.EHOSTUNREACH, errno.EAGAIN):
            return False
        raise
    return True


def _bind(router: zmq.Socket[Any], place: str) -> None:
    try:
        router.bind(place)
    except zmq.ZMQError as error:
        if error.errno == errno.EADDRINUSE:
            raise BindError(f"{place} is in use: is another receiver running on this host?") from error
        raise BindError(f"can't listen on {place}: {error.strerror}") from error


def _lock_socket(path: Path, closing: contextlib.ExitStack) -> None:
    """Let no second receiver take over the UNIX socket, which libzmq would do without a word."""
    lock_path = path.with_suffix(".lock")
    try:
        lock = closing.enter_context(lock_path.open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise IpcError(f"another receiver uses rpc_zmq_ipc_dir {path.parent}") from error
    except OSError as error:
        raise IpcError(f"rpc_zmq_ipc_dir {path.parent}: can't make {lock_path.name}: {error.strerror}") from error


def _file_signature(path: str) -> tuple[int, int, int] | None:
    if not path:
        return None
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _noted_by_the_wakeup_fd(_number: int, _frame: object) -> None:
    """Python writes the signal's number into the wake-up socket, where the loop finds it."""
