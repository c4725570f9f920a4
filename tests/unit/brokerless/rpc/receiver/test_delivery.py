# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The target's side of a receiver, event by event."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from brokerless.rpc import protocol
from brokerless.rpc.envelope import Envelope, MessageId, Pattern
from brokerless.rpc.protocol import Accepted, Credit, Held, Hello, Parcel, Returned
from brokerless.rpc.receiver import delivery
from brokerless.rpc.receiver.delivery import Back, Delivery
from brokerless.rpc.topics import Address, parse_topic

SENDER = "a" * 16
LINK = b"link"
PATIENCE = 3.0


@dataclass
class Bench:
    """A delivery whose clients and verdicts are lists."""

    backlog: int = 4
    most_bytes: int = 1000
    now: float = 100.0
    handed: list[tuple[bytes, Parcel]] = field(default_factory=list)
    verdicts: list[tuple[Back, Accepted | Returned | Held]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.delivery = Delivery(
            "compute1",
            self.backlog,
            PATIENCE,
            lambda client, parcel: self.handed.append((client, parcel)),
            lambda back, verdict: self.verdicts.append((back, verdict)),
            self.now - 10 * PATIENCE,
            self.most_bytes,
        )

    def client(self, key: bytes, *topics: str, window: int = 10, taken: protocol.Taken = ()) -> None:
        self.delivery.join(key, Hello("service", "compute1", key.hex().rjust(16, "0"), key.decode(), 1, window, taken), self.now)
        self.delivery.consume(key, [parse_topic(topic) for topic in topics], self.now)

    def arrive(
        self, number: int, topic: str, *, ttl: float = 30.0, after: int = 0, attempt: int = 0, settled: int = 0, back: Back = LINK
    ) -> MessageId:
        message = MessageId(SENDER, number)
        envelope = Envelope(message, Pattern.CAST, parse_topic(topic), "control1", ttl, "compute1", after=after, attempt=attempt, settled=settled)
        self.delivery.arrive(Parcel(envelope, str(number).encode()), back, self.now)
        return message

    def numbers(self, client: bytes | None = None) -> list[int]:
        return [parcel.envelope.id.number for key, parcel in self.handed if client in (None, key)]

    def reasons(self) -> list[str]:
        return [verdict.reason for _back, verdict in self.verdicts if isinstance(verdict, Returned)]

    def accepted(self) -> list[int]:
        return [message.number for _back, verdict in self.verdicts if isinstance(verdict, Accepted) for message in verdict.messages]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_message_is_handed_to_its_consumer_and_accepted_when_the_consumer_says_so(bench: Bench) -> None:
    bench.client(b"c1", "compute")
    message = bench.arrive(1, "compute")
    assert bench.numbers(b"c1") == [1]
    assert bench.verdicts == []
    bench.delivery.accept(b"c1", [message], bench.now)
    assert bench.verdicts == [(LINK, Accepted((message,)))]
    assert bench.delivery.idle


def test_consumers_of_one_topic_take_turns(bench: Bench) -> None:
    for key in (b"c1", b"c2", b"c3"):
        bench.client(key, "compute")
    for number in range(1, 7):
        bench.arrive(number, "compute")
    assert [bench.numbers(key) for key in (b"c1", b"c2", b"c3")] == [[1, 4], [2, 5], [3, 6]]


def test_a_bare_topic_without_a_consumer_is_returned(bench: Bench) -> None:
    bench.arrive(1, "compute")
    assert bench.reasons() == [protocol.NO_CONSUMER]


def test_a_directed_topic_without_a_consumer_waits_for_one(bench: Bench) -> None:
    bench.arrive(1, "compute.compute1")
    assert [type(verdict) for _back, verdict in bench.verdicts] == [Held]
    bench.client(b"c1", "compute.compute1")
    assert bench.numbers() == [1]


def test_no_consumer_gets_more_than_its_credit(bench: Bench) -> None:
    bench.client(b"c1", "compute", window=2)
    for number in range(1, 5):
        bench.arrive(number, "compute")
    assert bench.numbers() == [1, 2]
    bench.delivery.credit(b"c1", Credit(1), bench.now)
    assert bench.numbers() == [1, 2, 3]


def test_a_full_backlog_pushes_back(bench: Bench) -> None:
    bench.client(b"c1", "compute", window=0)
    for number in range(1, 6):
        bench.arrive(number, "compute")
    assert bench.reasons() == [protocol.FULL]


def test_one_full_topic_leaves_others_alone(bench: Bench) -> None:
    bench.client(b"c1", "compute", window=0)
    bench.client(b"c2", "volume")
    for number in range(1, 6):
        bench.arrive(number, "compute")
    bench.arrive(6, "volume")
    assert bench.numbers() == [6]


def test_a_second_copy_is_not_handed_over_again(bench: Bench) -> None:
    bench.client(b"c1", "compute")
    message = bench.arrive(1, "compute")
    bench.arrive(1, "compute", attempt=1, back=b"newer link")
    assert bench.numbers() == [1]
    bench.delivery.accept(b"c1", [message], bench.now)
    assert bench.verdicts == [(b"newer link", Accepted((message,)))]
    bench.arrive(1, "compute", attempt=2)
    assert bench.numbers() == [1]
    assert bench.verdicts[-1] == (LINK, Accepted((message,)))


def test_a_copy_of_what_has_ended_at_its_sender_is_not_handed_over(bench: Bench) -> None:
    bench.client(b"c1", "compute")
    bench.arrive(7, "compute", settled=7)
    bench.arrive(3, "compute", attempt=1)
    assert bench.numbers() == [7]


def test_a_message_waits_for_the_one_before_it(bench: Bench) -> None:
    bench.client(b"c1", "compute.compute1")
    bench.arrive(2, "compute.compute1", after=1)
    assert bench.reasons() == [protocol.EARLIER_MISSING]
    assert bench.numbers() == []
    bench.arrive(1, "compute.compute1")
    bench.arrive(2, "compute.compute1", after=1)
    assert bench.numbers() == [1, 2]


def test_what_expires_while_it_waits_is_returned_and_never_handed_over(bench: Bench) -> None:
    bench.client(b"c1", "compute", window=0)
    bench.arrive(1, "compute", ttl=5.0)
    bench.now += 5.2
    bench.delivery.tick(bench.now)
    assert bench.reasons() == [protocol.EXPIRED]
    bench.delivery.credit(b"c1", Credit(5), bench.now)
    assert bench.numbers() == []


def test_what_arrives_too_late_is_returned(bench: Bench) -> None:
    bench.client(b"c1", "compute")
    bench.arrive(1, "compute", ttl=0.0)
    assert (bench.reasons(), bench.numbers()) == ([protocol.EXPIRED], [])


def test_a_fanout_reaches_every_consumer_once_and_is_accepted_when_all_have_it(bench: Bench) -> None:
    for key in (b"c1", b"c2"):
        bench.client(key, "fanout~compute")
    message = bench.arrive(1, "fanout~compute")
    assert sorted(key for key, _parcel in bench.handed) == [b"c1", b"c2"]
    bench.delivery.accept(b"c1", [message], bench.now)
    assert bench.accepted() == []
    bench.delivery.accept(b"c2", [message], bench.now)
    assert bench.accepted() == [1]


def test_a_fanout_ends_though_one_of_its_consumers_dies(bench: Bench) -> None:
    for key in (b"c1", b"c2"):
        bench.client(key, "fanout~compute")
    message = bench.arrive(1, "fanout~compute")
    bench.delivery.accept(b"c1", [message], bench.now)
    bench.delivery.leave(b"c2", bench.now)
    bench.now += PATIENCE + 0.1
    bench.delivery.tick(bench.now)
    assert bench.accepted() == [1]


def test_a_fanout_without_a_consumer_is_returned(bench: Bench) -> None:
    bench.arrive(1, "fanout~compute")
    assert bench.reasons() == [protocol.NO_CONSUMER]


def test_what_a_dead_consumer_had_in_hand_is_never_given_to_another(bench: Bench) -> None:
    bench.client(b"c1", "compute")
    bench.arrive(1, "compute")
    bench.client(b"c2", "compute")
    bench.delivery.leave(b"c1", bench.now)
    bench.now += PATIENCE + 0.1
    bench.delivery.tick(bench.now)
    assert bench.numbers(b"c2") == []
    assert bench.reasons() == [protocol.CONSUMER_GONE]


def test_what_a_dead_consumer_may_have_taken_is_never_called_accepted_unless_it_says_so(bench: Bench) -> None:
    bench.client(b"c1", "compute")
    message = bench.arrive(1, "compute")
    bench.delivery.leave(b"c1", bench.now)
    bench.now += PATIENCE + 1
    bench.delivery.tick(bench.now)
    bench.arrive(1, "compute", attempt=1)
    assert bench.reasons() == [protocol.CONSUMER_GONE, protocol.CONSUMER_GONE]
    assert bench.accepted() == []
    bench.client(b"c1", "compute", taken=((SENDER, 1, (message.number,)),))
    bench.arrive(1, "compute", attempt=2)
    assert bench.accepted() == [1]


def test_what_a_consumer_left_behind_when_it_said_goodbye_goes_to_the_next(bench: Bench) -> None:
    bench.client(b"c1", "compute")
    bench.arrive(1, "compute")
    bench.client(b"c2", "compute")
    bench.delivery.leave(b"c1", bench.now, certain=True)
    assert bench.numbers(b"c2") == [1]


def test_a_consumer_that_comes_back_says_what_it_took(bench: Bench) -> None:
    bench.client(b"c1", "compute")
    bench.arrive(1, "compute")
    bench.arrive(2, "compute")
    bench.delivery.leave(b"c1", bench.now)
    hello = Hello("service", "compute1", b"c1".hex().rjust(16, "0"), "c1", 1, 10, ((SENDER, 0, (1,)),))
    bench.delivery.join(b"new", hello, bench.now)
    assert bench.accepted() == [1]
    assert bench.reasons() == [protocol.NO_CONSUMER]


def test_after_a_restart_a_retried_message_waits_until_all_consumers_may_be_back() -> None:
    bench = Bench()
    bench.delivery = Delivery(
        "compute1",
        4,
        PATIENCE,
        lambda client, parcel: bench.handed.append((client, parcel)),
        lambda back, verdict: bench.verdicts.append((back, verdict)),
        bench.now,
    )
    bench.client(b"c1", "compute")
    bench.arrive(1, "compute", attempt=1)
    bench.arrive(2, "compute", attempt=1)
    assert bench.numbers() == []
    bench.client(b"c2", "compute", taken=((SENDER, 0, (1,)),))
    assert bench.accepted() == [1]
    bench.now += PATIENCE + 0.1
    bench.delivery.tick(bench.now)
    assert bench.numbers() == [2]


def test_replies_find_their_caller_without_credit(bench: Bench) -> None:
    bench.client(b"c1", window=0)
    origin = b"c1".hex().rjust(16, "0")
    answers = MessageId(origin, 5)
    envelope = Envelope(MessageId(SENDER, 1), Pattern.REPLY, Address("zmq_replies", server=origin), "compute1", 9.0, answers=answers)
    bench.delivery.arrive(Parcel(envelope, b"reply"), None, bench.now)
    assert bench.numbers(b"c1") == [1]


def test_who_consumes_no_more_gets_no_more(bench: Bench) -> None:
    bench.client(b"c1", "compute", "volume", window=0)
    bench.arrive(1, "compute")
    bench.delivery.consume(b"c1", [parse_topic("volume")], bench.now)
    assert bench.reasons() == [protocol.NO_CONSUMER]
    assert bench.delivery.consumed() == (parse_topic("volume"),)


def test_draining_returns_what_waits_and_what_comes(bench: Bench) -> None:
    bench.client(b"c1", "compute", window=1)
    message = bench.arrive(1, "compute")
    bench.arrive(2, "compute")
    bench.delivery.drain()
    bench.arrive(3, "compute")
    assert bench.reasons() == [protocol.DRAINING, protocol.DRAINING]
    assert not bench.delivery.idle
    bench.delivery.accept(b"c1", [message], bench.now)
    assert bench.delivery.idle


def test_nothing_is_kept_of_topics_that_nobody_consumes(bench: Bench) -> None:
    for number in range(1, 50):
        bench.arrive(number, f"unknown{number}")
        bench.arrive(100 + number, f"directed.host{number}", ttl=1.0)
    bench.now += 2.0
    bench.delivery.tick(bench.now)
    assert list(bench.delivery.queues()) == []
    assert bench.delivery.idle


def test_only_so_many_bytes_wait() -> None:
    bench = Bench(most_bytes=3)
    for number in (1, 2, 3, 4):
        bench.arrive(number, f"compute{number}.compute1")
    assert bench.reasons() == [protocol.FULL]
    assert bench.delivery.tally.bounds.counts == {"waiting": 1}
    bench.client(b"c1", "compute1.compute1")
    bench.delivery.accept(b"c1", [MessageId(SENDER, 1)], bench.now)
    bench.arrive(4, "compute4.compute1")
    assert bench.reasons() == [protocol.FULL]


def test_only_so_many_processes_are_remembered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "MAX_ORIGINS", 2)
    bench.client(b"c1", "compute.compute1", taken=(("b" * 16, 1, (5,)),))
    bench.arrive(1, "compute.compute1")
    third = Envelope(MessageId("c" * 16, 1), Pattern.CAST, parse_topic("compute.compute1"), "control1", 30.0, "compute1")
    bench.delivery.arrive(Parcel(third, b""), LINK, bench.now)
    assert bench.reasons() == [protocol.FULL]
    bench.arrive(2, "compute.compute1")
    assert bench.numbers() == [1, 2]
    taken = [(f"{number:016x}", 1, (5,)) for number in range(3)]
    assert "more than 2 processes" in bench.delivery.why_not_join(Hello("service", "compute1", "d" * 16, taken=(*taken,)))
    assert bench.delivery.why_not_join(Hello("service", "compute1", "d" * 16, taken=(*taken[:2],))) == ""
    bench.delivery.tick(bench.now + 200.0)
    bench.now += 200.0
    bench.delivery.arrive(Parcel(third, b""), LINK, bench.now)
    assert bench.numbers() == [1, 2, 1]


