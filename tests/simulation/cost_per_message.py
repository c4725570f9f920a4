# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What a message costs the receivers' cores, from three hosts to a thousand: `python tests/simulation/cost_per_message.py`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "plugins" / "module_utils")]

from brokerless.rpc.envelope import Envelope, MessageId, Pattern  # noqa: E402 - the paths above lead to it
from brokerless.rpc.matchmaker.base import Settings  # noqa: E402
from brokerless.rpc.protocol import Accepted, Announce, Consume, Credit, Hello, Parcel, Pong, Welcome  # noqa: E402
from brokerless.rpc.receiver.core import CoreSettings, ReceiverCore  # noqa: E402
from brokerless.rpc.receiver.effects import Dial, ToClient, ToPeer  # noqa: E402
from brokerless.rpc.topics import Address  # noqa: E402
from world import MAKE_MATCHMAKER  # noqa: E402

SENDER, RECEIVER = "a" * 16, "b" * 16
MESSAGES_PER_SECOND = 2000
"""How many messages the cores carry in a second of their clock, in which they also look after their hosts ten times."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a message for a bare topic costs: the cores of the sender's receiver and the target's, in a cloud of so many hosts.

    `microseconds` of the processor, `calls` of functions and `effects` are per message, from the sender's process to the verdict that it hears,
    and include the heartbeats of all hosts in the meantime. Calls are the same in every run, and as many on every machine.
    """

    matchmaker: str
    hosts: int
    microseconds: float
    calls: float
    effects: float


class _Sender:
    """A receiver whose services send to a topic that every host serves; the other hosts say yes to everything at once."""

    def __init__(self, kind: str, hosts: int) -> None:
        names = [f"h{number}" for number in range(hosts)]
        self.now = 1000.0
        self.core = ReceiverCore(CoreSettings("h0", SENDER), MAKE_MATCHMAKER[kind](Settings("h0"), {"compute": names}), self.now)
        self.consumed = (Address("compute"),)
        self.core.from_client(b"c", Hello("service", "h0", SENDER), self.now)
        self.effects = 0
        self.sent = 0
        self.carry()

    def carry(self) -> None:
        """Do what the core wants done, as the other hosts would."""
        core = self.core
        while effects := core.take_effects(self.now):
            self.effects += len(effects)
            for effect in effects:
                if isinstance(effect, Dial):
                    core.peer_connected(effect.host, "address", self.now)
                elif isinstance(effect, ToPeer):
                    message = effect.message
                    if isinstance(message, Parcel):
                        core.from_peer(effect.host, Accepted((message.envelope.id,)), self.now)
                    elif isinstance(message, Hello):
                        core.from_peer(effect.host, Welcome(effect.host, RECEIVER), self.now)
                        core.from_peer(effect.host, Announce(self.consumed, True), self.now)
                    else:
                        core.from_peer(effect.host, Pong(int(self.now * 1e6)), self.now)

    def send(self) -> None:
        """Send one message, and let time pass as if many were."""
        self.sent += 1
        self.now += 1.0 / MESSAGES_PER_SECOND
        envelope = Envelope(MessageId(SENDER, self.sent), Pattern.CAST, Address("compute"), "h0", 30.0, settled=max(1, self.sent - 100))
        self.core.from_client(b"c", Parcel(envelope, b""), self.now)
        self.core.tick(self.now)
        self.carry()


class _Target:
    """A receiver with a consumer that takes everything at once; the messages come from all other hosts in turn."""

    def __init__(self, kind: str, hosts: int) -> None:
        names = [f"h{number}" for number in range(hosts)]
        self.now = 1000.0
        self.core = ReceiverCore(CoreSettings("h0", RECEIVER), MAKE_MATCHMAKER[kind](Settings("h0"), {}), self.now)
        self.core.from_client(b"c", Hello("service", "h0", RECEIVER, window=100), self.now)
        self.core.from_client(b"c", Consume(1, (Address("compute"),)), self.now)
        self.links = [name.encode() for name in names[1:]]
        for name in names[1:]:
            self.core.from_link(name.encode(), Hello("receiver", name, name.encode().hex().rjust(16, "0")[:16]), self.now)
        self.effects = 0
        self.sent = 0
        self.carry()

    def carry(self) -> None:
        """Take what the core hands over."""
        while effects := self.core.take_effects(self.now):
            self.effects += len(effects)
            for effect in effects:
                if isinstance(effect, ToClient) and isinstance(effect.message, Parcel):
                    self.core.from_client(b"c", Accepted((effect.message.envelope.id,)), self.now)
                    self.core.from_client(b"c", Credit(1), self.now)

    def send(self) -> None:
        """Let one message arrive, and time pass as if many did."""
        self.sent += 1
        self.now += 1.0 / MESSAGES_PER_SECOND
        envelope = Envelope(MessageId(SENDER, self.sent), Pattern.CAST, Address("compute"), "h1", 30.0, "h0", settled=max(1, self.sent - 100))
        self.core.from_link(self.links[self.sent % len(self.links)], Parcel(envelope, b""), self.now)
        self.core.tick(self.now)
        self.carry()


def measure(kind: str, hosts: int, messages: int = 4000) -> Cost:
    """Return what a message costs with `hosts` hosts and the MatchMaker `kind`, the median of five rounds over `messages` messages."""
    ends = (_Sender(kind, hosts), _Target(kind, hosts))
    rounds = []
    for end in ends:
        for _turn in range(500):
            end.send()
    effects = sum(end.effects for end in ends)
    for _round in range(5):
        began = time.process_time()
        for end in ends:
            for _turn in range(messages // 5):
                end.send()
        rounds.append((time.process_time() - began) / (messages // 5))
    effects = sum(end.effects for end in ends) - effects
    return Cost(kind, hosts, 1e6 * sorted(rounds)[2], _calls(ends) / MESSAGES_PER_SECOND, effects / messages)


def _calls(ends: tuple[_Sender, _Target]) -> int:
    """Return how many functions are called in a second of the cores' clock."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        for end in ends:
            for _turn in range(MESSAGES_PER_SECOND):
                end.send()
    finally:
        sys.setprofile(None)
    return count


def table(sizes: Iterable[int] = (3, 30, 300, 1000), kinds: Iterable[str] = ("fanout-ring", "mesh")) -> Iterator[Cost]:
    """Yield what a message costs, for each MatchMaker and number of hosts."""
    for kind in kinds:
        for hosts in sizes:
            yield measure(kind, hosts)


def main() -> None:
    """Print the table."""
    first: dict[str, Cost] = {}
    sys.stdout.write("matchmaker   hosts   us/message  ratio  calls/message  ratio  effects/message\n")
    for cost in table():
        least = first.setdefault(cost.matchmaker, cost)
        times = f"{cost.microseconds:10.1f}  {cost.microseconds / least.microseconds:5.2f}"
        calls = f"{cost.calls:13.1f}  {cost.calls / least.calls:5.2f}"
        sys.stdout.write(f"{cost.matchmaker:12} {cost.hosts:5}   {times}  {calls}  {cost.effects:15.2f}\n")


if __name__ == "__main__":
    main()
