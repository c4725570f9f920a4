# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The cores in every state that strangers can bring them into: a receiver's and a driver's.

The bytes are a story: who says what when. Whatever it is, the core raises nothing, what it wants sent can be sent, a good process is served as
ever in the end, and when all have left and all time is over nothing of it is left in memory.
"""

from __future__ import annotations

from brokerless.rpc import protocol
from brokerless.rpc.driver.effects import Transmit
from brokerless.rpc.driver.session import Identity, Session
from brokerless.rpc.envelope import Envelope, MessageId, Pattern
from brokerless.rpc.matchmaker.base import MatchMaker, Route, Settings
from brokerless.rpc.protocol import Consume, Hello, Message, Parcel, decode, encode
from brokerless.rpc.receiver.core import CoreSettings, ReceiverCore
from brokerless.rpc.receiver.effects import Dial, Effect, ToClient, ToLink, ToPeer
from brokerless.rpc.topics import Address
from drawn import ME, Draw

CLIENTS = (b"c1", b"c2", b"c3")
LINKS = (b"l1", b"l2", b"l3")
PEERS = ("there", "evil", "unknown")
BACKLOG = 5
GOOD = Address("good", server=ME)
CALLER, CONSUMER = "1" * 16, "2" * 16


class Ring(MatchMaker):
    """`compute` is here and there; fanouts go through a broker if the settings name one."""

    name = "ring"

    def hosts(self) -> frozenset[str]:
        return frozenset({ME, "there"})

    def route_bare(self, address: Address) -> Route:
        return Route((ME, "there")) if address.topic == "compute" else Route(problem="no such topic")

    def route_fanout(self, address: Address) -> Route:
        return Route((ME, "there"), "evil" if self.settings.broker == "evil" else "")


class Story:
    """A receiver's core, and the strangers that it hears."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.now = 1000.0
        settings = Settings(ME, broker=draw.one_of(("127.0.0.1", "evil")))
        self.core = ReceiverCore(CoreSettings(ME, "f" * 16, backlog=BACKLOG), Ring(settings), self.now)
        self.collect()

    def collect(self) -> list[Effect]:
        """Take out what the core wants done, and see that it can be."""
        effects = self.core.take_effects(self.now)
        for effect in effects:
            if isinstance(effect, ToClient | ToLink | ToPeer):
                check_written(effect.message)
            elif isinstance(effect, Dial):
                self.dialled = effect.host
        return effects

    def step(self) -> None:
        """Let one thing happen."""
        draw, core, now = self.draw, self.core, self.now
        what = draw.byte() % 16
        if what < 5:
            core.from_client(draw.one_of(CLIENTS), travelled(draw.message()), now)
        elif what < 9:
            core.from_link(draw.one_of(LINKS), travelled(draw.message()), now)
        elif what < 12:
            core.from_peer(draw.one_of(PEERS), travelled(draw.message()), now)
        elif what == 12:
            core.peer_connected(draw.one_of(PEERS), "address", now)
        elif what == 13:
            draw.one_of(
                (
                    lambda: core.peer_lost(draw.one_of(PEERS), "lost", now),
                    lambda: core.client_gone(draw.one_of(CLIENTS), now),
                    lambda: core.link_gone(draw.one_of(LINKS), now),
                    lambda: core.refused("somebody", "nonsense", now),
                    lambda: core.replace_matchmaker(Ring(Settings(ME, broker=draw.one_of(("", "evil")))), now),
                    lambda: core.status(now),
                )
            )()
        else:
            self.now += draw.one_of((0.0, 0.004, 0.05, 0.1, 1.0, 3.0, 31.0, 4000.0))
            core.tick(self.now)
        self.collect()

    def serves(self) -> None:
        """A good process is called, gets the call and accepts it."""
        core = self.core
        core.from_client(b"caller", Hello("service", ME, CALLER, "caller", 1, 0), self.now)
        core.from_client(b"consumer", Hello("service", ME, CONSUMER, "consumer", 2, 5), self.now)
        core.from_client(b"consumer", Consume(1, (GOOD,)), self.now)
        self.collect()
        message = MessageId(CALLER, 1)
        core.from_client(b"caller", Parcel(Envelope(message, Pattern.CALL, GOOD, ME, 30.0), b"body"), self.now)
        handed = [effect for effect in self.collect() if isinstance(effect, ToClient) and isinstance(effect.message, Parcel)]
        assert [(effect.client, effect.message.envelope.id) for effect in handed] == [(b"consumer", message)], handed
        core.from_client(b"consumer", protocol.Accepted((message,)), self.now)
        self.now += 0.01
        told = [effect.message for effect in self.collect() if isinstance(effect, ToClient) and effect.client == b"caller"]
        assert protocol.Accepted((message,)) in told, told

    def forgets(self) -> None:
        """When all have left and all time is over, nothing is left."""
        core = self.core
        for key in (*CLIENTS, b"caller", b"consumer"):
            core.client_gone(key, self.now)
        for link in LINKS:
            core.link_gone(link, self.now)
        for seconds in (10.0, protocol.MAX_TTL, 200.0, 200.0, 200.0):
            self.now += seconds
            core.tick(self.now)
            self.collect()
        left = sizes(core)
        assert not any(left.values()), left