def test_a_fanout_that_some_have_yet_to_take_is_returned_by_a_receiver_that_ends(bench: Bench) -> None:
    bench.client(b"c1", "fanout~compute")
    bench.client(b"c2", "fanout~compute", window=0)
    message = bench.arrive(1, "fanout~compute")
    bench.delivery.drain()
    bench.delivery.accept(b"c1", [message], bench.now)
    assert bench.reasons() == [protocol.DRAINING]
    assert bench.accepted() == []


def test_a_fanout_ends_also_when_its_time_is_over_for_some_that_others_took(bench: Bench) -> None:
    bench.client(b"c1", "fanout~compute")
    bench.client(b"c2", "fanout~compute", window=0)
    message = bench.arrive(1, "fanout~compute", ttl=1.0)
    bench.now += 2.0
    bench.delivery.tick(bench.now)
    bench.delivery.accept(b"c1", [message], bench.now)
    assert bench.accepted() == [1]
    assert bench.delivery.idle


def test_a_queue_ends_when_what_waited_in_it_was_taken_before(bench: Bench) -> None:
    message = bench.arrive(1, "compute.compute1")
    bench.client(b"c1", taken=((SENDER, 1, (message.number,)),))
    assert bench.accepted() == [1]
    assert [str(queue.address) for queue in bench.delivery.queues() if not queue.clients] == []


def test_a_process_of_which_nothing_was_kept_is_not_remembered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "MAX_ORIGINS", 1)
    for number in range(5):
        envelope = Envelope(MessageId(f"{number:016x}", 1), Pattern.CAST, parse_topic("nobody"), "control1", protocol.MAX_TTL, "compute1")
        bench.delivery.arrive(Parcel(envelope, b""), LINK, bench.now)
    assert bench.reasons() == [protocol.NO_CONSUMER] * 5
    bench.client(b"c1", "compute.compute1")
    bench.arrive(1, "compute.compute1")
    assert bench.numbers() == [1]
