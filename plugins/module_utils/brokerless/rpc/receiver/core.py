# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The receiver's core: events in, effects out.

It puts together the two sides of a receiver, `Forwarding` and `Delivery`, and keeps the connections on which both depend: services of this
host (clients), connections that other hosts' receivers made (links) and connections that this one makes (peers). There are no sockets,
clocks or threads in it; each event brings the time, in seconds of a clock that never goes back. After any number of events,
`take_effects` returns what is to be done, in order.
"""

from __future__ import annotations

import enum
import heapq
import ipaddress
import json
import logging
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .. import protocol
from ..envelope import MessageId
from ..matchmaker.base import MatchMaker
from ..protocol import (
    Accepted,
    Announce,
    Assigned,
    Bye,
    Consume,
    Consuming,
    Copy,
    Credit,
    Held,
    Hello,
    Inspect,
    Message,
    Parcel,
    Ping,
    Pong,
    Report,
    Returned,
    Seek,
    Tap,
    Welcome,
    WhoAreYou,
)
from ..topics import REPLIES_TOPIC, Address, TopicError, parse_address
from .delivery import Back, Delivery
from .effects import Dial, Effect, HangUp, Say, ToClient, ToLink, ToPeer
from .figures import Bounds
from .forwarding import Forwarding, ForwardingSettings
from .outgoing import Source
from .taps import Taps

ACCEPTED_DELAY = 0.004
"""Seconds for which acceptances are collected, so that many travel as one message."""
ACCEPTED_BATCH = 128
ANNOUNCE_DELAY = 0.02
"""Seconds for which changes of what is consumed here are collected, until the other hosts are told."""
LONGEST_BEAT = 0.1
"""Seconds between two looks at what is due, at most."""
SILENT_BEATS = 3
"""A peer that is silent for so many heartbeats is down."""
LINK_BEATS = 30
"""A connection that another host's receiver made is forgotten after so many heartbeats of silence; if it is still there, it is asked who it is."""
MAX_CLIENTS = 10_000
"""The most processes of this host that may be connected."""
MAX_LINKS = 10_000
"""The most receivers of other hosts that may be connected."""
FIRST_REDIAL = 0.2
LONGEST_REDIAL = 2.0
"""Seconds until a peer that is down is dialled again: the first time, and at most, doubling in between."""
DEEPEST_QUEUES = 20
"""So many queues, those with the most messages, are named in status and metrics; the others are in the totals."""
IDLE_PEER_SECONDS = 60.0
"""A host that the MatchMaker does not know is forgotten after so long without a message for it."""


NO_CONSUMER, NO_HOST, FOR_CONSUMER = "no consumer", "no host can take it", "consumers are busy"
"""Why messages wait."""


class PeerState(enum.Enum):
    """How far the connection to another host's receiver is."""

    DOWN = "down"
    DIALLING = "connecting"
    GREETING = "greeting"
    UP = "up"


@dataclass(slots=True)
class Peer:
    """Another host's receiver, as this one reaches it."""

    host: str
    state: PeerState
    since: float
    heard_at: float
    used_at: float
    redial_at: float = 0.0
    redial_pause: float = FIRST_REDIAL
    address: str = ""
    why_down: str = ""
    ping_sent_at: float = 0.0
    round_trip: float | None = None


@dataclass(slots=True)
class _Link:
    """A connection that another host's receiver made."""

    host: str
    incarnation: str
    heard_at: float


@dataclass(slots=True)
class _AcceptedBatch:
    """Acceptances for one destination that have not been sent yet."""

    messages: list[MessageId] = field(default_factory=list)
    send_at: float = 0.0


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """What the core needs to know of its host. `heartbeat` is in seconds, `most_bytes` bounds the bodies that wait."""

    host: str
    incarnation: str
    backlog: int = 4096
    heartbeat: float = 1.0
    per_sender: int = 100_000
    notifications: int = 10_000
    most_bytes: int = 256 << 20
    version: str = ""
    pid: int = 0
    ports: tuple[int, ...] = ()


