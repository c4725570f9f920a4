# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""All that can go wrong in a simulated world, by name. Each fault is caused once, at places of chance, and mended after a while."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from brokerless.rpc.topics import Address
from promises import Ledger
from world import Host, Service, World

Mend: TypeAlias = "Callable[[], None] | None"
Fault: TypeAlias = "Callable[[Chaos], Mend]"

FAULTS: dict[str, Fault] = {}
RARE = frozenset({"a host crashes", "a clock jumps", "hosts join and leave the ring"})
"""Faults after which much can't be demanded any more: most schedules are without them."""


def _fault(name: str) -> Callable[[Fault], Fault]:
    def register(fault: Fault) -> Fault:
        FAULTS[name] = fault
        return fault

    return register


class Chaos:
    """What faults need to know of the world, and how they tell the ledger what can't be demanded any more."""

    def __init__(self, world: World, ledger: Ledger, chance: random.Random, start: Callable[[Service], None], burst: Callable[[], None]) -> None:
        """`start` starts a process like the given one, which is gone; `burst` sends many messages at once."""
        self.world = world
        self.ledger = ledger
        self.chance = chance
        self.start = start
        self.burst = burst
        self._mends: dict[int, Callable[[], None]] = {}
        self._count = 0
        self._busy: set[object] = set()
        self.ring_changes = 0
        self.ring_files = 0
        self.read_files: dict[str, int] = {}

    def cause(self, name: str, longest: float) -> None:
        """Cause a fault, to be mended within `longest` seconds."""
        mend = FAULTS[name](self)
        if mend is None:
            return
        self._count += 1
        self._mends[self._count] = mend
        self.world.after(self.chance.choice([0.1, 0.5, 1.0]) * self.chance.uniform(0.05, longest), self._mend, self._count)

    def say(self, text: str) -> None:
        """Let the story tell of a fault, or of its end."""
        if self.ledger.curious:
            self.ledger._note(f"* {text}")

    def _mend(self, number: int) -> None:
        mend = self._mends.pop(number, None)
        if mend is not None:
            mend()

    def mend_all(self) -> None:
        """Mend whatever is broken."""
        for number in list(self._mends):
            self._mend(number)

    def reserve(self, thing: object) -> bool:
        """Whether `thing` is whole, and mine to break until it is released."""
        if thing in self._busy:
            return False
        self._busy.add(thing)
        return True

    def release(self, thing: object) -> None:
        """Let others break `thing`."""
        self._busy.discard(thing)

    def host(self) -> Host:
        """Return some host."""
        return self.chance.choice(list(self.world.hosts.values()))

    def pair(self) -> tuple[str, str]:
        """Return two hosts, if there are so many."""
        names = list(self.world.hosts)
        first = self.chance.choice(names)
        known = list(self.world.hosts[first].peers) or names
        return first, self.chance.choice([name for name in known if name != first] or names)

    def service(self) -> Service | None:
        """Return some process that is alive."""
        return self.chance.choice(self.world.services) if self.world.services else None


@_fault("a receiver is killed")
def kill_receiver(chaos: Chaos) -> Mend:
    host = chaos.host()
    if host.core is None or host.frozen or not chaos.reserve(host):
        return None
    chaos.say(f"the receiver of {host.name} is killed")
    chaos.world.kill_receiver(host.name)
    return lambda: _start_receiver(chaos, host)


def _start_receiver(chaos: Chaos, host: Host) -> None:
    chaos.release(host)
    if host.core is None:
        chaos.say(f"the receiver of {host.name} is started")
        chaos.world.start_receiver(host.name)


@_fault("a receiver is restarted")
def restart_receiver(chaos: Chaos) -> Mend:
    host = chaos.host()
    if host.core is None or host.frozen or not chaos.reserve(host):
        return None
    chaos.say(f"the receiver of {host.name} is told to end")
    chaos.world.stop_receiver(host.name, give_up_after=chaos.chance.choice([0.2, 5.0]))
    return lambda: _start_when_gone(chaos, host)


def _start_when_gone(chaos: Chaos, host: Host) -> None:
    if host.core is None:
        _start_receiver(chaos, host)
    else:
        chaos.world.after(0.1, _start_when_gone, chaos, host)


@_fault("a process is killed")
def kill_service(chaos: Chaos) -> Mend:
    service = chaos.service()
    if service is None:
        return None
    chaos.say(f"process {service.origin[-4:]} on {service.host} is killed")
    kill_one(chaos, service)
    return lambda: chaos.start(service)


def kill_one(chaos: Chaos, service: Service) -> None:
    """Kill a process, and demand nothing of what it may have had in hand."""
    chaos.world.kill_service(service)
    chaos.ledger.process_ended(service)
    chaos.ledger.excuse("a consumer of it was killed", [*service.addresses, Address("zmq_replies", server=service.origin)])


