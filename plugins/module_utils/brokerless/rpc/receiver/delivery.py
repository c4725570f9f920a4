# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The target's side of a receiver: from a message that arrived to the consumer that takes it.

Two rules. Whatever changes which consumer gets a message lives in this file. And each message that arrives gets one verdict in the end, to whoever
brought it: accepted (a consumer took it), or returned (certainly not, for a reason). No sockets, no clock: time comes in as `now`, in seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from .. import protocol
from ..deadlines import Deadlines
from ..envelope import Envelope, MessageId
from ..protocol import Accepted, Credit, Held, Hello, Parcel, Returned
from ..seen import Seen
from ..topics import REPLIES_TOPIC, Address
from .figures import Bound, Tally

LATE = 60.0
"""How many seconds longer than a message may live it is remembered that it was taken."""
MAX_QUEUES = 10_000
"""The most addresses for which messages may wait at the same time."""
MAX_ARRIVALS = 100_000
"""The most messages, whatever they are for, that may wait or be in consumers' hands."""
MAX_ORIGINS = 50_000
"""The most processes of which it is remembered what was taken from them."""
MAX_REMEMBERED = 1_000_000
"""So many messages at most a service may say that it took; all services together, four times as many."""
MAX_ADDRESSES = 1000
"""The most addresses that a service's process may consume."""
MAX_NAMED = 1000
"""So many addresses that were consumed here are known by name to whoever measures queues; no name that only came from outside is."""
BACKLOG_FULL = Bound("topic_backlog", "the backlog of {subject} is full (rpc_zmq_topic_backlog): its messages go back, and are sent again later")
FANOUT_DROPPED = Bound("fanout_backlog", "the backlog of a consumer of {subject} is full (rpc_zmq_topic_backlog): it misses messages that others get")
TOO_MUCH = Bound(
    "waiting", f"{MAX_ARRIVALS} messages or rpc_zmq_max_waiting_bytes wait here: those for {{subject}} go back, and are sent again later"
)
TOO_MANY_ORIGINS = Bound("origins", f"messages of {MAX_ORIGINS} processes came lately: those of further ones go back, and are sent again later")
TOO_MANY_QUEUES = Bound("queues", f"messages wait for {MAX_QUEUES} addresses: those for {{subject}} go back, and are sent again later")

Back: TypeAlias = "bytes | None"
"""The way back to whoever brought a message: the link of another host's receiver, or None for this very receiver."""
SendToClient = Callable[[bytes, Parcel], None]
Passed = Callable[[Parcel], None]
GiveVerdict: TypeAlias = "Callable[[Back, Accepted | Returned | Held], None]"


@dataclass(slots=True)
class Arrival:
    """A message that arrived and has no verdict yet."""

    parcel: Parcel
    back: Back
    deadline: float
    not_before: float = 0.0
    takers: set[bytes] = field(default_factory=set)
    """Of a fanout, the clients that have yet to take it."""
    taken_by_any: bool = False
    handed_at: float = 0.0
    cut_short: bool = False
    """Whether this receiver is to end before all have taken it: it must be sent again to the next."""


@dataclass(slots=True)
class Client:
    """A service's process that is connected. `credit` is how many more requests it can take now."""

    key: bytes
    origin: str
    name: str
    pid: int
    credit: int
    addresses: tuple[Address, ...] = ()
    in_hand: OrderedDict[MessageId, Arrival] = field(default_factory=OrderedDict)


@dataclass(slots=True)
class Queue:
    """What waits for an address, or for one client of a fanout, and who consumes it, the next in turn first."""

    address: Address
    waiting: OrderedDict[MessageId, Arrival] = field(default_factory=OrderedDict)
    clients: OrderedDict[bytes, Client] = field(default_factory=OrderedDict)


QueueKey = tuple[Address, bytes]
"""The address, and for a fanout the client's key."""


@dataclass(slots=True)
class _Limbo:
    """What a client had in hand when its connection broke. It may come back and say what it took."""

    key: bytes
    in_hand: OrderedDict[MessageId, Arrival]
    until: float


