# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What is promised, compared with what happens: a ledger of all that was sent and handed over in a simulated world.

What can be seen to be broken at once is checked at once, after each event; whether anything was lost can be said only when all has come to its
end.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from brokerless.rpc import protocol
from brokerless.rpc.envelope import Envelope, MessageId, Pattern
from brokerless.rpc.protocol import Accepted, Announce, Assigned, Message, Parcel, Returned, Welcome
from brokerless.rpc.receiver.core import PeerState, ReceiverCore
from brokerless.rpc.receiver.forwarding import NO_CONSUMER_SECONDS
from brokerless.rpc.topics import Address
from world import Host, Request, Service, Watcher, World

NEVER_TWICE = "never twice"
NEVER_SILENTLY_LOST = "never silently lost"
IN_ORDER = "in order"
ALIVE_FIRST = "alive first"
BOUNDED = "bounded"
NO_LEAK = "nothing is kept of what is over"
ANSWERED = "a call gets its answer, or a reason"

NO_CRASH = "no event crashes a core"

MARGIN = 15.0
"""Seconds that are enough for everything to come to its end once nothing is broken any more."""


class PromiseBroken(AssertionError):
    """A promise was broken; `messages` are those that show how."""

    def __init__(self, promise: str, text: str, messages: Iterable[MessageId] = ()) -> None:
        super().__init__(promise, text)
        self.promise = promise
        self.text = text
        self.messages = tuple(messages)

    def __str__(self) -> str:
        return f"{self.promise}: {self.text}"


@dataclass(slots=True, eq=False)
class Sent:
    """A message that was sent, and all that became of it."""

    id: MessageId
    sender: Service
    address: Address
    pattern: Pattern
    at: float
    deadline: float
    answers: MessageId | None
    takers: list[Service] = field(default_factory=list)
    settled_at: float | None = None
    failure: str = ""
    excused: str = ""
    answer_at: float | None = None
    given_up: str | None = None

    def __str__(self) -> str:
        return f"{self.pattern.name.lower()} {self.id} for {self.address} from {self.sender.host}"


