# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Many hosts in one process: the real cores of receivers and drivers, and in place of sockets and clocks queues and a number.

Every message is written into frames and read again on its way. Nothing happens by itself: `run` carries messages until all is quiet, `advance`
lets time pass.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from brokerless.rpc.driver import effects as driver_effects
from brokerless.rpc.driver.session import Identity, Session
from brokerless.rpc.envelope import Envelope, Pattern
from brokerless.rpc.matchmaker.base import MatchMaker, Route, Settings
from brokerless.rpc.protocol import Message, decode, encode
from brokerless.rpc.receiver.core import CoreSettings, ReceiverCore
from brokerless.rpc.receiver.effects import Dial, Effect, HangUp, Say, ToClient, ToLink, ToPeer
from brokerless.rpc.topics import Address, parse_topic

STEP = 0.05


class Ring(MatchMaker):
    """A fanout ring that needs no file; with a broker, fanouts go through it."""

    name = "fanout-ring"

    def __init__(self, settings: Settings, topics: Mapping[str, Sequence[str]], fanout_broker: str = "") -> None:
        super().__init__(settings)
        self.topics = {topic: tuple(hosts) for topic, hosts in topics.items()}
        self.fanout_broker = fanout_broker

    def hosts(self) -> frozenset[str]:
        return frozenset(host for hosts in self.topics.values() for host in hosts)

    def route_bare(self, address: Address) -> Route:
        hosts = self.topics.get(address.topic, ())
        return Route(hosts, problem="" if hosts else f"{self} has no host for topic {address.topic!r}")

    def route_fanout(self, address: Address) -> Route:
        route = self.route_bare(address)
        return Route(route.hosts, self.fanout_broker, route.problem)


@dataclass
class Request:
    """A message that a service's consumer was given."""

    number: int
    body: bytes
    envelope: Envelope
    deadline: float


