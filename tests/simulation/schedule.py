# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""One seed: a world, what its processes do, what goes wrong, and whether the promises were kept.

The seed decides everything, so that the same seed is the same story, event by event.
"""

from __future__ import annotations

import random
import traceback
import zlib
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from brokerless.rpc.driver.backlog import Backlog
from brokerless.rpc.envelope import MessageId, Pattern
from brokerless.rpc.topics import Address, parse_topic
from faults import FAULTS, RARE, Chaos
from promises import NEVER_SILENTLY_LOST, NO_CRASH, NO_LEAK, Ledger, PromiseBroken, footprint
from world import MAKE_MATCHMAKER, Request, Service, World

KEPT_ON_PURPOSE = {"_turns": 100, "_settled": 10_000}
"""Tables that stay as they are at rest, and how much they may hold."""
WITH_BROKER = frozenset({"ring", "broker", "scheduler"})


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed decides before anything happens."""

    seed: int
    kind: str
    hosts: int
    knowing: int
    topics: int
    processes: int
    windows: tuple[int, ...]
    backlog: int
    under_way: int
    heartbeat: float
    seconds: float
    messages_per_second: float
    faults_per_second: float
    longest_fault: float
    faults: tuple[str, ...]
    written: bool
    nested: float
    several_directed: bool
    sends_once_more: bool
    tidies_up: bool


def plan(seed: int) -> Plan:
    """Return what `seed` decides."""
    chance = random.Random(f"plan {seed}")  # a text seeds the same on every machine, whatever hashes are
    size = chance.random()
    count = chance.randint(3, 4) if size < 0.85 else chance.randint(5, 10) if size < 0.97 else chance.randint(11, 30)
    if size > 0.998:
        count = chance.randint(100, 320)
    kind = chance.choice([*MAKE_MATCHMAKER, "fanout-ring", "mesh"])
    common = [name for name in FAULTS if name not in RARE]
    faults = chance.sample(common, chance.randint(1, min(7, len(common))))
    if chance.random() < 0.3:
        faults.append(chance.choice(sorted(RARE)))
    large = count > 10
    return Plan(
        seed=seed,
        kind=kind,
        hosts=count,
        # In a large world only some have the whole ring, as controllers do, so that the connections do not grow with the square of the hosts.
        knowing=count if not large else 3,
        topics=chance.choice([1, 1, 2, 3]),
        processes=chance.choice([1, 2, 3]),
        windows=tuple(chance.choice([(64,), (1, 4, 64), (1,), (2, 16)])),
        backlog=chance.choice([4, 16, 256, 4096]),
        under_way=chance.choice([8, 64, 1000]),
        heartbeat=1.0 if not large else 3.0,
        seconds=chance.choice([2.0, 5.0, 10.0]) if not large else 8.0,
        messages_per_second=chance.choice([5.0, 15.0, 40.0]),
        faults_per_second=chance.choice([0.2, 0.7, 2.0]) * (1 if not large else 3),
        longest_fault=chance.choice([1.0, 4.0, 10.0]),
        faults=tuple(faults),
        written=chance.random() < 0.4,
        nested=chance.choice([0.0, 0.2]),
        several_directed=chance.random() < 0.3,
        sends_once_more=chance.random() < 0.4,
        tidies_up=chance.random() < 0.3,
    )


@dataclass(slots=True)
class Outcome:
    """What became of a seed. `digest` is the same whenever the seed is run."""

    plan: Plan
    broken: PromiseBroken | None
    at: float
    events: int
    messages: int
    outcomes: Counter[str]
    digest: int
    story: list[str] = field(default_factory=list)


