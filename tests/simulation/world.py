# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Many hosts in one process: the real cores of receivers and drivers, and in place of sockets, threads and clocks a queue of events.

An event is what happens to one core at one moment: a message arrives, a connection is made or breaks, time has passed. Connections behave as
ZeroMQ's over TCP and UNIX sockets do: what goes one way on one connection arrives in order, different connections know nothing of each other;
when one breaks, some of what was under way still arrives, perhaps after the next connection was made. Without a source of chance nothing takes
time, and `run`, `carry_one` and `advance` let a test go step by step.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from brokerless.rpc.driver import effects as driver_effects
from brokerless.rpc.driver.session import Identity, Session
from brokerless.rpc.envelope import Envelope, MessageId, Pattern
from brokerless.rpc.matchmaker.base import MatchMaker, Route, Settings
from brokerless.rpc.matchmaker.broker import MatchMakerBroker, MatchMakerTopicScheduler
from brokerless.rpc.matchmaker.localhost import MatchMakerLocalhost
from brokerless.rpc.matchmaker.mesh import MatchMakerMesh
from brokerless.rpc.matchmaker.stub import MatchMakerStub
from brokerless.rpc.protocol import Assigned, Message, Parcel, decode, encode
from brokerless.rpc.receiver.core import CoreSettings, ReceiverCore
from brokerless.rpc.receiver.effects import Dial, Effect, HangUp, Say, ToClient, ToLink, ToPeer
from brokerless.rpc.topics import Address, parse_topic

SILENT_BEATS = 3
"""After so many heartbeats of silence ZeroMQ gives a connection up."""
TICK = 1e-6
"""Seconds by which a core wakes up late, so that what is due is due."""


class Ring(MatchMaker):
    """A fanout ring that needs no file; with a broker, fanouts go through it."""

    name = "fanout-ring"

    def __init__(self, settings: Settings, topics: Mapping[str, Sequence[str]], fanout_broker: str = "") -> None:
        super().__init__(settings)
        self.topics = {topic: tuple(hosts) for topic, hosts in topics.items()}
        self.fanout_broker = fanout_broker
        self._hosts_of: tuple[object, frozenset[str]] = (None, frozenset())

    def hosts(self) -> frozenset[str]:
        if self._hosts_of[0] is not self.topics:
            self._hosts_of = (self.topics, frozenset(host for hosts in self.topics.values() for host in hosts))
        return self._hosts_of[1]

    def route_bare(self, address: Address) -> Route:
        hosts = self.topics.get(address.topic, ())
        return Route(hosts, problem="" if hosts else f"{self} has no host for topic {address.topic!r}")

    def route_fanout(self, address: Address) -> Route:
        route = self.route_bare(address)
        return Route(route.hosts, self.fanout_broker, route.problem)


class Mesh(MatchMakerMesh):
    """A mesh that needs no file."""

    def __init__(self, settings: Settings, topics: Mapping[str, Sequence[str]]) -> None:
        MatchMaker.__init__(self, settings)
        self._hosts = frozenset(host for hosts in topics.values() for host in hosts)

    def hosts(self) -> frozenset[str]:
        return self._hosts


MAKE_MATCHMAKER: dict[str, Callable[[Settings, Mapping[str, Sequence[str]]], MatchMaker]] = {
    "fanout-ring": Ring,
    "ring": lambda settings, topics: Ring(settings, topics, settings.broker),
    "localhost": lambda settings, _topics: MatchMakerLocalhost(settings),
    "stub": lambda settings, _topics: MatchMakerStub(settings),
    "mesh": Mesh,
    "broker": lambda settings, _topics: MatchMakerBroker(settings),
    "scheduler": lambda settings, _topics: MatchMakerTopicScheduler(settings),
}
"""The MatchMakers that can be simulated: each is made from a host's settings and the ring as that host has it."""


@dataclass(slots=True)
class Request:
    """A message that a service's consumer was given."""

    number: int
    body: bytes
    envelope: Envelope
    deadline: float


@dataclass(slots=True, eq=False)
class Way:
    """One direction of a connection.

    `under_way` holds the numbers of what has not arrived. Once the connection is broken, `last` is the last that will.
    """

    path: tuple[str, str]
    arrive: Callable[[Message], None]
    under_way: deque[int] = field(default_factory=deque)
    arrives_at: float = 0.0
    last: int | None = None
    vanished: deque[tuple[int, Any]] = field(default_factory=deque)