@dataclass
class Service:
    """A process that sends and consumes. `takes` says whether it reads what its receiver sends, `works` whether it finishes what it takes."""

    world: World
    host: str
    name: str
    session: Session
    key: bytes = b""
    takes: bool = True
    works: bool = True
    alive: bool = True
    inbox: deque[Callable[[], None]] = field(default_factory=deque)
    requests: list[Request] = field(default_factory=list)
    worked: int = 0
    answers: dict[int, bytes] = field(default_factory=dict)
    settled: dict[int, str] = field(default_factory=dict)
    notes: dict[int, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def cast(self, topic: str, body: bytes, ttl: float = 30.0) -> int:
        """Send a cast; return its number."""
        return self._submit(parse_topic(topic), body, Pattern.CAST, ttl)

    def call(self, topic: str, body: bytes, timeout: float = 30.0) -> int:
        """Send a call; return its number."""
        return self._submit(parse_topic(topic), body, Pattern.CALL, timeout)

    def _submit(self, address: Address, body: bytes, pattern: Pattern, ttl: float) -> int:
        number = self.session.submit(address, body, pattern, self.world.now + ttl, self.world.now)
        self.world.collect_service(self)
        return number

    def reply(self, request: Request, body: bytes) -> None:
        """Answer a call."""
        address = Address("zmq_replies", server=request.envelope.id.origin)
        self.session.submit(address, body, Pattern.REPLY, request.deadline, self.world.now, request.envelope)
        self.world.collect_service(self)

    def finish(self, count: int) -> None:
        """Work off `count` requests."""
        self.worked += count
        self.session.worked_off(count, self.world.now)
        self.world.collect_service(self)

    def bodies(self) -> list[bytes]:
        """Return what the consumer was given, in order."""
        return [request.body for request in self.requests]

    def read_inbox(self) -> None:
        """Take what has come while the service took nothing, be it messages or the end of a connection."""
        self.takes = True
        while self.inbox:
            self.inbox.popleft()()


class World:
    """All hosts, and the network between them."""

    def __init__(self, topics: Mapping[str, Sequence[str]], hosts: Sequence[str] = (), backlog: int = 4096, fanout_broker: str = "") -> None:
        self.now = 1000.0
        self.topics = topics
        self.backlog = backlog
        self.fanout_broker = fanout_broker
        self.cores: dict[str, ReceiverCore] = {}
        self.services: list[Service] = []
        self.cut: set[frozenset[str]] = set()
        self.log: list[str] = []
        self.unresolvable: set[str] = set()
        self._names = itertools.count(1)
        self._under_way: deque[Callable[[], None]] = deque()
        self._links: dict[tuple[str, str], bytes] = {}
        for host in hosts or sorted({host for hosts in topics.values() for host in hosts}):
            self.start_receiver(host)
        self.run()

    # --- receivers and services ----------------------------------------------------------------------------------------------------------------

    def matchmaker(self, host: str) -> Ring:
        """Return the ring as `host` has it now."""
        return Ring(Settings(host), self.topics, self.fanout_broker)

    def start_receiver(self, host: str) -> ReceiverCore:
        """Start a receiver; services of its host connect to it."""
        settings = CoreSettings(host, f"{next(self._names):016x}", backlog=self.backlog)
        core = self.cores[host] = ReceiverCore(settings, self.matchmaker(host), self.now)
        for service in self.services:
            if service.host == host and service.alive:
                self._to_process(service, lambda service=service: self._connect(service))  # type: ignore[misc]
        self.collect(host)
        return core

    def kill_receiver(self, host: str) -> None:
        """Let a receiver vanish as SIGKILL does; what it had in memory is lost."""
        del self.cores[host]
        for service in self.services:
            if service.host == host and service.alive:
                self._to_process(service, lambda service=service: self._disconnected(service))  # type: ignore[misc]
        for source, target in list(self._links):
            if host in (source, target):
                del self._links[(source, target)]
                if source != host:
                    self._event(source, lambda core: core.peer_lost(host, "the connection broke", self.now))

    def start_service(self, host: str, topics: Sequence[str] = (), name: str = "service", window: int = 64) -> Service:
        """Start a process that consumes `topics`."""
        origin = f"{next(self._names):016x}"
        session = Session(Identity(host, origin, name, 1, window), self.now)
        service = Service(self, host, name, session)
        self.services.append(service)
        session.consume([parse_topic(topic) for topic in topics])
        if host in self.cores:
            self._connect(service)
        self.run()
        return service

    def kill_service(self, service: Service) -> None:
        """Let a process vanish as SIGKILL does."""
        service.alive = False
        self.services.remove(service)
        key = service.key
        self._event(service.host, lambda core: core.client_gone(key, self.now))

    def _to_process(self, service: Service, event: Callable[[], None]) -> None:
        """Let a process see an event, as soon as it takes anything: what came before a connection's end is read before it."""
        if service.takes:
            event()
        else:
            service.inbox.append(event)

    def _disconnected(self, service: Service) -> None:
        service.key = b""
        service.session.disconnected("the connection broke")
        self.collect_service(service)

    def _connect(self, service: Service) -> None:
        if service.host not in self.cores:
            return
        service.key = f"{next(self._names):05d}".encode()
        service.session.connected(self.now)
        self.collect_service(service)

    # --- the network ---------------------------------------------------------------------------------------------------------------------------

    def cut_link(self, first: str, second: str) -> None:
        """Break all connections between two hosts, and let no new ones be made; what is under way is lost."""
        self.cut.add(frozenset((first, second)))
        for source, target in ((first, second), (second, first)):
            if self._links.pop((source, target), None) is not None:
                self._event(source, lambda core, target=target: core.peer_lost(target, "the connection broke", self.now))  # type: ignore[misc]

    def mend_link(self, first: str, second: str) -> None:
        """Let connections between two hosts be made again."""
        self.cut.discard(frozenset((first, second)))

    def run(self) -> None:
        """Carry messages until none is under way. Time stands still."""
        while self._under_way:
            self._under_way.popleft()()

    def under_way(self) -> int:
        """Return how many messages and other effects are under way."""
        return len(self._under_way)

    def carry_one(self) -> None:
        """Carry the message that has been under way longest."""
        self._under_way.popleft()()

    def advance(self, seconds: float) -> None:
        """Let time pass, in small steps."""
        end = self.now + seconds
        while self.now < end:
            self.now += STEP
            for host in list(self.cores):
                self._event(host, lambda core: core.tick(self.now))
            for service in list(self.services):
                service.session.tick(self.now)
                self.collect_service(service)
            self.run()

    def _event(self, host: str, event: Callable[[ReceiverCore], None]) -> None:
        core = self.cores.get(host)
        if core is not None:
            event(core)
            self.collect(host)

    def collect(self, host: str) -> None:
        """Let what a receiver wants done get under way."""
        core = self.cores[host]
        for effect in core.take_effects(self.now + 1.0):
            self._under_way.append(lambda effect=effect: self._carry(host, core, effect))  # type: ignore[misc]

    def _carry(self, host: str, core: ReceiverCore, effect: Effect) -> None:
        if self.cores.get(host) is not core:
            return
        if isinstance(effect, ToClient):
            service = next((service for service in self.services if service.key == effect.client and service.host == host), None)
            if service is None:
                self._event(host, lambda core: core.client_gone(effect.client, self.now))
            else:
                self.to_service(service, effect.client, _travelled(effect.message))
        elif isinstance(effect, ToPeer):
            link = self._links.get((host, effect.host))
            if link is not None:
                message = _travelled(effect.message)
                self._event(effect.host, lambda core: core.from_link(link, message, self.now))
        elif isinstance(effect, ToLink):
            source = next((source for (source, target), link in self._links.items() if link == effect.link and target == host), None)
            if source is None:
                self._event(host, lambda core: core.link_gone(effect.link, self.now))
            else:
                message = _travelled(effect.message)
                self._event(source, lambda core: core.from_peer(host, message, self.now))
        elif isinstance(effect, Dial):
            self._dial(host, effect.host)
        elif isinstance(effect, HangUp):
            self._links.pop((host, effect.host), None)
        elif isinstance(effect, Say):
            self.log.append(f"{host}: {effect.text}")

    def _dial(self, source: str, target: str) -> None:
        if target in self.unresolvable:
            self._event(source, lambda core: core.peer_lost(target, "its name can't be resolved", self.now))
        elif target not in self.cores or frozenset((source, target)) in self.cut:
            self._event(source, lambda core: core.peer_lost(target, "nothing listens", self.now))
        else:
            self._links[(source, target)] = f"{next(self._names):05d}".encode()
            self._event(source, lambda core: core.peer_connected(target, "address", self.now))

    # --- services' side ------------------------------------------------------------------------------------------------------------------------

    def to_service(self, service: Service, key: bytes, message: Message) -> None:
        """Give a service what its receiver sent, or keep it while the service takes nothing."""
        self._to_process(service, lambda: self._heard(service, key, message))

    def _heard(self, service: Service, key: bytes, message: Message) -> None:
        if key == service.key:
            service.session.receive(message, self.now)
            self.collect_service(service)

    def collect_service(self, service: Service) -> None:
        """Let what a service wants done get under way."""
        for effect in service.session.take_effects(self.now + 1.0):
            if isinstance(effect, driver_effects.Transmit):
                message, key = _travelled(effect.message), service.key
                if key:
                    self._under_way.append(lambda message=message, key=key: self._from_service(service, key, message))  # type: ignore[misc]
            elif isinstance(effect, driver_effects.HandOver):
                envelope = effect.parcel.envelope
                service.requests.append(Request(envelope.id.number, effect.parcel.body, envelope, effect.deadline))
                if service.works:
                    service.finish(1)
            elif isinstance(effect, driver_effects.Answer):
                service.answers[effect.number] = effect.body
            elif isinstance(effect, driver_effects.Settled):
                service.settled[effect.number] = effect.failure
            elif isinstance(effect, driver_effects.Note):
                service.notes[effect.number] = effect.text
            elif isinstance(effect, driver_effects.Say):
                service.log.append(effect.text)

    def _from_service(self, service: Service, key: bytes, message: Message) -> None:
        if service.key == key:
            self._event(service.host, lambda core: core.from_client(key, message, self.now))


def _travelled(message: Message) -> Message:
    return decode(encode(message))