class Delivery:
    """Queues what arrived and hands it to local consumers, each in turn, none beyond its credit."""

    def __init__(
        self,
        host: str,
        backlog: int,
        patience: float,
        send: SendToClient,
        verdict: GiveVerdict,
        started_at: float,
        most_bytes: int = 256 << 20,
        passed: Passed = lambda _parcel: None,
    ) -> None:
        """Deliver on `host`, with at most `backlog` messages waiting for an address, and bodies of `most_bytes` in all.

        `passed` is shown each message once, when it has been taken in for a consumer, and changes nothing.

        For `patience` seconds a client whose connection broke may come back, and after the start, clients of an earlier incarnation may: until then,
        what may have been taken by one of them is not handed to another.
        """
        self._host = host
        self._backlog = backlog
        self._patience = patience
        self._send = send
        self._verdict = verdict
        self._passed = passed
        self.all_back_at = started_at + patience
        self._waits_for_all = True
        self._seen = Seen()
        self._perhaps_taken: dict[MessageId, None] = {}
        self._early_fanouts: OrderedDict[MessageId, Arrival] = OrderedDict()
        self._arrivals: dict[MessageId, Arrival] = {}
        self._bytes = 0
        self._most_bytes = most_bytes
        self._deadlines: Deadlines[MessageId] = Deadlines()
        self._queues: dict[QueueKey, Queue] = {}
        self._limbo: dict[str, _Limbo] = {}
        self.clients: dict[bytes, Client] = {}
        self.tally = Tally("delivery", "consumer")
        self.named: set[Address] = set()
        self.draining = False

    # --- messages ------------------------------------------------------------------------------------------------------------------------

    def arrive(self, parcel: Parcel, back: Back, now: float) -> None:
        """Take in a message; its verdict goes to `back`."""
        envelope = parcel.envelope
        message = envelope.id
        deadline = now + envelope.ttl
        known_origin = self._seen.knows(message.origin)
        if not known_origin and len(self._seen) >= MAX_ORIGINS:
            self.tally.bounds.hit(TOO_MANY_ORIGINS, None, now)
            self._return(back, envelope, protocol.FULL, f"{self._host} remembers as many processes as it can")
            return
        if known_origin:
            self._seen.note_settled(message.origin, envelope.settled, deadline + LATE)
        known = self._arrivals.get(message)
        if known is not None:
            known.back = back
            self.tally.count("duplicate", envelope)
        elif self._seen.has_ended(message) or (message in self._seen and not envelope.address.fanout):
            # that a fanout was taken says nothing of this host's other processes; who has it already drops it
            self.tally.count("duplicate", envelope)
            if message in self._perhaps_taken:
                self._verdict(back, Returned(message, protocol.CONSUMER_GONE, self._died_with_it(envelope)))
            else:
                self._verdict(back, Accepted((message,)))
        elif self.draining:
            self._return(back, envelope, protocol.DRAINING, f"the receiver of {self._host} is shutting down")
        elif envelope.after and MessageId(message.origin, envelope.after) not in self._seen:
            self._return(back, envelope, protocol.EARLIER_MISSING, "")
        elif envelope.ttl <= 0:
            self._return(back, envelope, protocol.EXPIRED, f"it arrived at {self._host} when its time was over")
        else:
            if len(self._arrivals) >= MAX_ARRIVALS or self._bytes + len(parcel.body) > self._most_bytes:
                self.tally.bounds.hit(TOO_MUCH, envelope.address, now)
                self._return(back, envelope, protocol.FULL, f"as much waits at {self._host} as may")
                return
            waits = (envelope.attempt or envelope.address.fanout) and not self.all_back(now)
            self._queue(Arrival(parcel, back, deadline, self.all_back_at if waits else 0.0), now)
            if message in self._arrivals:
                self._passed(parcel)

    def all_back(self, now: float) -> bool:
        """Whether all clients of an earlier incarnation that live have had time to come back."""
        return now >= self.all_back_at

    def _queue(self, arrival: Arrival, now: float) -> None:
        envelope = arrival.parcel.envelope
        if envelope.address.fanout and arrival.not_before > now:
            self._keep(arrival)
            self._early_fanouts[envelope.id] = arrival
            return
        if envelope.address.fanout:
            self._queue_fanout(arrival, now)
            return
        queue = self._queues.get((envelope.address, b""))
        if (queue is None or not queue.clients) and envelope.address.bare:
            self._return(arrival.back, envelope, protocol.NO_CONSUMER, f"{self._host} has no consumer of {envelope.address}")
            return
        if (queue is None and len(self._queues) >= MAX_QUEUES) or (queue is not None and len(queue.waiting) >= self._backlog):
            self.tally.bounds.hit(TOO_MANY_QUEUES if queue is None else BACKLOG_FULL, envelope.address, now)
            self._return(arrival.back, envelope, protocol.FULL, f"the backlog of {envelope.address} at {self._host} is full")
            return
        if queue is None:
            queue = self._queues[(envelope.address, b"")] = Queue(envelope.address)
        self._keep(arrival)
        queue.waiting[envelope.id] = arrival
        if not queue.clients:
            self._verdict(arrival.back, Held(envelope.id, f"{self._host} has no consumer of {envelope.address} now"))
        self._hand_over(queue, now)

    def _queue_fanout(self, arrival: Arrival, now: float) -> None:
        envelope = arrival.parcel.envelope
        queues = [self._queues[key] for client in self.clients if (key := (envelope.address, client)) in self._queues]
        open_queues = [queue for queue in queues if len(queue.waiting) < self._backlog]
        if not queues:
            self._return(arrival.back, envelope, protocol.NO_CONSUMER, f"{self._host} has no consumer of {envelope.address}")
            return
        if len(open_queues) < len(queues):
            self.tally.bounds.hit(FANOUT_DROPPED, envelope.address, now, len(queues) - len(open_queues))
        if not open_queues:
            self._return(arrival.back, envelope, protocol.FULL, f"the backlog of {envelope.address} at {self._host} is full")
            return
        self._keep(arrival)
        arrival.takers.update(client for queue in open_queues for client in queue.clients)
        for queue in open_queues:
            queue.waiting[envelope.id] = arrival
            self._hand_over(queue, now)

    def _keep(self, arrival: Arrival) -> None:
        message = arrival.parcel.envelope.id
        self._arrivals[message] = arrival
        self._bytes += len(arrival.parcel.body)
        # A process of which nothing was kept is not remembered: there would be no end of those.
        self._seen.note_settled(message.origin, arrival.parcel.envelope.settled, arrival.deadline + LATE)
        self._seen.add(message)
        self._deadlines.set(message, max(arrival.deadline, arrival.not_before))

    def _hand_over(self, queue: Queue, now: float) -> None:
        replies = queue.address.topic == REPLIES_TOPIC
        while queue.waiting:
            message, arrival = next(iter(queue.waiting.items()))
            envelope = arrival.parcel.envelope
            if self._seen.has_ended(message) or arrival.deadline <= now:
                self._take_from(queue, arrival)
                self._end_unheard(arrival, protocol.EXPIRED, f"its time was over before a consumer of {queue.address} at {self._host} took it")
                continue
            if arrival.not_before > now:
                return
            client = next((client for client in queue.clients.values() if client.credit > 0 or replies), None)
            if client is None:
                return
            queue.clients.move_to_end(client.key)
            del queue.waiting[message]
            client.in_hand[message] = arrival
            if not replies:
                client.credit -= 1
            arrival.handed_at = now
            self.tally.count("handed_over", envelope)
            self.tally.seconds["delivery"].observe(now - arrival.deadline + envelope.ttl)
            handed = envelope.rewritten(self._host, arrival.deadline - now, envelope.settled, envelope.after, envelope.hops, envelope.attempt)
            self._send(client.key, Parcel(handed, arrival.parcel.body))
        self._drop_if_unused(queue)

    def _drop_if_unused(self, queue: Queue) -> None:
        key = (queue.address, b"")
        if not queue.waiting and not queue.clients and self._queues.get(key) is queue:
            del self._queues[key]

    def _return(self, back: Back, envelope: Envelope, reason: str, text: str) -> None:
        self.tally.count(f"returned_{reason}", envelope)
        self._verdict(back, Returned(envelope.id, reason, text))

    def _end_unheard(self, arrival: Arrival, reason: str, text: str) -> None:
        """End one way to a consumer that has not come to it; the message itself ends when there is no other."""
        message = arrival.parcel.envelope.id
        if message not in self._arrivals:
            return
        if self._is_on_its_way(message, arrival):
            return
        if arrival.taken_by_any:
            self._end_taken(arrival)
        else:
            self._forget(message)
            if reason == protocol.CONSUMER_GONE:
                self._perhaps_taken[message] = None
            else:
                self._seen.discard(message)
            self._return(arrival.back, arrival.parcel.envelope, reason, text)

    def _died_with_it(self, envelope: Envelope) -> str:
        return f"the consumer of {envelope.address} at {self._host} died with it in hand"

    @staticmethod
    def _take_from(queue: Queue, arrival: Arrival) -> None:
        """Let a message wait in the queue no longer; if it is a fanout, whoever it waited for there gets it no more."""
        del queue.waiting[arrival.parcel.envelope.id]
        if queue.address.fanout:
            arrival.takers.difference_update(queue.clients)

    def _end_taken(self, arrival: Arrival) -> None:
        message = arrival.parcel.envelope.id
        self._forget(message)
        if arrival.cut_short:
            self._seen.discard(message)
            self._return(arrival.back, arrival.parcel.envelope, protocol.DRAINING, f"the receiver of {self._host} is shutting down")
        else:
            self._verdict(arrival.back, Accepted((message,)))

    def _is_on_its_way(self, message: MessageId, arrival: Arrival) -> bool:
        return (
            message in self._early_fanouts
            or any(message in queue.waiting for queue in self._queues_of(arrival))
            or any(message in client.in_hand for client in self.clients.values())
            or any(message in limbo.in_hand for limbo in self._limbo.values())
        )

    def _queues_of(self, arrival: Arrival) -> Iterable[Queue]:
        address = arrival.parcel.envelope.address
        keys = [(address, client) for client in self.clients] if address.fanout else [(address, b"")]
        return [self._queues[key] for key in keys if key in self._queues]

    def _forget(self, message: MessageId) -> None:
        self._bytes -= len(self._arrivals.pop(message).parcel.body)
        self._deadlines.discard(message)

    # --- consumers -----------------------------------------------------------------------------------------------------------------------

    def consumed(self) -> tuple[Address, ...]:
        """Return all that connected services consume, but for the answers to their own calls."""
        addresses = {address for client in self.clients.values() for address in client.addresses if address.topic != REPLIES_TOPIC}
        return tuple(sorted(addresses))

    def why_not_join(self, hello: Hello) -> str:
        """Return why a service's process can't be served; empty if it can."""
        origins, messages = len(hello.taken), sum(len(entry[2]) for entry in hello.taken)
        if origins > MAX_ORIGINS or messages > MAX_REMEMBERED:
            return f"it says that it took more than {MAX_REMEMBERED} messages or those of more than {MAX_ORIGINS} processes"
        sizes = self._seen.sizes()
        # Room that no other host's messages can fill: a stranger must not keep services from coming back.
        if sizes["origins"] + origins > 4 * MAX_ORIGINS or sizes["messages"] + messages > 4 * MAX_REMEMBERED:
            return f"services said that they took more messages than the {4 * MAX_REMEMBERED} that a receiver remembers"
        return ""

    def join(self, key: bytes, hello: Hello, now: float) -> None:
        """Take in a service's process, which says what it accepted so far. Replies to its calls find it from now on."""
        earlier = next((client for client in self.clients.values() if client.origin == hello.incarnation), None)
        if earlier is not None:
            self.leave(earlier.key, now)
        self._seen.merge(hello.taken, now + LATE + self._patience)
        self.clients[key] = Client(key, hello.incarnation, hello.name, hello.pid, hello.window)
        taken = dict.fromkeys(MessageId(origin, number) for origin, _settled, numbers in hello.taken for number in numbers)
        limbo = self._limbo.pop(hello.incarnation, None)
        if limbo is not None:
            self._settle_what_was_in_hand(limbo.in_hand, taken, limbo.key, now)
        for message in taken:
            self._perhaps_taken.pop(message, None)
            if message in self._arrivals and not self._arrivals[message].parcel.envelope.address.fanout:
                self._accept_waiting(message)
        self.consume(key, (), now)

    def _accept_waiting(self, message: MessageId) -> None:
        """A consumer says that it had taken a message that is waiting here, before this receiver was started."""
        arrival = self._arrivals[message]
        for queue in self._queues_of(arrival):
            queue.waiting.pop(message, None)
            self._drop_if_unused(queue)
        arrival.taken_by_any = True
        self._end_unheard(arrival, protocol.EXPIRED, "")

    def _settle_what_was_in_hand(self, in_hand: OrderedDict[MessageId, Arrival], taken: Collection[MessageId], key: bytes, now: float) -> None:
        for message, arrival in reversed(in_hand.items()):
            arrival.takers.discard(key)
            if message in taken:
                arrival.taken_by_any = True
                self._end_unheard(arrival, protocol.EXPIRED, "")
            else:
                self._put_back(message, arrival, now)

    def _put_back(self, message: MessageId, arrival: Arrival, now: float) -> None:
        """Queue again, first in line, a message that was sent to a client and certainly not taken."""
        address = arrival.parcel.envelope.address
        queue = self._queues.get((address, b""))
        if address.fanout or ((queue is None or not queue.clients) and address.bare):
            self._end_unheard(arrival, protocol.NO_CONSUMER, f"the consumer of {address} at {self._host} is gone")
            return
        if queue is None:
            queue = self._queues[(address, b"")] = Queue(address)
        queue.waiting[message] = arrival
        queue.waiting.move_to_end(message, last=False)
        self._hand_over(queue, now)

    def why_not_consume(self, key: bytes, addresses: Collection[Address]) -> str:
        """Return why the client may not consume `addresses`; empty if it may."""
        client = self.clients[key]
        if len(addresses) > MAX_ADDRESSES:
            return f"it wants to consume {len(addresses)} addresses; at most {MAX_ADDRESSES} are allowed"
        other = next((address for address in addresses if address.topic == REPLIES_TOPIC and address.server != client.origin), None)
        return f"{other} is where another process gets its answers" if other else ""

    def consume(self, key: bytes, addresses: Iterable[Address], now: float) -> None:
        """Let the client consume `addresses` from now on, and the replies to its own calls, and nothing else."""
        client = self.clients[key]
        wanted = dict.fromkeys((*addresses, _reply_box(client)))
        for address in [address for address in client.addresses if address not in wanted]:
            self._stop_consuming(client, address, now)
        client.addresses = tuple(wanted)
        for address in wanted:
            queue_key = (address, key if address.fanout else b"")
            queue = self._queues.setdefault(queue_key, Queue(address))
            if address.topic != REPLIES_TOPIC and len(self.named) < MAX_NAMED:
                self.named.add(address)
            if key not in queue.clients:
                queue.clients[key] = client
                self._hand_over(queue, now)

    def _stop_consuming(self, client: Client, address: Address, now: float) -> None:
        queue_key = (address, client.key if address.fanout else b"")
        queue = self._queues[queue_key]
        del queue.clients[client.key]
        if not queue.clients and not address.server:
            for message, arrival in list(queue.waiting.items()):
                del queue.waiting[message]
                arrival.takers.discard(client.key)
                self._end_unheard(arrival, protocol.NO_CONSUMER, f"{self._host} has no consumer of {address} any more")
        if not queue.clients and not queue.waiting:
            del self._queues[queue_key]

    def accept(self, key: bytes, messages: Iterable[MessageId], now: float) -> None:
        """The client says that it took `messages`."""
        client = self.clients[key]
        for message in messages:
            arrival = client.in_hand.pop(message, None)
            if arrival is None:
                continue
            self.tally.count("accepted", arrival.parcel.envelope)
            self.tally.seconds["consumer"].observe(now - arrival.handed_at)
            arrival.taken_by_any = True
            arrival.takers.discard(key)
            if not arrival.takers:
                self._end_taken(arrival)

    def credit(self, key: bytes, grant: Credit, now: float) -> None:
        """The client can take more."""
        client = self.clients[key]
        client.credit += grant.count
        for address in client.addresses:
            queue = self._queues[(address, key if address.fanout else b"")]
            if queue.waiting:
                self._hand_over(queue, now)

    def leave(self, key: bytes, now: float, *, certain: bool = False) -> None:
        """The client's connection is gone. With `certain` it has said so itself, and took nothing but what it accepted."""
        client = self.clients.pop(key)
        for address in client.addresses:
            self._stop_consuming(client, address, now)
        if certain:
            self._settle_what_was_in_hand(client.in_hand, (), key, now)
        elif client.in_hand:
            self._limbo[client.origin] = _Limbo(key, client.in_hand, now + self._patience)

    # --- time ----------------------------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """End what is due."""
        for origin in [origin for origin, limbo in self._limbo.items() if limbo.until <= now]:
            limbo = self._limbo.pop(origin)
            for arrival in limbo.in_hand.values():
                envelope = arrival.parcel.envelope
                arrival.takers.discard(limbo.key)
                self._end_unheard(arrival, protocol.CONSUMER_GONE, self._died_with_it(envelope))
        for message in self._deadlines.due(now):
            if message not in self._arrivals:
                continue  # it ended when one before it made room
            arrival = self._arrivals[message]
            self._early_fanouts.pop(message, None)
            for queue in self._queues_of(arrival):
                if message in queue.waiting:
                    self._take_from(queue, arrival)
                    self._drop_if_unused(queue)
            address = arrival.parcel.envelope.address
            self._end_unheard(arrival, protocol.EXPIRED, f"its time was over before a consumer of {address} at {self._host} took it")
        if self._waits_for_all and self.all_back(now):
            self._waits_for_all = False
            while self._early_fanouts:
                message, arrival = self._early_fanouts.popitem(last=False)
                self._forget(message)
                self._seen.discard(message)
                self._queue(arrival, now)
            for queue in list(self._queues.values()):
                self._hand_over(queue, now)
        self._seen.forget(now)
        for message in [message for message in self._perhaps_taken if self._seen.has_ended(message) or message not in self._seen]:
            del self._perhaps_taken[message]

    def drain(self) -> None:
        """Take in nothing more, and return what no consumer has in hand."""
        self.draining = True
        early, self._early_fanouts = list(self._early_fanouts.values()), OrderedDict()
        for arrival in early:
            self._end_unheard(arrival, protocol.DRAINING, f"the receiver of {self._host} is shutting down")
        for queue in list(self._queues.values()):
            for arrival in list(queue.waiting.values()):
                if arrival.parcel.envelope.address.fanout:
                    arrival.cut_short = True
                self._take_from(queue, arrival)
                self._end_unheard(arrival, protocol.DRAINING, f"the receiver of {self._host} is shutting down")

    @property
    def idle(self) -> bool:
        """Whether no message waits for its verdict."""
        return not self._arrivals

    def queues(self) -> Iterable[Queue]:
        """Return the queues, for status."""
        return self._queues.values()


def _reply_box(client: Client) -> Address:
    return Address(REPLIES_TOPIC, server=client.origin)
