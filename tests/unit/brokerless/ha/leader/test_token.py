# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Replicas and a modelled broker under seeded faults: never do two write at a time, and there is a leader again when all is well."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import pytest
from brokerless.ha.leader.lease import Lease
from brokerless.ha.leader.token import Acknowledge, Action, Publish, Token, TokenHolder, decode_token
from hypothesis import given
from hypothesis import strategies as st

LEASE = 10.0
WALL = 1_700_000_000.0


@dataclass(eq=False)
class Message:
    """A message in the queue of the broker."""

    body: str
    redelivered: bool = False


@dataclass(eq=False)
class Link:
    """A connection with a consumer: what is on its way in either direction, in order."""

    up: deque[Action | str] = field(default_factory=deque)
    down: deque[tuple[int, str, bool]] = field(default_factory=deque)
    unacknowledged: dict[int, Message] = field(default_factory=dict)
    tag: int = 0
    consumes: bool = True


class Broker:
    """A queue with a single active consumer, as RabbitMQ describes it."""

    def __init__(self) -> None:
        self.queue: deque[Message] = deque()
        self.links: list[Link] = []

    def take(self, link: Link) -> None:
        """Take the next thing that a client sent."""
        action = link.up.popleft()
        if isinstance(action, Publish):
            self.queue.append(Message(action.token.encode()))
        elif isinstance(action, Acknowledge):
            del link.unacknowledged[action.tag]  # of an unknown tag a broker complains, and so does this
        elif action == "cancel":
            link.consumes = False
        elif action == "close":
            self.cut(link)
        self.deliver()

    def deliver(self) -> None:
        active = next((link for link in self.links if link.consumes), None)
        while active and self.queue and len(active.unacknowledged) < 50:
            message = self.queue.popleft()
            active.tag += 1
            active.unacknowledged[active.tag] = message
            active.down.append((active.tag, message.body, message.redelivered))

    def cut(self, link: Link) -> None:
        """Learn that a connection is gone: what was not acknowledged goes back to where it was."""
        if link in self.links:
            self.links.remove(link)
            for message in reversed(link.unacknowledged.values()):
                message.redelivered = True
                self.queue.appendleft(message)
            self.deliver()


class Replica:
    """A process; `dead` for ever, `frozen` for a while."""

    def __init__(self, name: str, broker: Broker) -> None:
        self.name = name
        self.broker = broker
        self.holder = TokenHolder(name, Lease(LEASE))
        self.link: Link | None = None
        self.frozen_until = 0.0
        self.dead = False
        self.wall_ahead = 0.0
        self.writes_until = 0.0

    def connect(self, now: float) -> None:
        self.link = Link()
        self.broker.links.append(self.link)
        self.holder.opened(now)
        self.broker.deliver()

    def lose_link(self) -> None:
        if self.link:
            self.link = None
            self.holder.closed("cut")

    def step(self, now: float, deliveries: int) -> None:
        """Do what a turn of the real thread does, with so many of the deliveries that are on their way."""
        if self.link is None:
            return
        wall = WALL + now + self.wall_ahead
        for _each in range(min(deliveries, len(self.link.down))):
            tag, body, redelivered = self.link.down.popleft()
            self.link.up += self.holder.came(tag, body, redelivered, now, wall)
        self.link.up += self.holder.turn(now, wall)

    def resign(self, now: float) -> None:
        if self.link:
            self.link.up += ["cancel", *self.holder.resign(now), "close"]
        self.dead = True


