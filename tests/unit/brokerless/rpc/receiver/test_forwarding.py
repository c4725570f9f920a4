# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The sender's side of a receiver, event by event."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from brokerless.rpc import protocol
from brokerless.rpc.envelope import MAX_HOPS, Envelope, MessageId, Pattern
from brokerless.rpc.matchmaker.base import Settings
from brokerless.rpc.matchmaker.broker import MatchMakerBroker
from brokerless.rpc.protocol import Accepted, Assigned, Held, Parcel, Returned
from brokerless.rpc.receiver.forwarding import MAX_STRANGERS, NO_CONSUMER_SECONDS, RETRIES_AT_ONCE, Forwarding, ForwardingSettings
from brokerless.rpc.receiver.outgoing import FIRST_PAUSE, Source
from brokerless.rpc.topics import Address, parse_topic
from world import Mesh, Ring

SENDER = "a" * 16
CLIENT: Source = ("client", b"key")
GRACE = 3.0


@dataclass
class Bench:
    """A forwarding whose hosts and sources are lists."""

    window: int = 4
    per_source: int = 6
    fanout_broker: str = ""
    now: float = 100.0
    sent: list[tuple[str, Envelope]] = field(default_factory=list)
    told: list[Accepted | Returned | Held | Assigned] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    gone: set[Source] = field(default_factory=set)

    def __post_init__(self) -> None:
        ring = Ring(Settings("control1"), {}, self.fanout_broker)
        self.topics = ring.topics
        self.topics["compute"] = ["c1", "c2", "c3"]
        self.forwarding = Forwarding(
            ForwardingSettings("control1", "1" * 16, self.window, GRACE, self.now, per_source=self.per_source, notifications=3),
            ring,
            lambda host, parcel: self.sent.append((host, parcel.envelope)),
            self.tell,
            lambda _level, text: self.lines.append(text),
        )

    def tell(self, source: Source, message: Accepted | Returned | Held | Assigned) -> bool:
        if source not in self.gone:
            self.told.append(message)
        return source not in self.gone

    def up(self, *hosts: str, incarnation: str = "b" * 16) -> None:
        for host in hosts:
            self.forwarding.host_up(host, incarnation, self.now)

    def submit(
        self,
        number: int,
        topic: str,
        *,
        ttl: float = 30.0,
        host: str = "",
        hops: int = 0,
        after: int = 0,
        pattern: Pattern = Pattern.CAST,
    ) -> MessageId:
        message = MessageId(SENDER, number)
        attempt = 1 if host else 0
        envelope = Envelope(message, pattern, parse_topic(topic), "control1", ttl, host, after=after, hops=hops, attempt=attempt)
        self.forwarding.submit(Parcel(envelope, b""), CLIENT, self.now)
        return message

    def returned(self, host: str, message: MessageId, reason: str, text: str = "") -> None:
        self.forwarding.verdict(host, Returned(message, reason, text), self.now)

    def hosts(self) -> list[str]:
        return [host for host, _envelope in self.sent]

    def failures(self) -> list[Returned]:
        return [message for message in self.told if isinstance(message, Returned)]

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.forwarding.tick(self.now)


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.up("c1", "c2", "c3")
    return bench


def test_a_bare_topic_goes_round(bench: Bench) -> None:
    for number in range(1, 7):
        bench.submit(number, "compute")
    assert bench.hosts() == ["c1", "c2", "c3", "c1", "c2", "c3"]
    assert bench.told[0] == Assigned(MessageId(SENDER, 1), "c1")


def test_a_host_that_is_down_is_passed_over(bench: Bench) -> None:
    bench.forwarding.host_down("c2", "power cut", bench.now)
    for number in range(1, 5):
        bench.submit(number, "compute")
    assert bench.hosts() == ["c1", "c3", "c1", "c3"]


def test_the_end_of_a_message_is_told_to_its_sender(bench: Bench) -> None:
    message = bench.submit(1, "compute")
    bench.forwarding.verdict("c1", Accepted((message,)), bench.now)
    assert bench.told[-1] == Accepted((message,))
    assert bench.forwarding.idle