class Ledger(Watcher):
    """Writes down what is sent and handed over, and objects when a promise is broken."""

    def __init__(self, *, curious: bool = False) -> None:
        self.curious = curious
        self.world: World
        self.sent_messages: dict[MessageId, Sent] = {}
        self.open: dict[MessageId, Sent] = {}
        self.outcomes: Counter[str] = Counter()
        self.trace: deque[tuple[float, frozenset[MessageId], str]] = deque(maxlen=400_000)
        self.most_sent = 0
        """How many messages the processes of one host can have under way: the limit of what its receiver keeps."""
        self._last_number: dict[tuple[str, Address, str], int] = {}
        self._without: dict[tuple[str, str, Address], float] = {}
        self._took_from: dict[Service, ReceiverCore | None] = {}
        self._checked_at: dict[str, float] = {}
        self._drops: dict[ReceiverCore, int] = {}
        self.dropped: dict[str, list[float]] = {}
        """When a host dropped copies of fanouts, since a process was too slow."""

    # --- what is seen ----------------------------------------------------------------------------------------------------------------------

    def _note(self, text: str, *messages: MessageId) -> None:
        if self.curious:
            self.trace.append((self.world.now, frozenset(messages), text))

    def sent(self, service: Service, number: int, address: Address, pattern: Pattern, ttl: float, answers: MessageId | None) -> None:
        message = MessageId(service.origin, number)
        sent = Sent(message, service, address, pattern, self.world.now, self.world.now + ttl, answers, excused=self.unsure)
        self.sent_messages[message] = self.open[message] = sent
        self._note(f"{service.host}: process {service.origin[-4:]} sends {sent}, {ttl:.1f} s", message)

    def handed_over(self, service: Service, request: Request) -> None:
        envelope = request.envelope
        self._note(f"{service.host}: process {service.origin[-4:]} is HANDED {envelope}", envelope.id)
        # A notification that a receiver kept travels on under a new name; what is in it is the old one.
        sent = self.sent_messages.get(envelope.id) or self.sent_messages[read_id(request.body)]
        # Who died together with its receiver took along what it had taken; nobody is left to know.
        sent.takers = [taker for taker in sent.takers if taker.alive or taker.machine.core is self._took_from[taker]]
        self._took_from[service] = service.machine.core
        if sent.takers and (not envelope.address.fanout or service in sent.takers):
            takers = ", ".join(f"{taker.host} (process {taker.origin[-4:]})" for taker in [*sent.takers, service])
            raise PromiseBroken(NEVER_TWICE, f"{sent} was handed over to {takers}", [sent.id, envelope.id])
        sent.takers.append(service)
        if envelope.address.server:
            self._check_order(service, envelope)
        if len(service.requests) - service.worked > service.window:
            raise PromiseBroken(BOUNDED, f"a process on {service.host} that takes {service.window} has {len(service.requests) - service.worked}")

    def _check_order(self, service: Service, envelope: Envelope) -> None:
        way = (envelope.id.origin, envelope.address, service.origin)
        before = self._last_number.get(way, 0)
        if before > envelope.id.number:
            messages = [MessageId(envelope.id.origin, before), envelope.id]
            raise PromiseBroken(IN_ORDER, f"{service.host} was handed {messages[0]} before {messages[1]}", messages)
        self._last_number[way] = envelope.id.number

    def answered(self, service: Service, number: int) -> None:
        sent = self.sent_messages[MessageId(service.origin, number)]
        self._note(f"{service.host}: {sent} is answered", sent.id)
        if sent.answer_at is not None:
            raise PromiseBroken(NEVER_TWICE, f"{sent} was answered twice", [sent.id])
        sent.answer_at = self.world.now

    def given_up(self, service: Service, number: int, reason: str) -> None:
        """A caller's time is over."""
        sent = self.sent_messages[MessageId(service.origin, number)]
        self._note(f"{service.host}: the caller of {sent} waits no more: {reason}", sent.id)
        sent.given_up = reason
        if not reason and not sent.takers:
            raise PromiseBroken(ANSWERED, f"the caller of {sent} was not told why there is no answer", [sent.id])

    def settled(self, service: Service, number: int, failure: str) -> None:
        sent = self.open.pop(MessageId(service.origin, number))
        self._note(f"{service.host}: {sent} comes to its end: {failure or 'handed over'}", sent.id)
        sent.settled_at = self.world.now
        sent.failure = failure
        # Nobody need be there for a fanout, and a notification is kept by its receiver until somebody is.
        expected = sent.pattern not in (Pattern.REPLY, Pattern.NOTIFICATION) and not sent.address.fanout
        if expected and not failure and not sent.takers:
            raise PromiseBroken(NEVER_SILENTLY_LOST, f"{sent} was not handed over, and its sender was told that it was", [sent.id])
        self.outcomes["handed over" if not failure else "failed"] += 1

    def process_ended(self, service: Service) -> None:
        """A process is no more; what it had sent is nobody's any more."""
        for message in [message for message, sent in self.open.items() if sent.sender is service]:
            del self.open[message]

    def excuse(self, why: str, addresses: Iterable[Address] | None = None) -> None:
        """Expect no success of what is under way now, for `addresses` or for all."""
        some = None if addresses is None else frozenset(addresses)
        for sent in self.open.values():
            if some is None or sent.address in some:
                sent.excused = why

    def travels(self, path: tuple[str, str], what: str, message: Message) -> None:
        messages = _ids_in(message)
        if messages:
            host = path[0] if path[0] != path[1] else "itself"
            text = f"{type(message).__name__} {getattr(message, 'reason', '')}{getattr(message, 'host', '')}"
            if isinstance(message, Parcel):
                envelope = message.envelope
                text = f"Parcel (host {envelope.host or '-'}, attempt {envelope.attempt}, after {envelope.after}, settled {envelope.settled})"
            self._note(f"{path[1]}: {text} of {', '.join(map(str, messages[:8]))} from {host} {what}", *messages)

    def said(self, host: str, text: str) -> None:
        self._note(f"{host}: says: {text}")

    # --- alive first -----------------------------------------------------------------------------------------------------------------------

    def assigned(self, host: Host, message: Assigned) -> None:
        core = host.core
        outgoing = core._forwarding._outgoing.get(message.message) if core is not None else None
        copy = outgoing.copies.get(message.host) if outgoing is not None else None
        if core is None or copy is None or copy.sent_to is not None or copy.attempt or message.host == host.name:
            return
        now = self.world.now + host.clock_ahead
        address = copy.lane.address
        route = core.matchmaker.route(address)
        if not address.bare or route.ask or core._peers[message.host].state is PeerState.UP:
            return
        better = [other for other in core._forwarding._hosts_of(address, route, now) if self._is_known_good(host, other, address, now)]
        if better:
            text = f"{host.name} assigned {message.message} for {address} to {message.host}, which is down, while {better[0]} is known good"
            raise PromiseBroken(ALIVE_FIRST, text, [message.message])

    def to_peer(self, host: Host, target: str, message: Message) -> None:
        if not isinstance(message, Parcel) or not message.envelope.address.bare or message.envelope.attempt or not message.envelope.host:
            return
        core, address = host.core, message.envelope.address
        if core is None:
            return
        now = self.world.now + host.clock_ahead
        peer = core._peers[target]
        fault = "" if peer.state is PeerState.UP else f"is {peer.state.value}"
        if now < self._without.get((core._settings.incarnation, target, address), 0.0):
            fault = "has no consumer"
        route = core.matchmaker.route(address)
        if fault and not route.ask:  # whoever asks a broker goes by what that knows
            hosts = core._forwarding._hosts_of(address, route, now)
            better = [other for other in hosts if self._is_known_good(host, other, address, now)]
            if better:
                text = f"{host.name} sent {message.envelope} to {target}, which it knows {fault}, while {better[0]} is known good"
                raise PromiseBroken(ALIVE_FIRST, text, [message.envelope.id])

    def _is_known_good(self, host: Host, other: str, address: Address, now: float) -> bool:
        core = host.core
        if core is None:
            return False
        if other == host.name:
            queue = core._delivery._queues.get((address, b""))
            return queue is not None and bool(queue.clients) and core._forwarding._obstacle(other, address, now) is None
        if now < self._without.get((core._settings.incarnation, other, address), 0.0):
            return False
        peer = core._peers.get(other)
        return peer is not None and peer.state is PeerState.UP and core._forwarding._obstacle(other, address, now) is None

    def from_peer(self, host: Host, source: str, message: Message) -> None:
        if host.core is None:
            return
        incarnation = host.core._settings.incarnation
        if isinstance(message, Returned) and message.reason == protocol.NO_CONSUMER:
            sent = self.sent_messages.get(message.message)
            if sent is None:
                return
            address = sent.address
            # Half of the time that the receiver itself keeps it in mind: this must be certain to be known.
            self._without[(incarnation, source, address)] = self.world.now + host.clock_ahead + NO_CONSUMER_SECONDS / 2
        elif isinstance(message, Welcome | Announce):
            self.news(host, source)

    def news(self, host: Host, source: str = "") -> None:
        """What a receiver knew of a host's consumers, or of all hosts', may be different now."""
        incarnation = host.core._settings.incarnation if host.core else ""
        for key in [key for key in self._without if key[0] == incarnation and key[1] == (source or key[1])]:
            del self._without[key]

    # --- bounds ----------------------------------------------------------------------------------------------------------------------------

    def core_changed(self, host: Host) -> None:
        core = host.core
        if core is None or self._checked_at.get(host.name, 0.0) > self.world.now - 0.02:
            return
        self._checked_at[host.name] = self.world.now
        dropped = core._delivery.tally.bounds.counts["fanout_backlog"]
        if dropped != self._drops.get(core, 0):
            self._drops[core] = dropped
            self.dropped.setdefault(host.name, []).append(self.world.now)
        backlog = self.world.backlog
        delivery, forwarding = core._delivery, core._forwarding
        in_hand = sum(len(client.in_hand) for client in delivery.clients.values()) + sum(len(limbo.in_hand) for limbo in delivery._limbo.values())
        for queue in delivery._queues.values():
            # What a lost consumer had in hand goes back into the queue, however full that is.
            most = backlog + 2 * self.most_sent if queue.address.topic == "zmq_replies" else backlog + in_hand + self.slack
            if len(queue.waiting) > most:
                raise PromiseBroken(BOUNDED, f"{len(queue.waiting)} messages wait for {queue.address} at {host.name}; {most} may", queue.waiting)
        for client in delivery.clients.values():
            requests = sum(arrival.parcel.envelope.pattern is not Pattern.REPLY for arrival in client.in_hand.values())
            if requests > self.widest or client.credit < 0 or client.credit > 2 * self.widest:
                raise PromiseBroken(BOUNDED, f"a process on {host.name} has {requests} messages in hand and credit {client.credit}", client.in_hand)
        for target in forwarding.targets.values():
            for lane in target.lanes.values():
                if len(lane.sent) > backlog:
                    raise PromiseBroken(BOUNDED, f"{host.name} sent {len(lane.sent)} messages for {lane.address} to {lane.host} at a time", lane.sent)
        if len(forwarding._outgoing) > self.most_sent:
            raise PromiseBroken(BOUNDED, f"{host.name} has {len(forwarding._outgoing)} messages under way; {self.most_sent} may", ())

    widest = 64
    """The largest window of a process."""
    slack = 0
    """How many messages beyond the backlog may wait since consumers left with them in hand."""

    # --- at the end ------------------------------------------------------------------------------------------------------------------------

    def check_ends(self, mended_at: float) -> None:
        """Check that each message came to its end, and to a good one if nothing kept it from that after `mended_at`."""
        for sent in self.open.values():
            raise PromiseBroken(NEVER_SILENTLY_LOST, f"nobody told the sender of {sent} what became of it", [sent.id])
        for sent in self.sent_messages.values():
            if sent.settled_at is None or sent.excused or sent.deadline < mended_at + MARGIN:
                continue
            if sent.pattern is Pattern.REPLY:
                self._check_answer(sent)
            elif sent.pattern is Pattern.NOTIFICATION:
                pass  # a receiver that keeps it for a listener may be killed
            elif sent.address.fanout:
                self._check_fanout(sent)
            elif not sent.takers and self.consumers_of(sent):
                raise PromiseBroken(NEVER_SILENTLY_LOST, f"{sent} was not handed over, and could have been: {sent.failure}", [sent.id])

    def _check_answer(self, reply: Sent) -> None:
        call = self.sent_messages.get(reply.answers) if reply.answers else None
        if call is not None and call.sender.alive and call.answer_at is None and call.given_up is None:
            raise PromiseBroken(ANSWERED, f"{reply} answers {call}, which heard nothing of it: {reply.failure}", [reply.id, call.id])

    def _check_fanout(self, sent: Sent) -> None:
        left_out = [
            service
            for service in self.consumers_of(sent)
            if service not in sent.takers and self.known_at(service, sent) < sent.at and not self._was_away(service, sent)
        ]
        if left_out:
            text = f"{sent} was not handed over to {left_out[0].host} (process {left_out[0].origin[-4:]}): {sent.failure or 'and no word of that'}"
            raise PromiseBroken(NEVER_SILENTLY_LOST, text, [sent.id])

    def known_at(self, service: Service, sent: Sent) -> float:
        """Return when the sender's host must know of a process: where receivers announce them, faults may keep it from that for a while."""
        began = service.consumes_since
        announced = self.world.matchmaker(sent.sender.host).route(sent.address).announced
        return began + MARGIN if announced and began > self.first_fault_at else began

    first_fault_at = float("inf")

    def _was_away(self, service: Service, sent: Sent) -> bool:
        """Whether the process was without a connection to its receiver, by its own fault: a fanout goes to those who are there."""
        until = sent.settled_at or self.world.now
        if any(sent.at <= when <= until + 1.0 for when in self.dropped.get(service.host, ())):
            return True  # a process that is too slow gets not all of a fanout, so that it delays no other
        return any(began <= until and sent.at <= ended for began, ended in self.away.get(service, ()))

    def consumers_of(self, sent: Sent) -> list[Service]:
        """Return the processes that a message could go to, as things are now."""
        world = self.world
        if sent.address.server:
            hosts: tuple[str, ...] = (sent.address.server,)
        else:
            route = world.matchmaker(sent.sender.host).route(sent.address)
            if route.broker:
                route = world.matchmaker(route.broker).route(sent.address)
            hosts = tuple(world.hosts) if route.announced else route.hosts
        return [service for service in world.services if service.host in hosts and sent.address in service.addresses]

    started_at: dict[Service, float]
    away: dict[Service, list[tuple[float, float]]]
    """When a process was not connected to its receiver, by its own fault."""
    unsure = ""
    """Why no success is expected of what is sent now."""

    # --- a story of it -----------------------------------------------------------------------------------------------------------------------

    def story(self, messages: Iterable[MessageId], most: int = 60) -> list[str]:
        """Return the last `most` things that happened to the messages, and the faults in between."""
        concerned = set(messages)
        lines = [f"{when - 1000.0:9.4f}  {text}" for when, about, text in self.trace if about & concerned or (not about and text.startswith("*"))]
        return lines[-most:]