class Story:
    """Three replicas, a broker, and a seed that decides what happens to them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.broker = Broker()
        self.replicas = [Replica(f"r{number}", self.broker) for number in range(3)]
        self.names = 3
        self.stray: list[Link] = []
        self.last_term = 0
        self.writing_until: dict[int, float] = {}

    def run(self, steps: int, *, faults: bool) -> None:
        for _step in range(steps):
            self.now += self.random.choice((0.01, 0.05, 0.2, 0.2, 1.0 if faults else 0.2))
            if faults and self.random.random() < 0.06:
                self.fault()
            for replica in self.replicas:
                self.live(replica)
            for link in [*self.broker.links, *self.stray]:
                while link.up and self.random.random() < 0.8:
                    self.broker.take(link)

    def live(self, replica: Replica) -> None:
        if replica.dead or self.now < replica.frozen_until:
            return
        if replica.link is None and self.random.random() < 0.3:
            replica.connect(self.now)
        # a thread asks whenever it likes, before the connection's own thread has seen anything
        if self.random.random() < 0.5:
            self.write(replica)
        replica.step(self.now, self.random.randrange(4))
        self.write(replica)

    def write(self, replica: Replica) -> None:
        """Begin a write if it is allowed, and check that nobody else's may be going on."""
        lease, wall = replica.holder.lease, WALL + self.now + replica.wall_ahead
        needs = self.random.choice((0.5, 4.0, 8.0))
        if not lease.may_write(self.now, wall, needs):
            return
        term = lease.term
        assert term is not None
        assert term >= self.last_term, f"{replica.name} writes in term {term} after term {self.last_term}"
        others = [until for other, until in self.writing_until.items() if other != term]
        assert all(until <= self.now for until in others), f"{replica.name} writes in term {term} beside another"
        self.last_term = term
        replica.writes_until = max(replica.writes_until, self.now + needs)
        self.writing_until[term] = max(self.writing_until.get(term, 0.0), self.now + needs)

    def fault(self) -> None:
        replica = self.random.choice(self.replicas)
        kind = self.random.choice(("kill", "freeze", "cut here", "cut there", "cut", "restart", "resign", "sleep", "late"))
        if kind == "resign" and replica.writes_until > self.now:
            return  # who is asked to end waits for its calls first
        if kind in {"kill", "resign"} and not replica.dead:
            link = replica.link
            if kind == "kill":
                replica.dead = True
                if link:
                    self.broker.cut(link)
            else:
                replica.resign(self.now)
                if link and self.random.random() < 0.5:
                    self.stray.append(link)
            self.replicas.remove(replica)
            self.replicas.append(Replica(f"r{self.names}", self.broker))
            self.names += 1
        elif kind == "freeze":
            replica.frozen_until = self.now + self.random.choice((1.0, 6.0, 12.0, 40.0))
        elif kind == "sleep":
            replica.wall_ahead += self.random.choice((-500.0, 30.0))
        elif kind == "restart":
            for link in list(self.broker.links):
                self.broker.cut(link)
        elif replica.link:
            # either side may notice first; what a client has sent may still arrive
            if kind in {"cut there", "cut"}:
                self.broker.cut(replica.link)
            if kind in {"cut here", "cut"}:
                self.stray.append(replica.link)
                replica.lose_link()
            if kind == "late":
                self.stray.append(replica.link)
                self.broker.cut(replica.link)

    def heal(self) -> None:
        """The network is well: connections that only one side believes in are noticed, as heartbeats do."""
        for link in self.stray:
            self.broker.cut(link)
        self.stray.clear()
        for replica in self.replicas:
            replica.frozen_until = 0.0
            if replica.link and replica.link not in self.broker.links:
                replica.lose_link()

    def writers(self) -> list[str]:
        return [each.name for each in self.replicas if each.holder.lease.may_write(self.now, WALL + self.now + each.wall_ahead, 1.0)]


@pytest.mark.parametrize("block", range(8))
def test_never_do_two_write_at_a_time(block: int) -> None:
    """A failing seed is in the message, and `Story(seed)` tells it again."""
    for seed in range(block * 40, block * 40 + 40):
        story = Story(seed)
        try:
            for _round in range(4):
                story.run(60, faults=True)
                story.heal()
                story.run(150, faults=False)
                assert len(story.writers()) == 1, "nobody leads although all is well"
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def settled(story: Story) -> Replica:
    story.run(200, faults=False)
    (name,) = story.writers()
    return next(each for each in story.replicas if each.name == name)