def test_a_host_without_a_consumer_is_passed_over_for_a_while(bench: Bench) -> None:
    message = bench.submit(1, "compute")
    bench.returned("c1", message, protocol.NO_CONSUMER)
    assert bench.hosts() == ["c1", "c2"]
    for number in range(2, 5):
        bench.submit(number, "compute")
    assert bench.hosts()[2:] == ["c3", "c2", "c3"]
    bench.pass_time(NO_CONSUMER_SECONDS + 0.1)
    bench.submit(9, "compute")
    bench.submit(10, "compute")
    assert "c1" in bench.hosts()[5:]


def test_a_message_stays_with_the_host_that_may_have_it(bench: Bench) -> None:
    bench.submit(1, "compute")
    bench.forwarding.host_down("c1", "power cut", bench.now)
    bench.pass_time(5.0)
    assert bench.hosts() == ["c1"]
    bench.up("c1", incarnation="c" * 16)
    assert bench.hosts() == ["c1", "c1"]
    assert bench.sent[-1][1].attempt == 1


def test_a_restarted_host_that_knows_nothing_of_a_message_keeps_it(bench: Bench) -> None:
    message = bench.submit(1, "compute")
    bench.forwarding.host_down("c1", "killed", bench.now)
    bench.up("c1", incarnation="c" * 16)
    bench.returned("c1", message, protocol.NO_CONSUMER)
    bench.pass_time(1.0)
    assert set(bench.hosts()) == {"c1"}


def test_what_was_not_sent_to_a_host_that_goes_down_goes_elsewhere() -> None:
    bench = Bench(window=1)
    bench.up("c1")
    bench.submit(1, "compute")
    bench.submit(2, "compute")
    assert bench.hosts() == ["c1"]
    bench.forwarding.host_down("c1", "power cut", bench.now)
    bench.up("c2")
    assert bench.sent[-1][0] == "c2"
    assert bench.sent[-1][1].id.number == 2


def test_when_no_host_is_up_a_message_waits_and_its_sender_is_told_why() -> None:
    bench = Bench()
    bench.submit(1, "compute")
    assert bench.hosts() == []
    held = bench.told[-1]
    assert isinstance(held, Held)
    assert "c1: not connected yet" in held.text
    bench.up("c3")
    assert bench.hosts() == ["c3"]


def test_a_topic_that_the_ring_does_not_have_fails_with_its_name_when_its_time_is_over(bench: Bench) -> None:
    bench.submit(1, "nonsense", ttl=2.0)
    bench.pass_time(2.2)
    assert [(failure.reason, "'nonsense'" in failure.text) for failure in bench.failures()] == [(protocol.EXPIRED, True)]
    assert "nonsense" in bench.lines[0]
    assert bench.forwarding.idle


def test_a_new_ring_finds_hosts_for_what_waits(bench: Bench) -> None:
    bench.submit(1, "volume")
    bench.forwarding.replace_matchmaker(Ring(Settings("control1"), {"volume": ["c2"]}), bench.now)
    assert bench.hosts() == ["c2"]


def test_what_a_host_has_when_the_time_is_over_gets_grace_for_its_verdict(bench: Bench) -> None:
    message = bench.submit(1, "compute", ttl=2.0)
    bench.pass_time(2.2)
    assert bench.failures() == []
    bench.forwarding.verdict("c1", Accepted((message,)), bench.now)
    assert bench.told[-1] == Accepted((message,))
    bench.submit(2, "compute", ttl=2.0)
    bench.pass_time(2.2)
    bench.pass_time(GRACE + 0.2)
    assert "may have been taken" in bench.failures()[0].text


def test_a_fanout_goes_to_all_and_ends_when_all_have_it(bench: Bench) -> None:
    message = bench.submit(1, "fanout~compute")
    assert sorted(bench.hosts()) == ["c1", "c2", "c3"]
    for host in ("c1", "c2"):
        bench.forwarding.verdict(host, Accepted((message,)), bench.now)
    bench.returned("c3", message, protocol.NO_CONSUMER)
    assert bench.told[-1] == Accepted((message,))


def test_a_fanout_says_which_host_did_not_get_it(bench: Bench) -> None:
    bench.forwarding.host_down("c3", "power cut", bench.now)
    message = bench.submit(1, "fanout~compute", ttl=5.0)
    for host in ("c1", "c2"):
        bench.forwarding.verdict(host, Accepted((message,)), bench.now)
    bench.pass_time(5.2)
    failure = bench.failures()[0]
    assert "host c3 is not up (power cut)" in failure.text


