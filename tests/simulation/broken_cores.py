# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Cores that are broken on purpose, each in one place: what the simulation must notice, or it proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from brokerless.rpc import protocol
from brokerless.rpc.driver.session import Session
from brokerless.rpc.receiver.delivery import Delivery
from brokerless.rpc.receiver.forwarding import Forwarding
from brokerless.rpc.receiver.origins import Origins
from promises import ALIVE_FIRST, BOUNDED, IN_ORDER, NEVER_SILENTLY_LOST, NEVER_TWICE, NO_LEAK
from schedule import Outcome, plan, run

SMALL = 6
"""Only seeds with at most so many hosts are tried, since they are fast."""


@dataclass(frozen=True)
class BrokenCore:
    """How a core is broken, the promises of which one must be seen to be broken then, and what of a plan is overruled so that it is seen soon."""

    broken: Callable[[], AbstractContextManager[None]]
    promises: frozenset[str]
    focus: dict[str, Any]


BROKEN_CORES: dict[str, BrokenCore] = {}


def _broken(name: str, promises: set[str], **focus: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function that stands in for a method. It gets the original method first; its name is `Class__method`."""

    def register(stand_in: Callable[..., Any]) -> Callable[..., Any]:
        class_name, _separator, method = stand_in.__name__.partition("__")
        owner = {"Delivery": Delivery, "Forwarding": Forwarding, "Origins": Origins, "Session": Session}[class_name]

        @contextmanager
        def broken() -> Iterator[None]:
            original = getattr(owner, method)
            setattr(owner, method, lambda *arguments, **named: stand_in(original, *arguments, **named))
            try:
                yield
            finally:
                setattr(owner, method, original)

        BROKEN_CORES[name] = BrokenCore(broken, frozenset(promises), focus)
        return stand_in

    return register


def first_caught(name: str, seeds: range) -> tuple[int, Outcome] | None:
    """Run `seeds` with a broken core until one breaks a promise that it must, which it keeps with a whole one; return how many ran, and that one."""
    broken_core = BROKEN_CORES[name]
    small = [seed for seed in seeds if plan(seed).hosts <= SMALL]
    for ran, seed in enumerate(small, start=1):
        with broken_core.broken():
            outcome = run(seed, **broken_core.focus)
        if outcome.broken is not None and outcome.broken.promise in broken_core.promises and run(seed, **broken_core.focus).broken is None:
            return ran, outcome
    return None


@_broken("a receiver forgets what it took", {NEVER_TWICE})
def Delivery__arrive(original: Any, self: Delivery, parcel: Any, back: Any, now: float) -> None:  # noqa: N802 - says what it stands in for
    self._seen.discard(parcel.envelope.id)
    original(self, parcel, back, now)


@_broken("a driver forgets what it took", {NEVER_TWICE})
def Session___parcel(original: Any, self: Session, parcel: Any, now: float) -> None:  # noqa: N802
    self._seen.discard(parcel.envelope.id)
    original(self, parcel, now)


@_broken("credit is not counted", {BOUNDED})
def Delivery__join(original: Any, self: Delivery, key: bytes, hello: Any, now: float) -> None:  # noqa: N802
    original(self, key, hello, now)
    self.clients[key].credit = 1_000_000


@_broken("a receiver accepts before the consumer did", {NEVER_SILENTLY_LOST})
def Delivery___hand_over(original: Any, self: Delivery, queue: Any, now: float) -> None:  # noqa: N802
    original(self, queue, now)
    for client in list(self.clients.values()):
        self.accept(client.key, list(client.in_hand), now)


@_broken(
    "order is ignored",
    {IN_ORDER},
    faults=("many messages at once", "a consumer is stuck"),
    backlog=4,
    windows=(1,),
    kind="stub",
    seconds=10.0,
    faults_per_second=2.0,
    longest_fault=1.0,
)
def Forwarding___written(original: Any, self: Forwarding, *arguments: Any) -> Any:  # noqa: N802
    return replace(original(self, *arguments), after=0)


@_broken("a message moves on without certainty", {NEVER_TWICE})
def Forwarding__host_down(original: Any, self: Forwarding, host: str, why: str, now: float) -> None:  # noqa: N802
    for lane in self.target(host, now).lanes.values():
        for copy in lane.sent.values():
            copy.sent_to = None
    original(self, host, why, now)


@_broken("nothing is sent again", {NEVER_SILENTLY_LOST})
def Forwarding__host_up(original: Any, self: Forwarding, host: str, incarnation: str, now: float) -> None:  # noqa: N802
    for lane in self.target(host, now).lanes.values():
        lane.sent.clear()
    original(self, host, incarnation, now)


@_broken(
    "what a lost client had in hand is forgotten",
    {NEVER_SILENTLY_LOST, NO_LEAK},
    faults=("the connection of a process breaks", "a process stands still"),
    faults_per_second=2.0,
    messages_per_second=40.0,
    windows=(64,),
)
def Delivery__leave(original: Any, self: Delivery, *arguments: Any, **named: Any) -> None:  # noqa: N802
    original(self, *arguments, **named)
    self._limbo.clear()


@_broken(
    "a receiver that was restarted waits for no one",
    {NEVER_TWICE},
    faults=("a receiver is killed",),
    faults_per_second=2.0,
    longest_fault=1.0,
    messages_per_second=40.0,
    seconds=10.0,
    processes=3,
    windows=(64,),
    kind="fanout-ring",
    topics=1,
)
def Delivery__all_back(original: Any, self: Delivery, now: float) -> bool:  # noqa: N802
    return True


@_broken("a driver forgets the host of its message", {NEVER_TWICE})
def Session___assigned(original: Any, self: Session, *arguments: Any) -> None:  # noqa: N802
    return


@_broken("a receiver forgets the host of a message", {NEVER_TWICE})
def Origins__went(original: Any, self: Origins, *arguments: Any) -> None:  # noqa: N802
    return


@_broken(
    "queues have no bound",
    {BOUNDED},
    faults=("many messages at once", "a consumer is stuck"),
    faults_per_second=2.0,
    backlog=4,
    windows=(1,),
    processes=1,
    under_way=1000,
    kind="stub",
)
def Delivery____init__(original: Any, self: Delivery, host: str, backlog: int, *rest: Any) -> None:  # noqa: N802
    original(self, host, 1_000_000, *rest)


@_broken("a host that is down counts as up", {ALIVE_FIRST})
def Forwarding___obstacle(original: Any, self: Forwarding, host: str, *rest: Any) -> Any:  # noqa: N802
    known = self.targets.get(host)
    return None if known is not None and known.incarnation is None else original(self, host, *rest)


@_broken(
    "what a dead consumer had in hand is given to another",
    {NEVER_TWICE},
    faults=("a process is killed",),
    faults_per_second=2.0,
    messages_per_second=40.0,
    windows=(64,),
    kind="fanout-ring",
    topics=1,
    seconds=10.0,
)
def Delivery___end_unheard(original: Any, self: Delivery, arrival: Any, reason: str, text: str) -> None:  # noqa: N802
    original(self, arrival, protocol.NO_CONSUMER if reason == protocol.CONSUMER_GONE else reason, text)


@_broken("where messages went is never forgotten", {NO_LEAK})
def Origins__forget(original: Any, self: Origins, now: float) -> None:  # noqa: N802
    return


@_broken(
    "a fanout that is not taken everywhere is called handed over",
    {NEVER_SILENTLY_LOST},
    faults=("a receiver is restarted", "a consumer is stuck", "a process stands still"),
    faults_per_second=2.0,
    messages_per_second=40.0,
    windows=(1, 4),
    processes=3,
    topics=1,
    kind="fanout-ring",
)
def Delivery___end_taken(original: Any, self: Delivery, arrival: Any, *rest: Any) -> None:  # noqa: N802
    arrival.cut_short = False
    original(self, arrival, *rest)