@dataclass(slots=True, eq=False)
class Connection:
    """A connection that `near` (a service, or the receiver of a host) made to the receiver of the host `far`."""

    key: bytes
    near: Service | Host
    far: Host
    core: ReceiverCore
    up: Way
    down: Way
    broken: bool = False


@dataclass(slots=True, eq=False)
class Host:
    """A machine: its receiver, if it runs, and its clock. While it is `frozen` all that happens to it waits."""

    name: str
    core: ReceiverCore | None = None
    clock_ahead: float = 0.0
    frozen: bool = False
    crashed: bool = False
    waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = field(default_factory=deque)
    wakes_at: float = float("inf")
    peers: dict[str, Connection] = field(default_factory=dict)
    dialling: dict[str, object] = field(default_factory=dict)
    links: dict[bytes, Connection] = field(default_factory=dict)
    clients: dict[bytes, Connection] = field(default_factory=dict)


@dataclass(eq=False)
class Service:
    """A process that sends and consumes. `takes` says whether it reads what its receiver sends, `works` whether it finishes what it takes."""

    world: World
    machine: Host
    name: str
    session: Session
    window: int
    takes: bool = True
    works: bool = True
    alive: bool = True
    connection: Connection | None = None
    wakes_at: float = float("inf")
    inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = field(default_factory=deque)
    addresses: tuple[Address, ...] = ()
    consumes_since: float = float("inf")
    """When its receiver first confirmed that it consumes: only then does it count on being given anything."""
    requests: list[Request] = field(default_factory=list)
    worked: int = 0
    answers: dict[int, bytes] = field(default_factory=dict)
    settled: dict[int, str] = field(default_factory=dict)
    notes: dict[int, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        """The name of its host."""
        return self.machine.name

    @property
    def origin(self) -> str:
        """The name under which its messages travel."""
        return self.session._me.origin

    @property
    def now(self) -> float:
        """What the clock of its host says."""
        return self.world.now + self.machine.clock_ahead

    def cast(self, topic: str, body: bytes, ttl: float = 30.0) -> int:
        """Send a cast; return its number."""
        return self.submit(parse_topic(topic), body, Pattern.CAST, ttl)

    def call(self, topic: str, body: bytes, timeout: float = 30.0) -> int:
        """Send a call; return its number."""
        return self.submit(parse_topic(topic), body, Pattern.CALL, timeout)

    def submit(self, address: Address, body: bytes, pattern: Pattern, ttl: float) -> int:
        """Send a message; return its number."""
        number = self.session.submit(address, body, pattern, self.now + ttl, self.now)
        self.world.watcher.sent(self, number, address, pattern, ttl, None)
        self.world.collect_service(self)
        return number

    def reply(self, request: Request, body: bytes) -> int:
        """Answer a call; return the number of the answer."""
        address = Address("zmq_replies", server=request.envelope.id.origin)
        number = self.session.submit(address, body, Pattern.REPLY, request.deadline, self.now, request.envelope)
        self.world.watcher.sent(self, number, address, Pattern.REPLY, request.deadline - self.now, request.envelope.id)
        self.world.collect_service(self)
        return number

    def consume(self, topics: Sequence[str]) -> None:
        """Consume `topics` from now on."""
        self.addresses = tuple(parse_topic(topic) for topic in topics)
        self.session.consume(self.addresses)
        self.world.collect_service(self)

    def finish(self, count: int) -> None:
        """Work off `count` requests."""
        self.worked += count
        self.session.worked_off(count, self.now)
        self.world.collect_service(self)

    def bodies(self) -> list[bytes]:
        """Return what the consumer was given, in order."""
        return [request.body for request in self.requests]

    def read_inbox(self) -> None:
        """Take what has come while the service took nothing, be it messages or the end of a connection."""
        self.takes = True
        self.world.let_read(self)


class Watcher:
    """Sees what happens in a world. This one looks away."""

    def sent(self, service: Service, number: int, address: Address, pattern: Pattern, ttl: float, answers: MessageId | None) -> None:
        """A process sent a message."""

    def handed_over(self, service: Service, request: Request) -> None:
        """A consumer was given a message."""

    def answered(self, service: Service, number: int) -> None:
        """A caller got its answer."""

    def settled(self, service: Service, number: int, failure: str) -> None:
        """A process learned what became of its message."""

    curious = False
    """Whether it wants to see how messages travel."""

    def travels(self, path: tuple[str, str], what: str, message: Message) -> None:
        """A message left, or arrived, or was lost."""

    def assigned(self, host: Host, message: Assigned) -> None:
        """A receiver told a sender to which host its message goes."""

    def to_peer(self, host: Host, target: str, message: Message) -> None:
        """A receiver sent something to another host's."""

    def from_peer(self, host: Host, source: str, message: Message) -> None:
        """A receiver heard something of another host's, to which it is connected."""

    def core_changed(self, host: Host) -> None:
        """Something happened to a receiver."""

    def said(self, host: str, text: str) -> None:
        """A line was written to a log, or a fault was caused."""


class World:
    """All hosts, and the network between them."""

    def __init__(
        self,
        topics: Mapping[str, Sequence[str]],
        hosts: Sequence[str] = (),
        backlog: int = 4096,
        fanout_broker: str = "",
        *,
        chance: random.Random | None = None,
        matchmaker: str = "",
        heartbeat: float = 1.0,
        watcher: Watcher | None = None,
        written: bool = True,
    ) -> None:
        """Start a receiver on each of `hosts`, or on those of the ring `topics`.

        With `chance` everything takes a little time. `written` says whether messages are written into frames and read again on their way.
        """
        self.now = 1000.0
        self.topics = topics
        self.rings: dict[str, Mapping[str, Sequence[str]]] = {}
        """The ring of each host that has another one than `topics`."""
        self.backlog = backlog
        self.heartbeat = heartbeat
        self.broker = fanout_broker
        self.kind = matchmaker or ("ring" if fanout_broker else "fanout-ring")
        self.chance = chance
        self.watcher = watcher or Watcher()
        self.written = written
        self.hosts: dict[str, Host] = {}
        self.services: list[Service] = []
        self.log: list[str] = []
        self.refused: set[frozenset[str]] = set()
        self.vanishing: set[tuple[str, str]] = set()
        self.unresolvable: set[str] = set()
        self.delays: dict[tuple[str, str], float] = {}
        self.on_request: Callable[[Service, Request], None] | None = None
        self.events = 0
        self._names = itertools.count(1)
        self._numbers = itertools.count(1)
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        for host in hosts or sorted({host for hosts in topics.values() for host in hosts}):
            self.start_receiver(host)
        self.run()

    # --- events --------------------------------------------------------------------------------------------------------------------------------

    def at(self, when: float, event: Callable[..., None], *arguments: Any) -> None:
        """Let something happen at a time."""
        heapq.heappush(self._queue, (when, next(self._numbers), event, arguments))

    def after(self, seconds: float, event: Callable[..., None], *arguments: Any) -> None:
        """Let something happen some time from now."""
        self.at(self.now + seconds, event, *arguments)

    def run(self) -> None:
        """Let all happen that happens now. Time stands still."""
        while self.under_way():
            self.carry_one()

    def under_way(self) -> bool:
        """Whether something happens now."""
        return bool(self._queue) and self._queue[0][0] <= self.now

    def carry_one(self) -> None:
        """Let the next thing happen."""
        when, _number, event, arguments = heapq.heappop(self._queue)
        self.now = max(self.now, when)
        self.events += 1
        event(*arguments)

    def advance(self, seconds: float) -> None:
        """Let time pass, and all that happens in it."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.carry_one()
        self.now = end

    def _to_core(self, host: Host, core: ReceiverCore, event: Callable[..., None], *arguments: Any) -> None:
        """Let a receiver see an event, if it is still that one; `event` gets the time of its host last."""
        if host.core is not core:
            return
        if host.frozen:
            host.waiting.append((self._to_core, (host, core, event, *arguments)))
            return
        event(*arguments, self.now + host.clock_ahead)
        self._collect(host)

    def _to_process(self, service: Service, event: Callable[..., None], *arguments: Any) -> None:
        """Let a process see an event, as soon as it takes anything: what came before a connection's end is read before it."""
        if not service.alive:
            return
        if service.takes and not service.machine.frozen and not service.inbox:
            event(*arguments, service.now)
            self.collect_service(service)
        else:
            service.inbox.append((event, arguments))

    def let_read(self, service: Service) -> None:
        """Let a process see all that has waited for it."""
        while service.inbox and service.alive and service.takes and not service.machine.frozen:
            event, arguments = service.inbox.popleft()
            event(*arguments, service.now)
            self.collect_service(service)

    # --- receivers and services ----------------------------------------------------------------------------------------------------------------

    @property
    def cores(self) -> dict[str, ReceiverCore]:
        """The receivers that run, by host."""
        return {name: host.core for name, host in self.hosts.items() if host.core is not None}

    def matchmaker(self, host: str) -> MatchMaker:
        """Return the MatchMaker of `host`, made from the ring as it has it now."""
        return MAKE_MATCHMAKER[self.kind](Settings(host, broker=self.broker), self.rings.get(host, self.topics))

    def start_receiver(self, name: str) -> ReceiverCore:
        """Start a receiver; services of its host connect to it."""
        host = self.hosts.setdefault(name, Host(name))
        host.crashed = False
        settings = CoreSettings(name, f"{next(self._names):016x}", backlog=self.backlog, heartbeat=self.heartbeat)
        core = host.core = ReceiverCore(settings, self.matchmaker(name), self.now + host.clock_ahead)
        host.wakes_at = float("inf")
        for service in self.services:
            if service.machine is host and service.alive:
                self.after(self._little(0.3), self._to_process, service, self._connect, service)
        self._collect(host)
        return core

    def kill_receiver(self, name: str, *, heard: bool = True) -> None:
        """Let a receiver vanish as SIGKILL does; what it had in memory is lost. Without `heard` the machine went with it, and no one is told.

        What it had said to services leaves before what it said to other hosts: their sockets are written in the order in which they were sent to.
        """
        host = self.hosts[name]
        host.core = None
        host.waiting.clear()
        to_services = [connection.down for connection in host.clients.values()]
        to_others = [connection.up for connection in host.peers.values()] + [connection.down for connection in host.links.values()]
        said = sorted(number for way in to_services + to_others for number in way.under_way)
        last = self.chance.choice([0, *said]) if self.chance else 0
        last_abroad = min(last, self.chance.choice([0, *said])) if self.chance else 0
        for connection in list(host.clients.values()):
            self._break(connection, up_to=0, down_to=last)
        for target, connection in list(host.peers.items()):
            self._break(connection, up_to=last_abroad, down_to=0)
            self.hosts[target].links.pop(connection.key, None) if heard else None
        for connection in list(host.links.values()):
            self._break(connection, up_to=0, down_to=last_abroad, heard=heard)
        host.peers.clear()
        host.dialling.clear()
        host.links.clear()
        host.clients.clear()

    def stop_receiver(self, name: str, give_up_after: float = 5.0) -> None:
        """Let a receiver drain and end as SIGTERM does."""
        host = self.hosts[name]
        if host.core is None:
            return
        self._to_core(host, host.core, host.core.drain)
        self._see_off(host, host.core, self.now + give_up_after)

    def _see_off(self, host: Host, core: ReceiverCore, give_up_at: float) -> None:
        if host.core is not core:
            return
        if host.frozen or not (core.drained or self.now >= give_up_at):
            self.after(0.05, self._see_off, host, core, give_up_at)
            return
        core.farewell(self.now + host.clock_ahead)
        self._collect(host)
        host.core = None
        for connection in [*host.clients.values(), *host.peers.values(), *host.links.values()]:
            # What it had said still goes out; what it had not read is lost.
            said, unread = (connection.up, connection.down) if connection.near is host else (connection.down, connection.up)
            last = said.under_way[-1] if said.under_way else 0
            self._break(connection, up_to=0 if unread is connection.up else last, down_to=0 if unread is connection.down else last)
        host.peers.clear()
        host.dialling.clear()
        host.links.clear()
        host.clients.clear()

    def start_service(self, on: str, topics: Sequence[str] = (), name: str = "service", window: int = 64) -> Service:
        """Start a process on the host `on` that consumes `topics`."""
        host = self.hosts[on]
        origin = f"{next(self._names):016x}"
        session = Session(Identity(on, origin, name, 1, window, self.heartbeat), self.now + host.clock_ahead)
        service = Service(self, host, name, session, window)
        self.services.append(service)
        service.addresses = tuple(parse_topic(topic) for topic in topics)
        session.consume(service.addresses)
        self._to_process(service, self._connect, service)
        if self.chance is None:
            self.run()
        return service

    def kill_service(self, service: Service) -> None:
        """Let a process vanish as SIGKILL does."""
        self._forget_service(service)
        if service.connection is not None:
            self._break(service.connection)
            self._client_gone(service.connection)

    def end_service(self, service: Service) -> None:
        """Let a process say goodbye and end, as it should."""
        service.session.farewell()
        self.collect_service(service)
        self._forget_service(service)
        if service.connection is not None:
            connection = service.connection
            connection.up.last = connection.up.under_way[-1] if connection.up.under_way else 0
            self._break(connection)

    def _forget_service(self, service: Service) -> None:
        service.alive = False
        self.services.remove(service)
        service.inbox.clear()

    def _client_gone(self, connection: Connection) -> None:
        host = connection.far
        if host.clients.pop(connection.key, None) is not None and host.core is not None:
            self._to_core(host, connection.core, host.core.client_gone, connection.key)

    def _connect(self, service: Service, now: float) -> None:
        host = service.machine
        if host.core is None or service.connection is not None:
            return
        key = f"{next(self._names):05d}".encode()
        path = (host.name, host.name)
        core = host.core
        up = Way(path, lambda message: self._to_core(host, core, core.from_client, key, message))
        down = Way(path, lambda message: self._to_process(service, service.session.receive, message))
        service.connection = host.clients[key] = Connection(key, service, host, core, up, down)
        service.session.connected(now)

    def _disconnected(self, service: Service, connection: Connection, now: float) -> None:
        if service.connection is not connection:
            return
        service.connection = None
        service.session.disconnected("the connection broke")
        if service.machine.core is not None:
            self.after(self._little(0.3), self._to_process, service, self._connect, service)

    def break_service(self, service: Service) -> None:
        """Break the connection of a process to its receiver."""
        if service.connection is not None:
            self._break(service.connection)

    def freeze(self, name: str) -> None:
        """Let a machine stand still, as a suspended one does."""
        self.hosts[name].frozen = True

    def thaw(self, name: str) -> None:
        """Let a machine that stood still go on."""
        host = self.hosts[name]
        host.frozen = False
        waiting, host.waiting = host.waiting, deque()
        for event, arguments in waiting:
            event(*arguments)
        for service in list(self.services):
            if service.machine is host:
                self.let_read(service)

    # --- the network ---------------------------------------------------------------------------------------------------------------------------

    def cut_link(self, first: str, second: str) -> None:
        """Break all connections between two hosts, and let no new ones be made."""
        self.refused.add(frozenset((first, second)))
        for source, target in ((first, second), (second, first)):
            self.break_link(source, target)

    def mend_link(self, first: str, second: str) -> None:
        """Let connections between two hosts be made again."""
        self.refused.discard(frozenset((first, second)))

    def break_link(self, source: str, target: str) -> None:
        """Break the connection that the receiver of `source` made to that of `target`, if there is one."""
        connection = self.hosts[source].peers.get(target)
        if connection is not None:
            self._break(connection)

    def let_vanish(self, source: str, target: str) -> None:
        """Let nothing come from `source` to `target`, and nobody be told."""
        self.vanishing.add((source, target))

    def let_through(self, source: str, target: str) -> None:
        """Let things come again; what waited on connections that are still there comes now, as TCP sends again what was lost."""
        self.vanishing.discard((source, target))
        for end in (source, target):
            for connection in [*self.hosts[end].peers.values(), *self.hosts[end].links.values()]:
                for way in (connection.up, connection.down):
                    while way.vanished and way.path not in self.vanishing:
                        number, frames = way.vanished.popleft()
                        self._arrive_now(way, number, frames)

    def give_up_silent(self, source: str, target: str) -> None:
        """Close what still hears nothing from `source` to `target`, as ZeroMQ does when no heartbeat comes."""
        if (source, target) not in self.vanishing:
            return
        for connection in list(self.hosts[target].links.values()):
            if connection.up.path == (source, target):
                del self.hosts[target].links[connection.key]
                self._break(connection)

    def step_clock(self, name: str, seconds: float) -> None:
        """Let the clock of a host jump ahead."""
        host = self.hosts[name]
        host.clock_ahead += seconds
        self._collect(host)
        for service in list(self.services):
            if service.machine is host:
                self.collect_service(service)

    def _little(self, most: float) -> float:
        return self.chance.random() * most if self.chance else 0.0

    def _send(self, way: Way, message: Message) -> None:
        if way.last is not None:
            return
        number = next(self._numbers)
        way.under_way.append(number)
        delay = self._little(0.002) + self.delays.get(way.path, 0.0) if self.chance else 0.0
        way.arrives_at = max(way.arrives_at, self.now + delay)
        if self.watcher.curious:
            self.watcher.travels(way.path, "leaves", message)
        frames: Any
        if self.written:
            frames = encode(message)
        elif isinstance(message, Parcel):
            frames = Parcel(replace(message.envelope), message.body)
        else:
            frames = message
        heapq.heappush(self._queue, (way.arrives_at, number, self._arrive, (way, number, frames)))

    def _arrive(self, way: Way, number: int, frames: Any) -> None:
        if way.vanished or (self.vanishing and way.path in self.vanishing):
            way.vanished.append((number, frames))
        else:
            self._arrive_now(way, number, frames)

    def _arrive_now(self, way: Way, number: int, frames: Any) -> None:
        way.under_way.popleft()
        if way.last is None or number <= way.last:
            message = decode(frames) if self.written else frames
            if self.watcher.curious:
                self.watcher.travels(way.path, "arrives", message)
            way.arrive(message)
        elif self.watcher.curious:
            self.watcher.travels(way.path, "is lost", decode(frames) if self.written else frames)

    def _break(self, connection: Connection, *, up_to: int | None = None, down_to: int | None = None, heard: bool = True) -> None:
        """Break a connection: of what is under way, some still arrives, in each direction up to the given number or one of chance."""
        if connection.broken:
            return
        connection.broken = True
        for way, given in ((connection.up, up_to), (connection.down, down_to)):
            last = given if given is not None else self.chance.choice([0, *way.under_way]) if self.chance else 0
            if way.last is None:
                way.last = last
        near = connection.near
        if not heard:
            return
        if isinstance(near, Service):
            when = max(self.now, connection.down.arrives_at) if connection.down.last else self.now
            self.at(when, self._to_process, near, self._disconnected, near, connection)
        elif (connection.down.path not in self.vanishing) and near.core is not None:
            self.after(self._little(0.05), self._peer_lost, near, near.core, connection)

    def _peer_lost(self, host: Host, core: ReceiverCore, connection: Connection) -> None:
        if host.peers.get(connection.far.name) is connection:
            self._to_core(host, core, core.peer_lost, connection.far.name, "the connection broke")

    def _dial(self, host: Host, core: ReceiverCore, name: str, attempt: object) -> None:
        if host.core is not core or host.dialling.get(name) is not attempt:
            return
        if host.frozen:
            host.waiting.append((self._dial, (host, core, name, attempt)))
            return
        target = self.hosts.get(name)
        if name in self.unresolvable or target is None:
            self._to_core(host, core, core.peer_lost, name, "its name can't be resolved")
        elif target.crashed or (host.name, name) in self.vanishing or (name, host.name) in self.vanishing:
            return
        elif target.core is None or frozenset((host.name, name)) in self.refused:
            self._to_core(host, core, core.peer_lost, name, "nothing listens")
        else:
            del host.dialling[name]
            self._connect_receivers(host, core, target, target.core)

    def _connect_receivers(self, near: Host, core: ReceiverCore, far: Host, far_core: ReceiverCore) -> None:
        key = f"{next(self._names):05d}".encode()
        up = Way((near.name, far.name), lambda message: self._to_core(far, far_core, far_core.from_link, key, message))
        down = Way((far.name, near.name), lambda message: self._heard_of_peer(near, core, far, connection, message))
        connection = near.peers[far.name] = far.links[key] = Connection(key, near, far, far_core, up, down)
        self._to_core(near, core, core.peer_connected, far.name, "address")

    def _heard_of_peer(self, near: Host, core: ReceiverCore, far: Host, connection: Connection, message: Message) -> None:
        if near.core is not core or near.peers.get(far.name) is not connection:
            return
        if near.frozen:
            near.waiting.append((self._heard_of_peer, (near, core, far, connection, message)))
            return
        self.watcher.from_peer(near, far.name, message)
        self._to_core(near, core, core.from_peer, far.name, message)

    def _hang_up(self, host: Host, name: str) -> None:
        host.dialling.pop(name, None)
        connection = host.peers.pop(name, None)
        if connection is not None:
            self._break(connection, down_to=0, heard=False)

    # --- what cores want done --------------------------------------------------------------------------------------------------------------------

    def collect(self, name: str) -> None:
        """Let what a receiver wants done get under way."""
        self._collect(self.hosts[name])

    def _collect(self, host: Host) -> None:
        core = host.core
        if core is None:
            return
        now = self.now + host.clock_ahead
        # Without chance nothing takes time, and what may wait to travel with more does not.
        while effects := core.take_effects(now if self.chance else now + 1.0):
            for effect in effects:
                self._carry_out(host, core, effect)
        self.watcher.core_changed(host)
        wake = max(self.now, core.next_wake() - host.clock_ahead) + TICK
        if wake < host.wakes_at:
            host.wakes_at = wake
            self.at(wake, self._wake_core, host, core, wake)

    def _wake_core(self, host: Host, core: ReceiverCore, wake: float) -> None:
        if host.core is core and host.wakes_at == wake:
            if host.frozen:
                host.waiting.append((self._wake_core, (host, core, wake)))
                return
            host.wakes_at = float("inf")
            self._to_core(host, core, core.tick)

    def _carry_out(self, host: Host, core: ReceiverCore, effect: Effect) -> None:
        if isinstance(effect, ToPeer):
            self.watcher.to_peer(host, effect.host, effect.message)
            connection = host.peers.get(effect.host)
            if connection is not None:
                self._send(connection.up, effect.message)
        elif isinstance(effect, ToLink):
            connection = host.links.get(effect.link)
            if connection is None or (connection.broken and connection.up.path not in self.vanishing):
                host.links.pop(effect.link, None)
                core.link_gone(effect.link, self.now + host.clock_ahead)
            else:
                self._send(connection.down, effect.message)
        elif isinstance(effect, ToClient):
            connection = host.clients.get(effect.client)
            if connection is None or connection.broken:
                host.clients.pop(effect.client, None)
                core.client_gone(effect.client, self.now + host.clock_ahead)
            else:
                if isinstance(effect.message, Assigned):
                    self.watcher.assigned(host, effect.message)
                self._send(connection.down, effect.message)
        elif isinstance(effect, Dial):
            attempt = host.dialling[effect.host] = object()
            self.after(self._little(0.02), self._dial, host, core, effect.host, attempt)
        elif isinstance(effect, HangUp):
            self._hang_up(host, effect.host)
        elif isinstance(effect, Say):
            self.watcher.said(host.name, effect.text)
            if self.chance is None:
                self.log.append(f"{host.name}: {effect.text}")

    def collect_service(self, service: Service) -> None:
        """Let what a service wants done get under way."""
        now = service.now
        while effects := service.session.take_effects(now if self.chance else now + 1.0):
            for effect in effects:
                self._carry_out_of(service, effect)
        wake = max(self.now, service.session.next_wake() - service.machine.clock_ahead) + TICK
        if wake < service.wakes_at:
            service.wakes_at = wake
            self.at(wake, self._wake_service, service, wake)

    def _wake_service(self, service: Service, wake: float) -> None:
        if service.alive and service.wakes_at == wake:
            service.wakes_at = float("inf")
            self._to_process(service, service.session.tick)

    def _carry_out_of(self, service: Service, effect: driver_effects.Effect) -> None:
        if isinstance(effect, driver_effects.Transmit):
            if service.connection is not None:
                self._send(service.connection.up, effect.message)
        elif isinstance(effect, driver_effects.ConsumptionKnown):
            service.consumes_since = min(service.consumes_since, self.now)
        elif isinstance(effect, driver_effects.HandOver):
            envelope = effect.parcel.envelope
            request = Request(envelope.id.number, effect.parcel.body, envelope, effect.deadline)
            service.requests.append(request)
            self.watcher.handed_over(service, request)
            if self.on_request is not None:
                self.on_request(service, request)
            elif service.works:
                service.finish(1)
        elif isinstance(effect, driver_effects.Answer):
            service.answers[effect.number] = effect.body
            self.watcher.answered(service, effect.number)
        elif isinstance(effect, driver_effects.Settled):
            service.settled[effect.number] = effect.failure
            self.watcher.settled(service, effect.number, effect.failure)
        elif isinstance(effect, driver_effects.Note):
            service.notes[effect.number] = effect.text
        elif isinstance(effect, driver_effects.Say):
            self.watcher.said(f"{service.host} ({service.name})", effect.text)
            if self.chance is None:
                service.log.append(effect.text)