def test_a_fanout_through_a_broker_is_left_unrouted() -> None:
    bench = Bench(fanout_broker="broker1")
    bench.up("broker1", "c1", "c2", "c3")
    bench.submit(1, "fanout~compute")
    assert [(host, envelope.host) for host, envelope in bench.sent] == [("broker1", "")]


def test_a_broker_at_home_routes_at_home() -> None:
    bench = Bench(fanout_broker="127.0.0.1")
    bench.up("c1", "c2", "c3")
    bench.submit(1, "fanout~compute")
    assert sorted(bench.hosts()) == ["c1", "c2", "c3"]


def test_a_message_that_goes_in_circles_is_returned(bench: Bench) -> None:
    bench.submit(1, "compute", hops=MAX_HOPS)
    assert [failure.reason for failure in bench.failures()] == [protocol.TOO_MANY_HOPS]
    assert bench.forwarding.idle


def test_a_lane_that_is_pushed_back_pauses_and_keeps_its_order(bench: Bench) -> None:
    first = bench.submit(1, "compute.c1")
    second = bench.submit(2, "compute.c1")
    bench.returned("c1", first, protocol.FULL)
    bench.returned("c1", second, protocol.EARLIER_MISSING)
    bench.submit(3, "compute.c1")
    assert len(bench.sent) == 2
    bench.pass_time(FIRST_PAUSE + 0.01)
    assert [envelope.id.number for _host, envelope in bench.sent[2:]] == [1, 2, 3]


def test_what_comes_after_a_message_that_ended_does_not_wait_for_it(bench: Bench) -> None:
    first = bench.submit(1, "compute.c1")
    bench.forwarding.verdict("c1", Accepted((first,)), bench.now)
    bench.submit(2, "compute.c1")
    assert bench.sent[-1][1].after == 0


def test_order_holds_across_a_message_that_came_to_nothing(bench: Bench) -> None:
    first = bench.submit(1, "compute.c1")
    second = bench.submit(2, "compute.c1")
    bench.returned("c1", second, protocol.EXPIRED)
    bench.submit(3, "compute.c1")
    assert bench.sent[-1][1].after == first.number


def test_at_most_a_window_of_messages_is_on_one_lane(bench: Bench) -> None:
    messages = [bench.submit(number, "compute.c1") for number in range(1, 9)]
    assert len(bench.sent) == 4
    bench.forwarding.verdict("c1", Accepted((messages[0], messages[1])), bench.now)
    assert len(bench.sent) == 6


def test_a_message_that_a_dead_receiver_had_assigned_goes_where_it_went(bench: Bench) -> None:
    message = bench.submit(1, "compute", host="c3")
    assert bench.hosts() == ["c3"]
    bench.returned("c3", message, protocol.NO_CONSUMER)
    bench.pass_time(1.0)
    assert set(bench.hosts()) == {"c3"}


def test_a_verdict_on_something_unknown_is_ignored(bench: Bench) -> None:
    stranger = MessageId("f" * 16, 1)
    for verdict in (Accepted((stranger,)), Returned(stranger, protocol.FULL), Held(stranger, "")):
        bench.forwarding.verdict("c1", verdict, bench.now)
    message = bench.submit(1, "compute")
    bench.forwarding.verdict("c2", Accepted((message,)), bench.now)
    assert not bench.forwarding.idle


# --- limits, announcements, notifications ------------------------------------------------------------------------------------------------------


def test_a_sender_has_a_limit_and_room_again_when_messages_end(bench: Bench) -> None:
    messages = [bench.submit(number, "compute.elsewhere") for number in range(1, 8)]
    assert [(one.message, one.reason) for one in bench.failures()] == [(messages[6], protocol.FULL)]
    bench.up("elsewhere")
    bench.forwarding.verdict("elsewhere", Accepted((messages[0],)), bench.now)
    bench.submit(8, "compute.elsewhere")
    assert len(bench.failures()) == 1