def test_who_resigns_is_followed_at_once() -> None:
    story = Story(1)
    leader = settled(story)
    story.writing_until.clear()  # it has waited for its calls
    leader.resign(story.now)
    began = story.now
    while not [name for name in story.writers() if name != leader.name]:
        story.run(1, faults=False)
        assert story.now < began + LEASE / 2, "the successor waits although the leader resigned"


def test_who_is_killed_is_followed_after_a_lease() -> None:
    story = Story(2)
    leader = settled(story)
    term = leader.holder.lease.term
    assert term is not None
    leader.dead = True
    assert leader.link
    story.broker.cut(leader.link)
    story.replicas.remove(leader)
    successor = settled(story)
    assert (successor.holder.lease.term or 0) > term


def test_little_is_left_in_the_queue() -> None:
    story = Story(3)
    leader = settled(story)
    story.run(2000, faults=False)
    assert leader.link
    assert len(leader.link.unacknowledged) + len(story.broker.queue) < 10
    assert all(len(each.holder._sent) < 30 for each in story.replicas)


@given(st.binary(max_size=80) | st.text(max_size=80))
def test_any_bytes_are_a_token_or_none(body: bytes | str) -> None:
    assert decode_token(body) is None


@pytest.mark.parametrize(
    "body",
    [
        '{"format": 2, "by": "x", "number": 1, "term": 1}',
        '{"format": 1, "by": 3, "number": 1, "term": 1}',
        '{"format": 1, "by": "x", "number": true, "term": 1}',
        '{"format": 1, "by": "x", "number": 1, "term": -1}',
        '{"format": 1, "by": "x", "number": 1, "term": 99999999999999}',
        "[" * 900,
        " " * 2000,
    ],
)
def test_what_is_no_token_is_acknowledged_and_changes_nothing(body: str) -> None:
    holder = TokenHolder("r", Lease(LEASE))
    holder.opened(0.0)
    assert list(holder.came(7, body, False, 0.0, WALL)) == [Acknowledge(7)]
    assert holder.lease.term is None


def test_a_token_is_read_as_it_was_written() -> None:
    token = Token("host/1", 3, 5, resigned=True)
    assert decode_token(token.encode()) == token
    assert decode_token(token.encode().encode()) == token


def test_a_token_of_a_later_term_ends_ours() -> None:
    holder = TokenHolder("r", Lease(LEASE))
    holder.opened(0.0)
    (mine,) = holder.turn(0.0, WALL)
    assert isinstance(mine, Publish)
    list(holder.came(1, mine.token.encode(), False, 0.1, WALL))
    assert holder.lease.term is not None
    later = Token("other", 1, holder.lease.term + 1)
    assert list(holder.came(2, later.encode(), False, 0.2, WALL)) == []
    assert holder.lease.lost.endswith(f"another replica leads in term {later.term}")


@pytest.mark.parametrize(("redelivered", "resigned_term", "waits"), [(False, 7, False), (True, 7, True), (False, 6, True)])
def test_only_the_last_word_of_the_last_leader_is_believed(redelivered: bool, resigned_term: int, waits: bool) -> None:
    """One that was delivered before may have let another lead already; one of an earlier term says nothing about the later."""
    holder = TokenHolder("r", Lease(LEASE))
    holder.opened(0.0)
    (knock,) = holder.turn(0.0, 0.0)
    assert isinstance(knock, Publish)
    list(holder.came(1, Token("other", 1, 7).encode(), True, 0.1, 0.1))
    list(holder.came(2, Token("another", 9, resigned_term, resigned=True).encode(), redelivered, 0.1, 0.1))
    (first,) = (each for each in holder.came(3, knock.token.encode(), False, 0.2, 0.2) if isinstance(each, Publish))
    assert not holder.lease.may_write(0.2, 0.2, 1.0), "no token with our term has come back yet"
    assert first.token.term == 8
    assert list(holder.came(4, first.token.encode(), False, 0.3, 0.3)) == [Acknowledge(1), Acknowledge(2)]
    assert holder.lease.may_write(0.3, 0.3, 1.0) is not waits