class ReceiverCore:
    """Decides all that a receiver does."""

    def __init__(self, settings: CoreSettings, matchmaker: MatchMaker, now: float) -> None:
        self._settings = settings
        self._effects: list[Effect] = []
        self._now = now
        self._started_at = now
        self._next_beat = now
        self._batches: dict[Source, _AcceptedBatch] = {}
        self._arriving: deque[Parcel] = deque()
        self._spoken_to: set[bytes | str] = set()
        self._links: dict[bytes, _Link] = {}
        self._announcement: tuple[Address, ...] = ()
        self._announce_at: float | None = now + SILENT_BEATS * settings.heartbeat
        self._peers: dict[str, Peer] = {}
        self._matchmaker_error = ""
        self._matchmaker_problem = ""
        self._draining = False
        self._refused_said_at = float("-inf")
        self._clients_pinged_at = float("-inf")
        self.counters: Counter[str] = Counter(
            from_services=0, from_peers=0, bytes_from_services=0, bytes_from_peers=0, refused=0, refused_connections=0, ring_reload_errors=0
        )
        self.curve: dict[str, Any] | None = None
        """What status says of CURVE and its keys; None without it."""
        patience = SILENT_BEATS * settings.heartbeat
        self._taps = Taps(self._send_copy)
        self._delivery = Delivery(
            settings.host, settings.backlog, patience, self._send_to_client, self._give_verdict, now, settings.most_bytes, self._taps.passed
        )
        forwarding = ForwardingSettings(
            settings.host,
            settings.incarnation,
            settings.backlog,
            patience,
            now + LONGEST_REDIAL + patience,
            settings.per_sender,
            settings.notifications,
        )
        self._forwarding = Forwarding(forwarding, matchmaker, self._send_to_host, self._tell_source, self._say)
        self._dial_known_hosts(now)

    # --- effects ---------------------------------------------------------------------------------------------------------------------------

    def take_effects(self, now: float) -> list[Effect]:
        """Return what is to be done, in order, and forget it. What can wait a little to travel with more of its kind may stay."""
        if len(self._forwarding.targets) > len(self._peers) + 1:
            self._look_after_peers(now)
        if self._announce_at is not None and now >= self._announce_at:
            self._announce(now)
        for source in [source for source, batch in self._batches.items() if batch.send_at <= now or self._whose(source) in self._spoken_to]:
            self._flush(source)
        self._spoken_to.clear()
        effects, self._effects = self._effects, []
        return effects

    def _whose(self, source: Source) -> bytes | str | None:
        """Return the client's key, or the host whose link it is: who is spoken to anyhow is told at the same time what was accepted."""
        kind, key = source
        if kind == "client":
            return key
        link = self._links.get(key)
        return link.host if link is not None else None

    def next_wake(self) -> float:
        """Return when `tick` must be called at the latest."""
        soonest = self._next_beat
        if self._batches:
            soonest = min(soonest, next(iter(self._batches.values())).send_at)
        return soonest if self._announce_at is None else min(soonest, self._announce_at)

    def _say(self, level: int, text: str) -> None:
        self._effects.append(Say(level, text))

    def _send_to_client(self, client: bytes, parcel: Parcel) -> None:
        self._spoken_to.add(client)
        self._effects.append(ToClient(client, parcel))

    def _send_copy(self, client: bytes, copy: Copy) -> None:
        self._effects.append(ToClient(client, copy))

    def _send_to_host(self, host: str, message: Parcel | Seek) -> None:
        if host == self._settings.host and isinstance(message, Parcel):
            self._arrive_here(message)
        else:
            self._peers[host].used_at = self._now
            self._spoken_to.add(host)
            self._effects.append(ToPeer(host, message))

    def _arrive_here(self, parcel: Parcel) -> None:
        """Bring a message of this host to its own consumers.

        One whose end is known at once lets the next be sent: they take turns, each not inside another.
        """
        self._arriving.append(parcel)
        if len(self._arriving) > 1:
            return
        while self._arriving:
            self._delivery.arrive(self._arriving[0], None, self._now)
            self._arriving.popleft()

    def _give_verdict(self, back: Back, verdict: Accepted | Returned | Held) -> None:
        if back is None:
            self._forwarding.verdict(self._settings.host, verdict, self._now)
        else:
            self._tell_source(("link", back), verdict)

    def _tell_source(self, source: Source, message: Accepted | Returned | Held | Assigned) -> bool:
        """Tell whoever a message came from; return whether there still is a connection to it."""
        kind, key = source
        if key not in (self._delivery.clients if kind == "client" else self._links):
            return False
        if isinstance(message, Accepted):
            batch = self._batches.get(source)
            if batch is None:
                batch = self._batches[source] = _AcceptedBatch(send_at=self._now + ACCEPTED_DELAY)
            batch.messages.extend(message.messages)
            if len(batch.messages) >= ACCEPTED_BATCH:
                self._flush(source)
        else:
            self._send_to_source(source, message)
        return True

    def _flush(self, source: Source) -> None:
        self._send_to_source(source, Accepted(tuple(self._batches.pop(source).messages)))

    def _send_to_source(self, source: Source, message: Message) -> None:
        kind, key = source
        if kind == "client" and key in self._delivery.clients:
            self._effects.append(ToClient(key, message))
        elif kind == "link" and key in self._links:
            self._effects.append(ToLink(key, message))

    # --- services of this host ---------------------------------------------------------------------------------------------------------------

    def from_client(self, key: bytes, message: Message, now: float) -> None:
        """A service of this host said something."""
        self._now = now
        if isinstance(message, Hello):
            self._client_joined(key, message, now)
        elif isinstance(message, Inspect):
            self._effects.append(ToClient(key, Report(message.token, self._answer(message, now))))
        elif key not in self._delivery.clients:
            if not isinstance(message, Bye | Pong):
                self._effects.append(ToClient(key, WhoAreYou()))
        else:
            self._from_known_client(key, message, now)

    def _from_known_client(self, key: bytes, message: Message, now: float) -> None:
        if isinstance(message, Parcel):
            self.counters["from_services"] += 1
            self.counters["bytes_from_services"] += len(message.body)
            self._forwarding.submit(message, ("client", key), now)
        elif isinstance(message, Accepted):
            self._delivery.accept(key, message.messages, now)
        elif isinstance(message, Credit):
            self._delivery.credit(key, message, now)
        elif isinstance(message, Consume) and (fault := self._delivery.why_not_consume(key, message.addresses)):
            self.refused(f"service {key.hex()}", fault, now)
        elif isinstance(message, Consume):
            self._delivery.consume(key, message.addresses, now)
            self._effects.append(ToClient(key, Consuming(message.revision)))
            self._consumers_changed(now)
        elif isinstance(message, Tap) and (fault := self._taps.why_not(message.addresses)):
            self.refused(f"service {key.hex()}", fault, now)
        elif isinstance(message, Tap):
            self._taps.tap(key, message)
        elif isinstance(message, Ping):
            self._effects.append(ToClient(key, Pong(message.stamp)))
        elif isinstance(message, Bye):
            self._client_left(key, now, certain=True)
        elif not isinstance(message, Pong):
            self.refused(f"service {key.hex()}", f"{type(message).__name__} is not for a receiver", now)

    def _client_joined(self, key: bytes, hello: Hello, now: float) -> None:
        if hello.role != "service" or hello.host != self._settings.host:
            fault = f"it runs with rpc_zmq_host {hello.host!r}, its receiver with {self._settings.host!r}; it is not served"
        else:
            fault = self._why_no_more(key, hello) or self._delivery.why_not_join(hello)
        if fault:
            self.refused(f"service {hello.name or hello.incarnation} (pid {hello.pid})", fault, now)
            self._effects.append(ToClient(key, Bye()))
            return
        if key in self._delivery.clients:
            self._delivery.leave(key, now)
        self._taps.leave(key)
        self._effects.append(ToClient(key, Welcome(self._settings.host, self._settings.incarnation)))
        self._delivery.join(key, hello, now)
        self._say(logging.INFO, f"service {hello.name or hello.incarnation} (pid {hello.pid}) connected")

    def _why_no_more(self, key: bytes, hello: Hello) -> str:
        clients = self._delivery.clients
        if key in clients:
            return "" if clients[key].origin == hello.incarnation else "it was another process before, on the same connection"
        return f"{MAX_CLIENTS} processes of this host are connected already" if len(clients) >= MAX_CLIENTS else ""

    def client_gone(self, key: bytes, now: float) -> None:
        """The connection of a service is gone."""
        self._now = now
        if key in self._delivery.clients:
            self._client_left(key, now, certain=False)

    def _client_left(self, key: bytes, now: float, *, certain: bool) -> None:
        client = self._delivery.clients[key]
        self._delivery.leave(key, now, certain=certain)
        self._taps.leave(key)
        self._batches.pop(("client", key), None)
        how = "left" if certain else "is gone"
        self._say(logging.INFO, f"service {client.name or client.origin} (pid {client.pid}) {how}")
        self._consumers_changed(now)

    def _consumers_changed(self, now: float) -> None:
        """Services of this host may consume something else than before: messages of this host know at once, other hosts soon."""
        consumed = self._delivery.consumed()
        if consumed == self._announcement:
            return
        self._announcement = consumed
        self._forwarding.announced(self._settings.host, consumed, now)
        self._tell_matchmaker(now)
        self._announce_at = now + ANNOUNCE_DELAY if self._announce_at is None else min(self._announce_at, now + ANNOUNCE_DELAY)

    def _tell_matchmaker(self, now: float) -> None:
        self._forwarding.matchmaker.consumed_here(frozenset(self._announcement), complete=self._delivery.all_back(now))

    def _announce(self, now: float) -> None:
        self._tell_matchmaker(now)
        self._announce_at = None if self._delivery.all_back(now) else self._delivery.all_back_at
        announcement = self._what_is_consumed(now)
        self._effects.extend(ToLink(link, announcement) for link in self._links)

    def _what_is_consumed(self, now: float) -> Announce:
        return Announce(self._announcement, self._delivery.all_back(now))

    # --- other hosts' receivers, on connections that they made ---------------------------------------------------------------------------------

    def from_link(self, link: bytes, message: Message, now: float) -> None:
        """Another host's receiver said something on the connection that it made."""
        self._now = now
        if isinstance(message, Hello):
            if message.role != "receiver":
                self.refused(f"link {link.hex()}", "it is not a receiver", now)
                return
            known = self._links.get(link)
            if known is not None and known.host != message.host:
                self.refused(f"receiver of {known.host}", f"it now calls itself {message.host}", now)
                return
            self._drop_links_before(message, now)
            if link not in self._links and len(self._links) >= MAX_LINKS:
                self.refused(f"receiver of {message.host}", f"{MAX_LINKS} receivers are connected already", now)
                return
            self._links[link] = _Link(message.host, message.incarnation, now)
            self.dial_soon(message.host, now)
            self._effects.append(ToLink(link, Welcome(self._settings.host, self._settings.incarnation)))
            self._effects.append(ToLink(link, self._what_is_consumed(now)))
            if self._forwarding.matchmaker.dials_back and not self._forwarding.is_here(message.host):
                self._forwarding.target(message.host, now)
            return
        if link not in self._links:
            if not isinstance(message, Bye):
                self._effects.append(ToLink(link, WhoAreYou()))
            return
        self._links[link].heard_at = now
        if isinstance(message, Parcel):
            self.counters["from_peers"] += 1
            self.counters["bytes_from_peers"] += len(message.body)
            self._parcel_from_link(link, message, now)
        elif isinstance(message, Seek):
            self._effects.append(ToLink(link, self._forwarding.find_host(message, now)))
        elif isinstance(message, Ping):
            self._effects.append(ToLink(link, Pong(message.stamp)))
        elif isinstance(message, Bye):
            self.link_gone(link, now)
        else:
            self.refused(f"receiver of {self._links[link].host}", f"{type(message).__name__} is not for the receiver that was connected to", now)

    def _drop_links_before(self, hello: Hello, now: float) -> None:
        """Hear nothing more on earlier connections of the same receiver: what was said there and is read only now was sent again since."""
        for key, link in list(self._links.items()):
            if (link.host, link.incarnation) == (hello.host, hello.incarnation):
                self.link_gone(key, now)

    def _parcel_from_link(self, link: bytes, parcel: Parcel, now: float) -> None:
        envelope = parcel.envelope
        if envelope.host == self._settings.host:
            self._delivery.arrive(parcel, link, now)
        elif not envelope.host:
            self._forwarding.submit(parcel, ("link", link), now)
        else:
            text = f"it is for host {envelope.host} and came to {self._settings.host}: check the name resolution of {self._links[link].host}"
            self._effects.append(ToLink(link, Returned(envelope.id, protocol.WRONG_HOST, text)))

    def link_gone(self, link: bytes, now: float) -> None:
        """A connection that another host's receiver made is gone."""
        self._now = now
        self._links.pop(link, None)
        self._batches.pop(("link", link), None)

    # --- other hosts' receivers, on connections that we made ------------------------------------------------------------------------------------

    def peer_connected(self, host: str, address: str, now: float) -> None:
        """The connection to `host` that was asked for with `Dial` is there."""
        self._now = now
        peer = self._peers.get(host)
        if peer is None or peer.state is not PeerState.DIALLING:
            return
        peer.address = address
        peer.heard_at = now
        self._set_state(peer, PeerState.GREETING, now)
        self._effects.append(ToPeer(host, Hello("receiver", self._settings.host, self._settings.incarnation, pid=self._settings.pid)))

    def peer_lost(self, host: str, why: str, now: float) -> None:
        """The connection to `host` broke, or the attempt to make one failed."""
        self._now = now
        peer = self._peers.get(host)
        if peer is None or peer.state is PeerState.DOWN:
            return
        was_up = peer.state is PeerState.UP
        first_time = not peer.why_down
        self._effects.append(HangUp(host))
        self._set_state(peer, PeerState.DOWN, now)
        if was_up:
            peer.redial_pause = FIRST_REDIAL
        peer.redial_at = now + peer.redial_pause
        peer.redial_pause = min(LONGEST_REDIAL, peer.redial_pause * 2)
        peer.round_trip = None
        if was_up or first_time or why != peer.why_down:
            self._say(logging.WARNING, f"host {host} is down: {why}; trying again")
        peer.why_down = why
        self._forwarding.host_down(host, why, now)

    def dial_soon(self, host: str, now: float) -> None:
        """Wait no longer with the next attempt to reach `host`, if it is down."""
        known = self._peers.get(host)
        if known is not None:
            known.redial_at = now

    def from_peer(self, host: str, message: Message, now: float) -> None:
        """Another host's receiver said something on the connection that we made."""
        self._now = now
        peer = self._peers.get(host)
        if peer is None or peer.state in (PeerState.DOWN, PeerState.DIALLING):
            return
        peer.heard_at = now
        if isinstance(message, Welcome):
            self._welcomed(peer, message, now)
        elif isinstance(message, WhoAreYou):
            self.peer_lost(host, "it forgot us", now)
        elif isinstance(message, Bye):
            self.peer_lost(host, "it was shut down", now)
        elif isinstance(message, Pong):
            peer.round_trip = now - message.stamp / 1e6
        elif isinstance(message, Accepted | Returned | Held | Assigned):
            self._forwarding.verdict(host, message, now)
        elif isinstance(message, Announce):
            self._forwarding.announced(host, message.addresses, now, complete=message.complete)
        else:
            self.refused(f"receiver of {host}", f"{type(message).__name__} is not for the receiver that connected", now)

    def same_place(self, host: str, other: str, address: str, now: float) -> None:
        """`host`, which was to be dialled, is where `other` is connected already: it is its address, or the names are mixed up."""
        self._now = now
        if host in self._peers and _is_address(host) and not _is_address(other):
            self._is_called(host, other, now)
        else:
            self.peer_lost(host, f"it has the same address as host {other}: {address}", now)

    def _is_called(self, address: str, host: str, now: float) -> None:
        self._effects.append(HangUp(address))
        del self._peers[address]
        self._forwarding.is_called(address, host, now)

    def _welcomed(self, peer: Peer, welcome: Welcome, now: float) -> None:
        if welcome.host != peer.host and _is_address(peer.host):
            self._is_called(peer.host, welcome.host, now)
            return
        if welcome.host != peer.host:
            why = f"whoever answers at {peer.address} calls itself {welcome.host!r}: check name resolution, and rpc_zmq_host there"
            self.peer_lost(peer.host, why, now)
            return
        if peer.state is PeerState.UP:
            return
        peer.why_down = ""
        peer.redial_pause = FIRST_REDIAL
        self._set_state(peer, PeerState.UP, now)
        self._say(logging.INFO, f"host {peer.host} is up at {peer.address}")
        self._forwarding.host_up(peer.host, welcome.incarnation, now)

    @staticmethod
    def _set_state(peer: Peer, state: PeerState, now: float) -> None:
        peer.state = state
        peer.since = now

    def _dial_known_hosts(self, now: float) -> None:
        for host in sorted(self._forwarding.matchmaker.hosts()):
            if not self._forwarding.is_here(host):
                self._forwarding.target(host, now)
        self._look_after_peers(now)

    def _look_after_peers(self, now: float) -> None:
        """Dial hosts for which there are messages or which the MatchMaker knows, notice the silent ones, forget the unused ones."""
        for host in self._forwarding.targets:
            if host not in self._peers and host != self._settings.host:
                self._peers[host] = Peer(host, PeerState.DOWN, now, now, now)
        known = set(map(self._forwarding.name_of, self._forwarding.matchmaker.hosts()))
        if self._forwarding.matchmaker.dials_back:
            known.update(link.host for link in self._links.values())
        for peer in list(self._peers.values()):
            outstanding = self._forwarding.targets[peer.host].outstanding()
            if outstanding:
                peer.used_at = now
            wanted = outstanding or peer.host in known or now - peer.used_at < IDLE_PEER_SECONDS
            if not wanted:
                if peer.state is not PeerState.DOWN:
                    self._effects.append(HangUp(peer.host))
                del self._peers[peer.host]
                self._forwarding.forget_host(peer.host)
            elif peer.state is PeerState.DOWN:
                if now >= peer.redial_at and not self._draining:
                    peer.heard_at = now
                    self._set_state(peer, PeerState.DIALLING, now)
                    self._effects.append(Dial(peer.host))
            elif now - peer.heard_at > SILENT_BEATS * self._settings.heartbeat:
                silent = "no connection" if peer.state is PeerState.DIALLING else "no answer"
                self.peer_lost(peer.host, f"{silent} for {now - peer.heard_at:.1f} s", now)

    # --- time, rings and the end ---------------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._now = now
        if now < self._next_beat:
            return
        self._next_beat = now + min(self._settings.heartbeat, LONGEST_BEAT)
        self._look_after_peers(now)
        self._delivery.tick(now)
        self._forwarding.tick(now)
        for link in [key for key, link in self._links.items() if now - link.heard_at > LINK_BEATS * self._settings.heartbeat]:
            self.link_gone(link, now)
        for bounds in self._bounds():
            for line in bounds.take_lines(now):
                self._say(logging.WARNING, line)
        stamp = int(now * 1e6)
        for peer in self._peers.values():
            if peer.state in (PeerState.UP, PeerState.GREETING) and now - peer.ping_sent_at >= self._settings.heartbeat:
                peer.ping_sent_at = now
                self._effects.append(ToPeer(peer.host, Ping(stamp)))
        if now - self._clients_pinged_at >= self._settings.heartbeat:
            self._clients_pinged_at = now
            self._effects.extend(ToClient(client, Ping(stamp)) for client in self._delivery.clients)

    def replace_matchmaker(self, matchmaker: MatchMaker, now: float) -> None:
        """Go by `matchmaker` from now on."""
        self._now = now
        self._matchmaker_error = ""
        self._forwarding.replace_matchmaker(matchmaker, now)
        self._tell_matchmaker(now)
        self._dial_known_hosts(now)

    def matchmaker_changed(self, now: float) -> None:
        """The MatchMaker, which follows its source by itself, knows something else than before, or has another problem."""
        self._now = now
        matchmaker = self._forwarding.matchmaker
        problem = matchmaker.problem
        if problem != self._matchmaker_problem:
            self._matchmaker_problem = problem
            self._say(logging.WARNING if problem else logging.INFO, f"{matchmaker}: {problem or 'all is well'}; {len(matchmaker.hosts())} hosts")
        self._forwarding.replace_matchmaker(matchmaker, now)
        self._dial_known_hosts(now)

    def matchmaker_failed(self, why: str) -> None:
        """A new MatchMaker could not be made; the old one stays, and status says why."""
        self.counters["ring_reload_errors"] += 1
        self._matchmaker_error = why

    def drain(self, now: float) -> None:
        """Take in nothing new, return what no consumer has in hand, and tell the other hosts to send elsewhere."""
        self._now = now
        self._draining = True
        if self._forwarding.notifications:
            self._say(logging.WARNING, f"{self._forwarding.notifications} notifications to which nobody listens end with this receiver")
        self._delivery.drain()
        for source in list(self._batches):
            self._flush(source)
        self._effects.extend(ToLink(link, Bye()) for link in self._links)

    def farewell(self, now: float) -> None:
        """Say goodbye to everyone: the receiver ends now."""
        self._now = now
        for source in list(self._batches):
            self._flush(source)
        self._effects.extend(ToClient(client, Bye()) for client in self._delivery.clients)
        self._effects.extend(ToPeer(peer.host, Bye()) for peer in self._peers.values() if peer.state is PeerState.UP)

    @property
    def drained(self) -> bool:
        """Whether nothing that arrived waits for its verdict any more."""
        return self._draining and self._delivery.idle and not self._batches

    def refused(self, who: str, fault: str, now: float) -> None:
        """Count frames that were not acceptable, and say so once a heartbeat."""
        self.counters["refused"] += 1
        if now - self._refused_said_at >= self._settings.heartbeat:
            self._refused_said_at = now
            self._say(logging.WARNING, f"refused a message of {who}: {fault} ({self.counters['refused']} refused so far)")

    # --- questions -----------------------------------------------------------------------------------------------------------------------------

    def _answer(self, question: Inspect, now: float) -> str:
        if question.question == "status":
            return json.dumps(self.status(now))
        if question.question == "route":
            return json.dumps(self.route(question.argument, now))
        if question.question == "consumers":
            return json.dumps(self.consumers(question.argument, now))
        return json.dumps({"error": f"unknown question {question.question!r}; there are status, route and consumers"})

    def consumers(self, written: str, now: float) -> dict[str, Any]:
        """Return who consumes an address, written as a JSON array of its parts: its hosts, and the exchanges in which its bare topic is consumed."""
        try:
            address = protocol.read_address(json.loads(written))
        except (ValueError, RecursionError) as error:
            return {"error": f"no address: {error}"}
        return {"hosts": self._forwarding.consumers_of(address, now), "exchanges": self._forwarding.exchanges_of(address)}

    @property
    def matchmaker(self) -> MatchMaker:
        """Return the MatchMaker that is gone by."""
        return self._forwarding.matchmaker

    def status(self, now: float) -> dict[str, Any]:
        """Return what `brokerless status` shows."""
        matchmaker = self._forwarding.matchmaker
        deepest = heapq.nlargest(DEEPEST_QUEUES, self._waiting(), key=lambda queue: queue[1])
        return {
            "host": self._settings.host,
            "version": self._settings.version,
            "incarnation": self._settings.incarnation,
            "pid": self._settings.pid,
            "uptime_seconds": round(now - self._started_at, 3),
            "matchmaker": {
                "name": matchmaker.name,
                "source": matchmaker.source,
                "file": matchmaker.watched_file,
                "error": self._matchmaker_error or matchmaker.problem,
            },
            "ports": list(self._settings.ports),
            "curve": self.curve,
            "peers": [self._peer_status(peer, now) for peer in sorted(self._peers.values(), key=lambda peer: peer.host)],
            "consumers": [
                {"address": str(address), "pid": client.pid, "name": client.name, "credit": client.credit, "in_hand": len(client.in_hand)}
                for client in self._delivery.clients.values()
                for address in sorted(client.addresses, key=str)
            ],
            "queues": [{"address": str(address), "waiting": count, "held_reason": why} for address, count, why in deepest],
            **self.figures(),
        }

    def figures(self) -> dict[str, Any]:
        """Return what is measured, which names no address that only came from outside, and is never larger than a few pages.

        `counters` of what has no kind; `messages`, by side, kind and outcome; `seconds`, a histogram for each stage; `bounds`, how often each was
        hit; `gauges`; `waiting` messages by the reason why; `depths`, the messages that wait for each of the deepest addresses that were consumed
        here, and for all others as `other`; `peer_states`, how many peers are in each.
        """
        waiting: Counter[str] = Counter(dict.fromkeys((FOR_CONSUMER, NO_CONSUMER, NO_HOST), 0))
        depths: Counter[Address] = Counter()
        for address, count, why in self._waiting():
            waiting[why or FOR_CONSUMER] += count
            if address in self._delivery.named:
                depths[address] += count
        deepest = depths.most_common(DEEPEST_QUEUES)
        states = Counter(peer.state for peer in self._peers.values())
        clients = self._delivery.clients.values()
        sides = {"forwarding": self._forwarding.tally, "delivery": self._delivery.tally}
        return {
            "counters": {**self.counters, "tap_copies": self._taps.copies, "tap_lost": self._taps.lost},
            "messages": [
                {"side": side, "kind": kind, "outcome": outcome, "count": count}
                for side, tally in sides.items()
                for kind, outcome, count in tally.messages()
            ],
            "seconds": {stage: histogram.written() for tally in sides.values() for stage, histogram in tally.seconds.items()},
            "bounds": dict(sum((bounds.counts for bounds in self._bounds()), Counter())),
            "gauges": {
                "services": len(clients),
                "consumers": sum(1 for client in clients for address in client.addresses if address.topic != REPLIES_TOPIC),
                "in_hand": sum(len(client.in_hand) for client in clients),
                "credit": sum(client.credit for client in clients),
                "links": len(self._links),
                "ring_hosts": len(self.matchmaker.hosts()),
                "ring_faulty": int(bool(self._matchmaker_error)),
            },
            "waiting": dict(waiting),
            "depths": {str(address): count for address, count in deepest} | {"other": waiting.total() - sum(count for _address, count in deepest)},
            "peer_states": {state.value: states[state] for state in PeerState},
        }

    def _bounds(self) -> Iterable[Bounds]:
        return (self._forwarding.tally.bounds, self._delivery.tally.bounds)

    def _waiting(self) -> Iterable[tuple[Address, int, str]]:
        """Yield the addresses for which messages wait, how many, and the reason, empty if consumers are just slow."""
        for queue in self._delivery.queues():
            if queue.waiting:
                yield queue.address, len(queue.waiting), "" if queue.clients else NO_CONSUMER
        for address, count in self._forwarding.homeless():
            yield address, count, NO_HOST

    def _peer_status(self, peer: Peer, now: float) -> dict[str, Any]:
        return {
            "host": peer.host,
            "state": peer.state.value if not peer.why_down else f"{peer.state.value} ({peer.why_down})",
            "address": peer.address,
            "seconds_in_state": round(now - peer.since, 3),
            "outstanding": self._forwarding.targets[peer.host].outstanding(),
            "round_trip_ms": None if peer.round_trip is None else round(peer.round_trip * 1000, 3),
        }

    def route(self, topic: str, now: float) -> dict[str, Any]:
        """Return what `brokerless ring show TOPIC` shows."""
        matchmaker = self._forwarding.matchmaker
        try:
            address = parse_address(topic)
        except TopicError as error:
            return {"error": str(error)}
        route, obstacles, next_host = self._forwarding.route_of(address, now)
        return {
            "topic": str(address),
            "matchmaker": str(matchmaker),
            "kind": "fanout" if address.fanout else "directed" if address.server else "bare",
            "hosts": [{"host": host, "state": obstacle or "up", "next": host == next_host} for host, obstacle in obstacles],
            "via": route.broker or None,
            "problem": route.problem or None,
        }


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