def test_a_host_that_announced_no_consumer_is_passed_over_until_it_does(bench: Bench) -> None:
    bench.forwarding.announced("c1", [], bench.now)
    bench.forwarding.announced("c2", [parse_topic("compute")], bench.now)
    bench.forwarding.announced("c3", [parse_topic("volume")], bench.now)
    for number in (1, 2):
        bench.submit(number, "compute")
    assert bench.hosts() == ["c2", "c2"]
    bench.forwarding.announced("c2", [], bench.now)
    bench.submit(3, "compute")
    assert bench.hosts() == ["c2", "c2"]
    bench.forwarding.announced("c3", [parse_topic("compute")], bench.now, complete=False)
    assert bench.hosts() == ["c2", "c2", "c3"]


def notifications(bench: Bench, *numbers: int, ttl: float = 30.0) -> list[MessageId]:
    return [bench.submit(number, "notifications-info", ttl=ttl, pattern=Pattern.NOTIFICATION) for number in numbers]


def test_a_notification_nobody_listens_to_is_kept_and_its_sender_done_with_it(bench: Bench) -> None:
    bench.topics["notifications-info"] = ["c1"]
    bench.forwarding.announced("c1", [], bench.now)
    messages = notifications(bench, 1, 2)
    assert [one.messages for one in bench.told if isinstance(one, Accepted)] == [(message,) for message in messages]
    notifications(bench, 1)
    bench.forwarding.announced("c1", [parse_topic("notifications-info")], bench.now)
    assert [(envelope.id.origin, envelope.id.number, envelope.settled) for _host, envelope in bench.sent] == [("1" * 16, 1, 1), ("1" * 16, 2, 1)]
    bench.forwarding.verdict("c1", Accepted(tuple(envelope.id for _host, envelope in bench.sent)), bench.now)
    assert bench.forwarding.idle
    assert bench.failures() == []


def test_the_oldest_notification_makes_room_and_an_old_one_ends(bench: Bench) -> None:
    bench.topics["notifications-info"] = ["c1"]
    bench.forwarding.announced("c1", [], bench.now)
    notifications(bench, 1, 2, 3, 4, ttl=5.0)
    notifications(bench, 5)
    assert bench.forwarding.notifications == 3
    bench.pass_time(6.0)
    assert bench.forwarding.notifications == 1
    assert bench.failures() == []
    bench.forwarding.announced("c1", [parse_topic("notifications-info")], bench.now)
    assert [envelope.id.number for _host, envelope in bench.sent] == [5]


def test_only_so_many_hosts_become_known_because_messages_name_them() -> None:
    bench = Bench(per_source=1000)
    bench.up("c1")
    known = len(bench.forwarding.targets)
    for number in range(1, MAX_STRANGERS + 50):
        bench.submit(number, f"compute.evil{number}")
    listed = 3
    assert MAX_STRANGERS <= len(bench.forwarding.targets) <= known + MAX_STRANGERS + listed
    held = [message for message in bench.told if isinstance(message, Held)]
    assert held[-1].text == "host evil149 is not one that MatchMaker fanout-ring knows"
    bench.submit(500, "compute.c1")
    assert "c1" in bench.forwarding.targets
    bench.pass_time(31.0)
    assert len(bench.failures()) == MAX_STRANGERS + 49  # c1 has the last one, and may yet say so


def test_a_sender_that_did_not_hear_where_its_message_went_does_not_send_it_elsewhere(bench: Bench) -> None:
    message = bench.submit(1, "compute")
    bench.forwarding.verdict("c1", Accepted((message,)), bench.now)
    envelope = Envelope(message, Pattern.CAST, parse_topic("compute"), "control1", 30.0, attempt=1)
    bench.forwarding.submit(Parcel(envelope, b""), CLIENT, bench.now)
    assert bench.hosts() == ["c1", "c1"]


def test_what_a_broker_gave_to_a_host_goes_there_when_the_broker_is_gone() -> None:
    bench = Bench()
    bench.forwarding.replace_matchmaker(MatchMakerBroker(Settings("control1", broker="b1")), bench.now)
    bench.up("b1", "c1", "c2")
    message = bench.submit(1, "compute")
    bench.forwarding.verdict("b1", Assigned(message, "c2"), bench.now)
    bench.forwarding.host_down("b1", "killed", bench.now)
    assert bench.told[0] == Assigned(message, "c2")
    assert [(host, envelope.host, envelope.attempt) for host, envelope in bench.sent] == [("b1", "", 0), ("c2", "c2", 1)]