class Life:
    """What the processes of a world do: they send, work, answer, ask each other, and are restarted."""

    def __init__(self, decided: Plan, *, curious: bool = False) -> None:
        self.plan = decided
        self.chance = random.Random(f"life {decided.seed}")
        self.ledger = Ledger(curious=curious)
        self.ledger.started_at = {}
        self.ledger.away = {}
        names = [f"h{number}" for number in range(1, decided.hosts + 1)]
        self.topics = self._ring(names)
        self.world = World.__new__(World)
        self.ledger.world = self.world
        self.world.__init__(  # type: ignore[misc] # pylint: disable=non-parent-init-called # the ledger looks at it while it is made
            self.topics,
            names,
            decided.backlog,
            names[0] if decided.kind in WITH_BROKER else "",
            chance=random.Random(f"world {decided.seed}"),
            matchmaker=decided.kind,
            heartbeat=decided.heartbeat,
            watcher=self.ledger,
            written=decided.written,
        )
        if decided.knowing < decided.hosts:
            self.world.rings = {name: {} for name in names[decided.knowing :]}
            for name in names:
                self.world.kill_receiver(name)
                self.world.start_receiver(name)
        self.world.on_request = self._work
        self.chaos = Chaos(self.world, self.ledger, random.Random(f"chaos {decided.seed}"), self._start_again, self._burst)
        self.backlogs: dict[Service, Backlog] = {}
        self.counted: dict[MessageId, Address] = {}
        self.callers: dict[MessageId, Request | None] = {}
        self.wanted: dict[Service, tuple[Address, ...]] = {}
        self.unfinished: dict[Service, list[Request]] = {}
        self.calm = False
        self.refused = 0
        self.ledger.widest = max(decided.windows)
        self.ledger.slack = 4 * decided.processes * max(decided.windows)
        self.senders = names[: decided.knowing]
        for name in names:
            self._populate(name)

    # --- who is there ------------------------------------------------------------------------------------------------------------------------

    def _ring(self, names: list[str]) -> dict[str, list[str]]:
        if self.plan.kind == "stub":
            return {name: [name] for name in names}
        ring = {}
        for number in range(self.plan.topics):
            some = self.chance.sample(names, self.chance.randint(1, len(names))) if number else list(names)
            ring[f"topic{number}"] = some
        return ring

    def _populate(self, name: str) -> None:
        topics = list(self.topics) if self.plan.kind == "localhost" else [topic for topic, hosts in self.topics.items() if name in hosts]
        for number in range(self.chance.randint(1, self.plan.processes)):
            consumed = []
            for topic in topics:
                if self.chance.random() < 0.85:
                    consumed += [topic, f"fanout~{topic}"]
                if number == 0 or (self.plan.several_directed and self.chance.random() < 0.5):
                    consumed.append(f"{topic}.{name}")
            self._start(name, consumed)

    def _start(self, name: str, topics: list[str]) -> Service:
        service = self.world.start_service(name, topics, window=self.chance.choice(self.plan.windows))
        self.ledger.started_at[service] = self.world.now
        self.wanted[service] = service.addresses
        self.backlogs[service] = Backlog(self.plan.under_way)
        self.unfinished[service] = []
        most = max((Counter(service.host for service in self.backlogs)).values())
        addresses = 6 * len(self.topics) if self.plan.kind != "stub" else 3 * len(self.topics)
        self.ledger.most_sent = max(self.ledger.most_sent, most * (self.plan.under_way * (addresses + self.plan.hosts) + 10_000))
        return service

    def _start_again(self, gone: Service) -> None:
        self.ledger.excuse("a process was started again", [address for address in self._wanted(gone) if address.fanout])
        self._start(gone.host, list(map(str, self._wanted(gone))))

    def _wanted(self, service: Service) -> tuple[Address, ...]:
        return self.wanted[service]

    # --- what they do ------------------------------------------------------------------------------------------------------------------------

    def go(self) -> None:
        """Let all this happen, and check the promises. Raises `PromiseBroken`."""
        world, chance = self.world, self.chance
        self._warm_up()
        end = world.now + self.plan.seconds
        chaos = self.chaos
        self.ledger.first_fault_at = world.now
        next_message = next_fault = world.now
        while world.now < end:
            if next_message <= next_fault:
                world.advance(max(0.0, next_message - world.now))
                self._send_something()
                next_message += chance.expovariate(self.plan.messages_per_second)
            else:
                world.advance(max(0.0, next_fault - world.now))
                chaos.cause(chaos.chance.choice(self.plan.faults), self.plan.longest_fault)
                next_fault += chaos.chance.expovariate(self.plan.faults_per_second)
        self._calm_down()
        # Both take as long as all that went before, so not every seed does them.
        if self.plan.sends_once_more:
            self._check_that_all_goes_well()
        if self.plan.tidies_up:
            self._check_that_nothing_is_kept()

    def _warm_up(self) -> None:
        self.world.advance(3.5 * self.plan.heartbeat)
        self.at_rest = {name: footprint(core) for name, core in self.world.cores.items()}

    def _calm_down(self) -> None:
        """Mend everything, and let all come to its end."""
        world, ledger = self.world, self.ledger
        self.calm = True
        self.chaos.say("all is mended")
        mended_at = world.now
        self.chaos.mend_all()
        for service in list(world.services):
            service.works = True
            self._go_on(service)
        # looked at anew each time: a call that is answered only now has an answer that lives longer
        while ledger.open and world.now < max(sent.deadline for sent in ledger.open.values()) + 20.0 * self.plan.heartbeat:
            world.advance(1.0)
            for service in list(world.services):
                self._go_on(service)
        ledger.check_ends(mended_at)

    def _check_that_all_goes_well(self) -> None:
        """Send once more to every address, now that all is well: each message must come, and soon."""
        world, ledger = self.world, self.ledger
        world.advance(4.0 * self.plan.heartbeat)
        began = world.now
        sender_hosts = self.senders[:2] + self.senders[-1:]
        for sender in [service for service in world.services if service.host in sender_hosts][:4]:
            for address in self._addresses()[:30]:
                self._send(sender, address, Pattern.CAST, 40.0)
        while ledger.open and world.now < began + 20.0:
            world.advance(0.5)
        for message in [sent for sent in ledger.sent_messages.values() if sent.at >= began and not sent.takers]:
            if ledger.consumers_of(message) and not message.sender.addresses == ():
                raise PromiseBroken(NEVER_SILENTLY_LOST, f"{message} did not come within 20 s though all is well", [message.id])
        while ledger.open and world.now < began + 60.0:
            world.advance(1.0)
        ledger.check_ends(began)

    def _check_that_nothing_is_kept(self) -> None:
        """Check that the cores remember nothing of what is long over."""
        world = self.world
        for seconds in (8.0, 2.0):
            for name in world.hosts:
                world.step_clock(name, 500.0)
            world.advance(seconds * self.plan.heartbeat)
        for name, core in world.cores.items():
            before = self.at_rest[name]
            self._compare(f"the receiver of {name}", before, footprint(core))
        fresh = footprint(World({"topic0": ["h1"]}).start_service("h1").session)
        for service in world.services:
            self._compare(f"a process on {service.host}", fresh, footprint(service.session))

    def _compare(self, what: str, before: dict[str, int], after: dict[str, int]) -> None:
        spare = 2 * self.plan.processes * 3 * len(self.topics) + self.plan.hosts + 6
        for path, size in after.items():
            allowed = next((most for name, most in KEPT_ON_PURPOSE.items() if path.endswith(name)), max(before.get(path, 0), 0))
            is_live = any(part in path for part in ("clients", "_queues", "_addresses", "_peers", "targets", "_links", "_announced"))
            if size > allowed + (spare if is_live else 0) and not path.endswith("lanes"):
                raise PromiseBroken(NO_LEAK, f"{what} keeps {size} things in {path or 'itself'}, at first {before.get(path, 0)}")

    def _addresses(self) -> list[Address]:
        found = dict.fromkeys(parse_topic(f"{kind}{topic}") for topic in self.topics for kind in ("", "fanout~"))
        found |= dict.fromkeys(parse_topic(f"{topic}.{host}") for topic, hosts in self.topics.items() for host in hosts)
        return list(found)

    def _burst(self) -> None:
        address = self.chance.choice(self._addresses())
        senders = [sender for _turn in range(self.chance.choice([1, 2, 3])) if (sender := self._sender()) is not None]
        for _turn in range(self.chance.choice([10, 50, 100])):
            for sender in senders:
                self._send(sender, address, Pattern.CAST, self.chance.choice([3.0, 30.0]))

    def _sender(self) -> Service | None:
        # In a large world those who know the ring, and some who only answer.
        senders = [service for service in self.world.services if service.host in self.senders or self.plan.kind == "stub"]
        return self.chance.choice(senders) if senders else None

    def _send_something(self) -> None:
        sender = self._sender()
        if sender is None:
            return
        topic = self.chance.choice(list(self.topics))
        host = self.chance.choice(self.topics[topic])
        kind = self.chance.random()
        name = topic if kind < 0.4 else f"{topic}.{host}" if kind < 0.8 else f"fanout~{topic}" if kind < 0.97 else "nonsense"
        address = parse_topic(name)
        if self.plan.kind == "stub" and name == "nonsense":
            return
        pattern = Pattern.CAST
        if not address.fanout and self.chance.random() < 0.4:
            pattern = Pattern.CALL
        elif self.chance.random() < 0.1:
            pattern = Pattern.NOTIFICATION
        ttl = 2.0 if name == "nonsense" else self.chance.choice([0.3, 3.0, 20.0, 30.0, 30.0, 30.0])
        self._send(sender, address, pattern, ttl)

    def _send(self, sender: Service, address: Address, pattern: Pattern, ttl: float, about: Request | None = None) -> bool:
        """Send as the driver does: casts are counted, and a caller waits no longer than its time."""
        body = str(MessageId(sender.origin, sender.session._last_number + 1)).encode()
        if pattern is Pattern.CALL:
            number = sender.submit(address, body, pattern, ttl)
            message = MessageId(sender.origin, number)
            self.callers[message] = about
            self.world.after(ttl, self.world._to_process, sender, partial(self._give_up, sender, number))
        elif not self.backlogs[sender].enter(address, 0.0):
            self.refused += 1
            return False
        else:
            number = sender.submit(address, body, pattern, ttl)
            self.counted[MessageId(sender.origin, number)] = address
        self._settle_counts(sender)
        return True

    def _settle_counts(self, sender: Service) -> None:
        for number in list(sender.settled):
            del sender.settled[number]
            address = self.counted.pop(MessageId(sender.origin, number), None)
            if address is not None:
                self.backlogs[sender].leave(address)
        for number in list(sender.answers):
            del sender.answers[number]
            self._answered(sender, number)

    def _give_up(self, caller: Service, number: int, now: float) -> None:
        if MessageId(caller.origin, number) not in self.callers:
            return
        if number in caller.answers:
            return
        self.ledger.given_up(caller, number, caller.session.why_late(now, caller.notes.get(number, "")))
        caller.session.abandon(number)
        self._answered(caller, number)

    def _answered(self, caller: Service, number: int) -> None:
        request = self.callers.pop(MessageId(caller.origin, number), None)
        if request is not None:
            self._finish(caller, request)

    def _work(self, service: Service, request: Request) -> None:
        """Work on a request for a while."""
        self.unfinished[service].append(request)
        seconds = 0.001 if self.calm else self.chance.choice([0.001, 0.01, 0.1, 1.0])
        self.world.after(seconds, self.world._to_process, service, partial(self._worked, service, request))

    def _worked(self, service: Service, request: Request, _now: float) -> None:
        if not service.works or not any(request is other for other in self.unfinished[service]):
            return
        self._settle_counts(service)
        is_call = request.envelope.pattern is Pattern.CALL
        if is_call and not self.calm and self.chance.random() < self.plan.nested:
            address = parse_topic(self.chance.choice(list(self.topics)))
            left = request.deadline - service.now
            if left > 0.5:
                # Who waits for itself is to wait briefly.
                self._send(service, address, Pattern.CALL, min(left * 0.8, 4.0), request)
                return
        self._finish(service, request)

    def _finish(self, service: Service, request: Request) -> None:
        if not any(request is other for other in self.unfinished[service]):
            return
        self.unfinished[service] = [other for other in self.unfinished[service] if other is not request]
        if request.envelope.pattern is Pattern.CALL and service.now < request.deadline:
            service.reply(request, b"answer")
        service.finish(1)

    def _go_on(self, service: Service) -> None:
        """Let a process that was stuck finish what it has."""
        self._settle_counts(service)
        waiting_for = {id(request) for request in self.callers.values()}
        for request in list(self.unfinished[service]):
            if id(request) not in waiting_for:
                self.world._to_process(service, partial(self._worked, service, request))


def run(seed: int, *, curious: bool = False, **decided_here: Any) -> Outcome:
    """Run one seed, and return what became of it. `decided_here` overrules what the seed decides."""
    decided = replace(plan(seed), **decided_here)
    life = Life.__new__(Life)
    broken = None
    try:
        life.__init__(decided, curious=curious)  # type: ignore[misc]
        life.go()
    except PromiseBroken as found:
        broken = found
    except Exception as error:  # noqa: BLE001 - whatever a core raises is what is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        broken = PromiseBroken(
            NO_CRASH, f"{type(error).__name__}: {error}, in {where.name}, line {where.lineno} of {where.filename.rpartition('/')[2]}"
        )
    world, ledger = life.world, life.ledger
    digest = zlib.crc32(
        repr([(sent.id, [taker.origin for taker in sent.takers], sent.failure, sent.settled_at) for sent in ledger.sent_messages.values()]).encode()
    )
    story = ledger.story(broken.messages) if broken is not None and curious else []
    return Outcome(decided, broken, world.now - 1000.0, world.events, len(ledger.sent_messages), ledger.outcomes, digest, story)