@_fault("a process is restarted")
def restart_service(chaos: Chaos) -> Mend:
    service = chaos.service()
    if service is None or not chaos.reserve(service):
        return None
    chaos.say(f"process {service.origin[-4:]} on {service.host} is told to end")
    service.consume([])
    chaos.world.after(0.1, _end_when_idle, chaos, service, chaos.world.now + 20.0)
    return lambda: chaos.start(service)


def _end_when_idle(chaos: Chaos, service: Service, give_up_at: float) -> None:
    if not service.alive:
        return
    idle = service.worked == len(service.requests) and not service.session.unsettled
    if (idle and service.session.ready and service.takes) or chaos.world.now >= give_up_at:
        chaos.say(f"process {service.origin[-4:]} on {service.host} ends")
        chaos.world.end_service(service)
        chaos.ledger.process_ended(service)
        # What came when nothing was consumed any more is dropped, as a process does that ends.
        chaos.ledger.excuse("its caller ended", [Address("zmq_replies", server=service.origin)])
    else:
        chaos.world.after(0.1, _end_when_idle, chaos, service, give_up_at)


@_fault("a host crashes")
def crash_host(chaos: Chaos) -> Mend:
    host = chaos.host()
    if host.core is None or host.frozen or not chaos.reserve(host):
        return None
    chaos.say(f"{host.name} crashes")
    services = [service for service in chaos.world.services if service.machine is host]
    chaos.world.kill_receiver(host.name, heard=False)
    host.crashed = True
    for service in services:
        kill_one(chaos, service)

    def boot() -> None:
        _start_receiver(chaos, host)
        for service in services:
            chaos.start(service)

    return boot


@_fault("connections are refused between two hosts")
def refuse(chaos: Chaos) -> Mend:
    first, second = chaos.pair()
    chaos.say(f"{first} and {second} can't connect any more")
    chaos.world.cut_link(first, second)
    return lambda: chaos.world.mend_link(first, second)


@_fault("packets vanish one way")
def vanish_one_way(chaos: Chaos) -> Mend:
    return _vanish(chaos, [chaos.pair()])


@_fault("packets vanish both ways")
def vanish_both_ways(chaos: Chaos) -> Mend:
    first, second = chaos.pair()
    return _vanish(chaos, [(first, second), (second, first)])


@_fault("a host is cut off")
def cut_off(chaos: Chaos) -> Mend:
    name = chaos.host().name
    others = [other for other in chaos.world.hosts if other != name]
    return _vanish(chaos, [(name, other) for other in others] + [(other, name) for other in others])


def _vanish(chaos: Chaos, paths: Sequence[tuple[str, str]]) -> Mend:
    paths = [path for path in paths if path[0] != path[1] and chaos.reserve(path)]
    if not paths:
        return None
    shown = ", ".join(f"{source} → {target}" for source, target in paths[:3])
    chaos.say(f"packets vanish: {shown}{' …' if len(paths) > 3 else ''}")
    for source, target in paths:
        chaos.world.let_vanish(source, target)
        chaos.world.after(3.5 * chaos.world.heartbeat, chaos.world.give_up_silent, source, target)

    def mend() -> None:
        chaos.say(f"packets come again: {shown}")
        for path in paths:
            chaos.release(path)
            chaos.world.let_through(*path)

    return mend


@_fault("a connection between hosts breaks")
def break_link(chaos: Chaos) -> Mend:
    source, target = chaos.pair()
    chaos.say(f"the connection of {source} to {target} breaks")
    chaos.world.break_link(source, target)
    return None


@_fault("the connection of a process breaks")
def break_service(chaos: Chaos) -> Mend:
    service = chaos.service()
    if service is not None and service.takes and not service.machine.frozen:
        chaos.say(f"the connection of process {service.origin[-4:]} on {service.host} breaks")
        chaos.world.break_service(service)
        chaos.ledger.away.setdefault(service, []).append((chaos.world.now, chaos.world.now + 2.0))
    return None


@_fault("a path is slow")
def slow_path(chaos: Chaos) -> Mend:
    path = chaos.pair()
    if not chaos.reserve(("slow", path)):
        return None
    chaos.world.delays[path] = chaos.chance.choice([0.01, 0.2, 1.5])

    def mend() -> None:
        chaos.release(("slow", path))
        del chaos.world.delays[path]

    return mend


@_fault("a consumer is stuck")
def stuck(chaos: Chaos) -> Mend:
    service = chaos.service()
    if service is None or not service.works:
        return None
    chaos.say(f"process {service.origin[-4:]} on {service.host} works no more")
    service.works = False

    def mend() -> None:
        service.works = True

    return mend