def sizes(core: ReceiverCore) -> dict[str, int]:
    """Return how many entries the tables of a core have that grow with what comes in."""
    delivery, forwarding = core._delivery, core._forwarding
    return {
        "clients": len(delivery.clients),
        "links": len(core._links),
        "batches": len(core._batches),
        "arrivals": len(delivery._arrivals),
        "arrivals' deadlines": len(delivery._deadlines),
        "queues": len(delivery._queues),
        "limbo": len(delivery._limbo),
        **{f"seen {name}": number for name, number in delivery._seen.sizes().items()},
        "outgoing": len(forwarding._outgoing),
        "outgoing deadlines": len(forwarding._deadlines),
        "homeless": len(forwarding._homeless),
        "seekers": len(forwarding._seeking._seekers),
        "where messages went": len(forwarding._origins._went_to),
        "sources": len(forwarding._of_source),
        "notifications": forwarding.notifications,
        "early fanouts": len(delivery._early_fanouts),
        "lanes": sum(len(target.lanes) for target in forwarding.targets.values()),
        "strangers among targets": len(forwarding.targets.keys() - {ME, "there"}),
        "strangers among peers": len(core._peers.keys() - {ME, "there"}),
    }


def travelled(message: Message) -> Message:
    """Return the message as it is after its way through frames."""
    return decode(encode(message))


def check_written(message: Message) -> None:
    """What is written can be read, and is written the same way again."""
    frames = encode(message)
    assert encode(decode(frames)) == frames, message


def receiver_core(data: bytes) -> None:
    """Tell a receiver's core a story."""
    story = Story(Draw(data))
    while story.draw:
        story.step()
    story.serves()
    story.forgets()


def driver_session(data: bytes) -> None:
    """Tell a driver's session a story: what its receiver says, and what its own process does."""
    draw = Draw(data)
    now = 1000.0
    session = Session(Identity(ME, CALLER, "name", 1, 8), now)
    while draw:
        what = draw.byte() % 12
        if what < 7:
            session.receive(travelled(draw.message()), now)
        elif what == 7:
            session.connected(now)
        elif what == 8:
            session.disconnected("lost")
        elif what == 9:
            session.submit(draw.address(), b"body", draw.one_of((Pattern.CAST, Pattern.CALL, Pattern.NOTIFICATION)), now + 5.0, now)
        elif what == 10:
            draw.one_of(
                (
                    lambda: session.consume(draw.some(draw.address, 3)),
                    lambda: session.abandon(draw.number()),
                    lambda: session.ask(draw.number(), "status", ""),
                    lambda: session.ask_no_more(draw.number()),
                    session.farewell,
                )
            )()
        else:
            now += draw.one_of((0.0, 0.004, 0.1, 1.0, 6.0, 40.0))
            session.tick(now)
        for effect in session.take_effects(now):
            if isinstance(effect, Transmit):
                check_written(effect.message)
    session.connected(now)
    for _turn in range(200):
        now += 0.5
        session.tick(now)
        session.take_effects(now)
    assert session.unsettled == 0, session.unsettled