def read_id(body: bytes) -> MessageId:
    """Return the message that `body` was first sent in."""
    origin, _slash, number = body.decode().partition("/")
    return MessageId(origin, int(number))


def _ids_in(message: Message) -> tuple[MessageId, ...]:
    if isinstance(message, Parcel):
        return (message.envelope.id,)
    if isinstance(message, Accepted):
        return message.messages
    found: Any = getattr(message, "message", None)
    return (found,) if found is not None else ()


# --- what is kept --------------------------------------------------------------------------------------------------------------------------


def footprint(root: object) -> Mapping[str, int]:
    """Return how many things the tables of a core hold, by the path of attributes that leads to them."""
    sizes: Counter[str] = Counter()
    seen: set[int] = set()

    def visit(value: object, path: str) -> None:
        if isinstance(value, dict | list | set | deque | tuple | frozenset):
            if isinstance(value, dict | list | set | deque):
                sizes[path] += len(value)
            for item in value.values() if isinstance(value, dict) else value:
                visit(item, path + "[]")
        elif type(value).__module__.startswith("brokerless.rpc") and id(value) not in seen:
            seen.add(id(value))
            names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())] or list(vars(value))
            for name in names:
                if name not in ("_on", "counters", "tally"):
                    visit(getattr(value, name, None), f"{path}.{name}" if path else name)

    visit(root, "")
    return sizes