def test_a_message_moves_to_another_host_only_when_its_sender_can_hear_of_it(bench: Bench) -> None:
    message = bench.submit(1, "compute")
    bench.gone.add(CLIENT)
    bench.returned("c1", message, protocol.DRAINING)
    assert bench.hosts() == ["c1"]
    bench.gone.clear()
    envelope = Envelope(message, Pattern.CAST, parse_topic("compute"), "control1", 30.0, "c1", attempt=1)
    bench.forwarding.submit(Parcel(envelope, b""), CLIENT, bench.now)
    first, second = bench.hosts()
    assert first == "c1"
    assert bench.told[-1] == Assigned(message, second)


def test_a_broker_lets_the_sender_try_again_what_a_host_returned(bench: Bench) -> None:
    envelope = Envelope(MessageId(SENDER, 1), Pattern.CAST, parse_topic("compute"), "control1", 30.0, hops=1)
    bench.forwarding.submit(Parcel(envelope, b""), ("link", b"l"), bench.now)
    bench.returned(bench.hosts()[0], envelope.id, protocol.DRAINING)
    assert [failure.reason for failure in bench.failures()] == [protocol.DRAINING]
    assert bench.forwarding.idle


def test_many_topics_without_a_host_are_looked_at_in_turns_and_told_of_once() -> None:
    bench = Bench(per_source=10 * RETRIES_AT_ONCE)
    for number in range(1, 3 * RETRIES_AT_ONCE + 1):
        bench.submit(number, f"unknown{number}")
    assert len(bench.told) == 3 * RETRIES_AT_ONCE
    for _turn in range(4):
        bench.pass_time(0.1)
    assert len(bench.told) == 3 * RETRIES_AT_ONCE
    bench.up("c1")
    for number in range(1, 3 * RETRIES_AT_ONCE + 1):
        bench.topics[f"unknown{number}"] = ["c1"]
    bench.pass_time(0.1)
    assert len(bench.sent) == RETRIES_AT_ONCE
    for _turn in range(2):
        bench.pass_time(0.1)
    assert len(bench.sent) == 3 * RETRIES_AT_ONCE


def test_a_fanout_from_a_host_whose_receiver_was_just_started_goes_to_its_own_services_too() -> None:
    bench = Bench()
    bench.forwarding.replace_matchmaker(MatchMakerBroker(Settings("control1", broker="control1")), bench.now)
    address = parse_topic("fanout~compute")
    route = bench.forwarding.matchmaker.route(address)
    started_at = bench.forwarding._settings.all_connected_at
    assert bench.forwarding._hosts_of(address, route, started_at - 0.1) == ("control1",)
    assert bench.forwarding._hosts_of(address, route, started_at) == ()


def test_a_fanout_that_nobody_consumes_has_reached_everybody_where_it_is_announced_who_does() -> None:
    """OpenStack's servers fan out to agents that a cloud may not have; that must neither pile up nor be an error."""
    bench = Bench()
    bench.forwarding.replace_matchmaker(Mesh(Settings("control1"), {}), bench.now)
    message = bench.submit(1, "fanout~compute")
    assert bench.told == [Accepted((message,))]
    assert bench.forwarding.idle


def test_consumers_of_an_address_are_hosts_that_are_up_and_announced_it() -> None:
    bench = Bench()
    bench.forwarding.replace_matchmaker(Mesh(Settings("control1"), {"any": ["c1", "c2"]}), bench.now)
    address = Address("compute", exchange="nova")
    directed = address.directed("machine1")
    for host in ("c1", "c2"):
        bench.forwarding.announced(host, [address, directed, address._replace(exchange="nova+pool"), address._replace(namespace="n")], bench.now)
    bench.up("c1")
    assert bench.forwarding.consumers_of(address, bench.now) == bench.forwarding.consumers_of(directed, bench.now) == ["c1"]
    assert bench.forwarding.consumers_of(Address("compute"), bench.now) == []
    assert bench.forwarding.exchanges_of(address) == ["nova", "nova+pool"]


def test_whose_consumers_only_the_broker_knows_is_for_the_broker_to_say() -> None:
    bench = Bench(fanout_broker="broker1")
    assert bench.forwarding.consumers_of(parse_topic("fanout~compute"), bench.now) == ["broker1"]