@_fault("a process stands still")
def suspend(chaos: Chaos) -> Mend:
    service = chaos.service()
    if service is None or not service.takes or not chaos.reserve(service.machine):
        return None
    chaos.say(f"process {service.origin[-4:]} on {service.host} stands still")
    service.takes = False
    began = chaos.world.now

    def go_on() -> None:
        chaos.release(service.machine)
        chaos.ledger.away.setdefault(service, []).append((began, chaos.world.now + 2.0))
        if service.alive and not service.takes:
            chaos.say(f"process {service.origin[-4:]} on {service.host} goes on")
            service.read_inbox()

    def give_up() -> None:
        if service.alive and not service.takes:
            chaos.say(f"the receiver of {service.host} gives up process {service.origin[-4:]}")
            chaos.world.break_service(service)
            chaos.ledger.excuse("a process stood still", [*service.addresses, Address("zmq_replies", server=service.origin)])

    chaos.world.after(3.5 * chaos.world.heartbeat, give_up)
    return go_on


@_fault("a machine stands still")
def freeze(chaos: Chaos) -> Mend:
    host = chaos.host()
    if host.frozen or host.core is None or not chaos.reserve(host):
        return None
    chaos.say(f"{host.name} stands still")
    began = chaos.world.now
    chaos.world.freeze(host.name)

    def go_on() -> None:
        chaos.release(host)
        chaos.say(f"{host.name} goes on")
        for service in chaos.world.services:
            if service.machine is host and chaos.ledger.started_at[service] >= began:
                chaos.ledger.away.setdefault(service, []).append((began, chaos.world.now + 1.0))
        chaos.world.thaw(host.name)

    return go_on


@_fault("a clock jumps")
def step_clock(chaos: Chaos) -> Mend:
    host = chaos.host()
    # What was taken is remembered for a minute longer than a message may live, of a clock that does not jump further than that.
    seconds = chaos.chance.choice([0.5, 3.0, 20.0, 50.0])
    if host.clock_ahead + seconds > 50.0:
        return None
    chaos.say(f"the clock of {host.name} jumps {seconds} s ahead")
    chaos.ledger.excuse("a clock jumped")
    chaos.world.step_clock(host.name, seconds)
    return None


@_fault("hosts join and leave the ring")
def reload_ring(chaos: Chaos) -> Mend:
    world, chance = chaos.world, chaos.chance
    if not chaos.reserve("ring"):
        return None
    before = world.topics
    after: dict[str, Sequence[str]] = {topic: list(hosts) for topic, hosts in before.items()}
    topic = chance.choice(list(after))
    hosts = list(after[topic])
    outside = [name for name in world.hosts if name not in hosts]
    if outside and chance.random() < 0.5:
        hosts.insert(chance.randrange(len(hosts) + 1), chance.choice(outside))
    elif len(hosts) > 1:
        hosts.remove(chance.choice(hosts))
    after[topic] = hosts
    chaos.say(f"the ring of {topic} becomes {', '.join(hosts[:10])}")
    chaos.ledger.unsure = "the ring was changed"
    chaos.ring_changes += 1
    change = chaos.ring_changes
    _spread(chaos, after)

    def back() -> None:
        chaos.release("ring")
        _spread(chaos, before)
        world.after(1.1, settle)

    def settle() -> None:
        if change == chaos.ring_changes:
            chaos.ledger.unsure = ""

    return back


def _spread(chaos: Chaos, topics: Mapping[str, Sequence[str]]) -> None:
    world = chaos.world
    chaos.ring_files += 1
    chaos.ledger.excuse("the ring was changed")
    for name, host in world.hosts.items():
        world.rings.setdefault(name, world.topics)
        world.after(chaos.chance.uniform(0.0, 1.0), _reload, chaos, host, topics, chaos.ring_files)
    world.topics = topics


def _reload(chaos: Chaos, host: Host, topics: Mapping[str, Sequence[str]], ring_file: int) -> None:
    if ring_file < chaos.read_files.get(host.name, 0):
        return  # a later one was read already
    chaos.read_files[host.name] = ring_file
    chaos.world.rings[host.name] = topics
    chaos.ledger.excuse("the ring was changed")
    if host.core is not None:
        core = host.core
        chaos.world._to_core(host, core, core.replace_matchmaker, chaos.world.matchmaker(host.name))


@_fault("a name can't be resolved")
def unresolvable(chaos: Chaos) -> Mend:
    source, target = chaos.pair()
    if target in chaos.world.unresolvable:
        return None
    chaos.world.unresolvable.add(target)
    chaos.world.break_link(source, target)
    return lambda: chaos.world.unresolvable.discard(target)


@_fault("many messages at once")
def burst(chaos: Chaos) -> Mend:
    chaos.burst()
    return None
