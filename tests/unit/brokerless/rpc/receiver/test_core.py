# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Whole receivers, many in one process, without sockets: what one says is what the other hears."""

from __future__ import annotations

import json
import logging

import pytest
from brokerless.rpc.envelope import Envelope, MessageId, Pattern
from brokerless.rpc.matchmaker.base import Settings
from brokerless.rpc.protocol import Accepted, Bye, Consume, Hello, Parcel, Ping, Pong, Returned, Welcome, WhoAreYou
from brokerless.rpc.receiver.core import LINK_BEATS, CoreSettings, ReceiverCore
from brokerless.rpc.receiver.delivery import MAX_ADDRESSES
from brokerless.rpc.receiver.effects import Dial, HangUp, Say, ToClient, ToLink, ToPeer
from brokerless.rpc.topics import REPLIES_TOPIC, Address, parse_topic
from world import Ring, World

NOW = 50.0
ORIGIN = "a" * 16


@pytest.fixture
def world() -> World:
    return World({"compute": ["compute1", "compute2"]}, ["control1", "compute1", "compute2"])


@pytest.fixture
def core() -> ReceiverCore:
    core = ReceiverCore(CoreSettings("control1", "1" * 16), Ring(Settings("control1"), {"compute": ["compute1"]}), NOW)
    core.take_effects(NOW)
    return core


def test_a_call_is_answered_across_hosts(world: World) -> None:
    worker = world.start_service("compute1", ["compute", "compute.compute1"])
    caller = world.start_service("control1")
    number = caller.call("compute.compute1", b"question")
    world.run()
    worker.reply(worker.requests[0], b"answer")
    world.advance(0.2)
    assert caller.answers == {number: b"answer"}
    assert worker.session.unsettled == caller.session.unsettled == 0


def test_calls_between_services_of_one_host_need_no_network(world: World) -> None:
    worker = world.start_service("control1", ["scheduler.control1"])
    for host in ("compute1", "compute2"):
        world.kill_receiver(host)
    caller = world.start_service("control1", name="caller")
    number = caller.call("scheduler.control1", b"question")
    world.run()
    worker.reply(worker.requests[0], b"answer")
    world.run()
    assert caller.answers == {number: b"answer"}


def test_a_cast_outlives_the_receiver_of_its_sender(world: World) -> None:
    worker = world.start_service("compute1", ["compute.compute1"])
    sender = world.start_service("control1")
    world.kill_receiver("control1")
    numbers = [sender.cast("compute.compute1", body) for body in (b"1", b"2", b"3")]
    world.advance(2.0)
    assert worker.bodies() == []
    world.start_receiver("control1")
    world.advance(6.0)
    assert worker.bodies() == [b"1", b"2", b"3"]
    assert [sender.settled[number] for number in numbers] == ["", "", ""]


def test_a_cast_outlives_the_receiver_of_its_target(world: World) -> None:
    worker = world.start_service("compute1", ["compute.compute1"])
    sender = world.start_service("control1")
    worker.takes = False
    number = sender.cast("compute.compute1", b"1")
    world.run()
    world.kill_receiver("compute1")
    later = sender.cast("compute.compute1", b"2")
    world.advance(2.0)
    worker.read_inbox()
    assert worker.bodies() == [b"1"]
    world.start_receiver("compute1")
    world.advance(10.0)
    assert worker.bodies() == [b"1", b"2"]
    assert sender.settled == {number: "", later: ""}


def test_what_was_taken_before_the_receiver_died_is_not_taken_again(world: World) -> None:
    worker = world.start_service("compute1", ["compute.compute1"])
    other = world.start_service("compute1", ["compute.compute1"], name="other")
    sender = world.start_service("control1")
    sender.cast("compute.compute1", b"1")
    while not worker.requests and not other.requests:
        world.carry_one()
    world.kill_receiver("compute1")
    world.advance(0.5)
    world.start_receiver("compute1")
    world.advance(10.0)
    assert worker.bodies() + other.bodies() == [b"1"]
    assert sender.session.unsettled == 0


def test_a_cast_that_no_one_can_take_is_an_error_at_its_sender(world: World) -> None:
    sender = world.start_service("control1")
    number = sender.cast("compute", b"1", ttl=3.0)
    world.advance(8.0)
    assert "has no consumer" in sender.settled[number]
    assert any("was not handed over" in line for line in sender.log)


def test_a_caller_learns_why_there_is_no_answer(world: World) -> None:
    caller = world.start_service("control1")
    number = caller.call("nonsense", b"")
    world.run()
    assert caller.notes[number] == "MatchMaker fanout-ring has no host for topic 'nonsense'"


def test_a_service_with_another_host_name_is_turned_away(core: ReceiverCore) -> None:
    core.from_client(b"c", Hello("service", "elsewhere", ORIGIN, "nova-api", 7), NOW)
    effects = core.take_effects(NOW)
    assert ToClient(b"c", Bye()) in effects
    assert any(isinstance(effect, Say) and "'elsewhere'" in effect.text for effect in effects)


def test_strangers_are_asked_who_they_are(core: ReceiverCore) -> None:
    parcel = Parcel(Envelope(MessageId(ORIGIN, 1), Pattern.CAST, parse_topic("compute"), "control1", 9.0), b"")
    core.from_client(b"c", parcel, NOW)
    core.from_client(b"d", Ping(1), NOW)
    core.from_link(b"l", parcel, NOW)
    assert core.take_effects(NOW) == [ToClient(b"c", WhoAreYou()), ToClient(b"d", WhoAreYou()), ToLink(b"l", WhoAreYou())]


def test_what_came_to_the_wrong_host_goes_back(core: ReceiverCore) -> None:
    core.from_link(b"l", Hello("receiver", "compute1", ORIGIN), NOW)
    parcel = Parcel(Envelope(MessageId(ORIGIN, 1), Pattern.CAST, parse_topic("compute.c9"), "compute1", 9.0, "c9"), b"")
    core.from_link(b"l", parcel, NOW)
    returned = core.take_effects(NOW)[-1]
    assert isinstance(returned, ToLink)
    assert isinstance(returned.message, Returned)
    assert "for host c9 and came to control1" in returned.message.text


def test_a_peer_with_another_name_is_not_trusted() -> None:
    core = ReceiverCore(CoreSettings("control1", "1" * 16), Ring(Settings("control1"), {"compute": ["compute1"]}), NOW)
    assert core.take_effects(NOW) == [Dial("compute1")]
    core.peer_connected("compute1", "192.0.2.7:9500", NOW)
    core.from_peer("compute1", Welcome("compute2", "2" * 16), NOW)
    effects = core.take_effects(NOW)
    assert HangUp("compute1") in effects
    assert any(isinstance(effect, Say) and "192.0.2.7:9500 calls itself 'compute2'" in effect.text for effect in effects)


def test_a_silent_peer_is_down_and_dialled_again() -> None:
    core = ReceiverCore(CoreSettings("control1", "1" * 16), Ring(Settings("control1"), {"compute": ["compute1"]}), NOW)
    core.take_effects(NOW)
    core.peer_connected("compute1", "192.0.2.7:9500", NOW)
    core.from_peer("compute1", Welcome("compute1", "2" * 16), NOW)
    core.take_effects(NOW)
    effects = []
    for tenth in range(1, 45):
        core.tick(NOW + tenth / 10)
        effects += core.take_effects(NOW + tenth / 10)
    assert any(isinstance(effect, ToPeer) and isinstance(effect.message, Ping) for effect in effects)
    assert HangUp("compute1") in effects
    assert effects.index(Dial("compute1")) > effects.index(HangUp("compute1"))


def test_a_peer_that_answers_stays_up() -> None:
    core = ReceiverCore(CoreSettings("control1", "1" * 16), Ring(Settings("control1"), {"compute": ["compute1"]}), NOW)
    core.take_effects(NOW)
    core.peer_connected("compute1", "192.0.2.7:9500", NOW)
    core.from_peer("compute1", Welcome("compute1", "2" * 16), NOW)
    for tenth in range(1, 100):
        now = NOW + tenth / 10
        core.tick(now)
        for effect in core.take_effects(now):
            assert not isinstance(effect, HangUp)
            if isinstance(effect, ToPeer) and isinstance(effect.message, Ping):
                core.from_peer("compute1", Pong(effect.message.stamp), now)
    assert core.status(now)["peers"][0]["round_trip_ms"] == 0.0


def test_a_host_outside_the_ring_is_dialled_when_needed_and_forgotten_when_not(world: World) -> None:
    worker = world.start_service("control1", ["scheduler.control1"])
    sender = world.start_service("compute1")
    sender.cast("scheduler.control1", b"1")
    world.advance(1.0)
    assert worker.bodies() == [b"1"]
    core = world.cores["compute1"]
    assert "control1" in [peer["host"] for peer in core.status(world.now)["peers"]]
    world.advance(61.0)
    assert "control1" not in [peer["host"] for peer in core.status(world.now)["peers"]]


def test_an_unknown_name_holds_up_nobody_else(world: World) -> None:
    worker = world.start_service("compute1", ["compute.compute1"])
    sender = world.start_service("control1")
    world.unresolvable.add("nowhere")
    lost = sender.cast("compute.nowhere", b"lost", ttl=5.0)
    for number in range(20):
        sender.cast("compute.compute1", str(number).encode())
    world.run()
    assert len(worker.requests) == 20
    world.advance(12.0)
    assert "its name can't be resolved" in sender.settled[lost]


def test_a_drained_receiver_is_passed_over_and_loses_nothing(world: World) -> None:
    workers = {host: world.start_service(host, ["compute"]) for host in ("compute1", "compute2")}
    sender = world.start_service("control1")
    workers["compute1"].takes = False
    for number in range(6):
        sender.cast("compute", str(number).encode())
    world.run()
    core = world.cores["compute1"]
    core.drain(world.now)
    world.collect("compute1")
    world.run()
    workers["compute1"].read_inbox()
    world.advance(1.0)
    assert core.drained
    for number in range(6, 10):
        sender.cast("compute", str(number).encode())
    world.advance(1.0)
    everything = workers["compute1"].bodies() + workers["compute2"].bodies()
    assert sorted(everything) == [str(number).encode() for number in range(10)]
    assert sender.session.unsettled == 0


def test_a_broker_forwards_a_fanout_to_every_host() -> None:
    world = World({"compute": ["compute1", "compute2"]}, ["control1", "broker1", "compute1", "compute2"], fanout_broker="broker1")
    workers = [world.start_service(host, ["fanout~compute"]) for host in ("compute1", "compute2")]
    sender = world.start_service("control1")
    world.advance(1.0)
    number = sender.cast("fanout~compute", b"1")
    world.advance(4.0)
    assert [worker.bodies() for worker in workers] == [[b"1"], [b"1"]]
    assert sender.settled == {number: ""}


def test_a_consumer_that_never_answers_delays_no_other_topic(world: World) -> None:
    stuck = world.start_service("compute1", ["volume.compute1"], name="stuck", window=1)
    stuck.works = False
    worker = world.start_service("compute1", ["compute.compute1"])
    sender = world.start_service("control1")
    for number in range(500):
        sender.cast("volume.compute1", str(number).encode())
    for number in range(20):
        sender.cast("compute.compute1", str(number).encode())
    world.run()
    assert len(stuck.requests) == 1
    assert len(worker.requests) == 20


def test_status_and_route_say_what_is(world: World) -> None:
    world.start_service("compute1", ["compute"])
    world.kill_receiver("compute2")
    world.advance(1.0)
    core = world.cores["control1"]
    status = core.status(world.now)
    assert status["host"] == "control1"
    assert {peer["host"]: peer["state"].split()[0] for peer in status["peers"]} == {"compute1": "up", "compute2": "down"}
    route = core.route("compute", world.now)
    assert [(host["host"], host["next"]) for host in route["hosts"]] == [("compute1", True), ("compute2", False)]
    assert core.route("no thing", world.now)["error"] == "topic 'no thing' contains ' ', which is not allowed in it"
    assert core.route("nova/compute", world.now)["topic"] == "nova/compute"
    assert world.cores["compute1"].status(world.now)["consumers"][0]["address"] == "compute"


def test_who_consumes_an_address_is_said(world: World) -> None:
    world.start_service("compute1", ["compute"])
    world.advance(1.0)
    core = world.cores["control1"]
    assert core.consumers(json.dumps(Address("compute")), world.now) == {"hosts": ["compute1"], "exchanges": [""]}
    for nonsense in ("", "{}", "[" * 2000, '["compute", "", 0, "", ""]', '[["compute"], "", false, "", ""]', '["", "", false, "", ""]'):
        assert core.consumers(nonsense, world.now)["error"].startswith("no address")


def test_refusals_are_counted_and_said_once_in_a_burst(core: ReceiverCore) -> None:
    for _turn in range(100):
        core.refused("another host", "not MessagePack", NOW)
    assert len([effect for effect in core.take_effects(NOW) if isinstance(effect, Say)]) == 1
    assert core.status(NOW)["counters"]["refused"] == 100


class Following(Ring):
    """A MatchMaker that follows a source: what it knows is what the test sets."""

    def __init__(self, topics: dict[str, list[str]]) -> None:
        super().__init__(Settings("control1"), topics)
        self.fault = ""
        self.consumed: list[set[str]] = []
        self.complete = False

    @property
    def problem(self) -> str:
        return self.fault

    def consumed_here(self, addresses: frozenset[Address], *, complete: bool) -> None:
        self.complete = complete
        self.consumed.append({str(address) for address in addresses if address.topic != REPLIES_TOPIC})


@pytest.fixture
def following() -> Following:
    return Following({})


@pytest.fixture
def core_that_follows(following: Following) -> ReceiverCore:
    return ReceiverCore(CoreSettings("control1", "1" * 16), following, NOW)


def test_a_matchmaker_that_learns_of_a_host_has_it_dialled(core_that_follows: ReceiverCore, following: Following) -> None:
    assert core_that_follows.take_effects(NOW) == []
    following.topics = {"compute": ("compute1",)}
    core_that_follows.matchmaker_changed(NOW)
    assert core_that_follows.take_effects(NOW) == [Dial("compute1")]


def test_a_problem_of_the_matchmaker_is_said_once_and_so_is_its_end(core_that_follows: ReceiverCore, following: Following) -> None:
    core = core_that_follows
    core.matchmaker_changed(NOW)
    following.fault = "its source is away"
    core.matchmaker_changed(NOW)
    core.matchmaker_changed(NOW)
    assert core.status(NOW)["matchmaker"]["error"] == "its source is away"
    following.fault = ""
    core.matchmaker_changed(NOW)
    said = [(effect.level, effect.text) for effect in core.take_effects(NOW) if isinstance(effect, Say)]
    assert [level for level, _text in said] == [logging.WARNING, logging.INFO]
    assert "its source is away" in said[0][1]
    assert "all is well" in said[1][1]
    assert core.status(NOW)["matchmaker"]["error"] == ""


def test_the_matchmaker_hears_what_is_consumed_here_when_it_changes(core_that_follows: ReceiverCore, following: Following) -> None:
    core = core_that_follows
    for key, origin in ((b"c", "a" * 16), (b"d", "b" * 16)):
        core.from_client(key, Hello("service", "control1", origin, "nova-compute", 7), NOW)
        core.from_client(key, Consume(1, (parse_topic("compute"),)), NOW)
    core.client_gone(b"c", NOW)
    core.from_client(b"d", Consume(2, (parse_topic("compute"), parse_topic("volume"))), NOW)
    core.from_client(b"d", Bye(), NOW)
    changes = [topics for topics, before in zip(following.consumed, [set(), *following.consumed], strict=False) if topics != before]
    assert changes == [{"compute"}, {"compute", "volume"}, set()]
    later = Following({})
    core.from_client(b"e", Hello("service", "control1", "c" * 16, "nova-compute", 7), NOW)
    core.from_client(b"e", Consume(1, (parse_topic("network"),)), NOW)
    core.replace_matchmaker(later, NOW)
    assert later.consumed == [{"network"}]
    assert not later.complete
    core.take_effects(NOW + 60)
    assert later.complete


# --- strangers ---------------------------------------------------------------------------------------------------------------------------------


def said(core: ReceiverCore) -> list[str]:
    return [effect.text for effect in core.take_effects(NOW) if isinstance(effect, Say)]


def test_a_link_that_is_silent_for_long_is_forgotten_and_asked_who_it_is(core: ReceiverCore) -> None:
    core.from_link(b"l", Hello("receiver", "compute1", ORIGIN), NOW)
    core.tick(NOW + LINK_BEATS)
    assert core.figures()["gauges"]["links"] == 1
    core.from_link(b"l", Ping(1), NOW + LINK_BEATS)
    core.tick(NOW + 1.5 * LINK_BEATS)
    assert core.figures()["gauges"]["links"] == 1
    core.tick(NOW + 2 * LINK_BEATS + 1.0)
    assert core.figures()["gauges"]["links"] == 0
    core.take_effects(NOW)
    core.from_link(b"l", Ping(1), NOW + 3 * LINK_BEATS)
    assert core.take_effects(NOW) == [ToLink(b"l", WhoAreYou())]


def test_a_connection_has_one_name(core: ReceiverCore) -> None:
    core.from_link(b"l", Hello("receiver", "compute1", ORIGIN), NOW)
    core.from_link(b"l", Hello("receiver", "compute2", ORIGIN), NOW)
    assert any("it now calls itself compute2" in text for text in said(core))
    core.from_client(b"c", Hello("service", "control1", ORIGIN, "one", 1), NOW + 5.0)
    core.from_client(b"c", Hello("service", "control1", "b" * 16, "two", 2), NOW + 5.0)
    assert any("two (pid 2): it was another process before" in text for text in said(core))
    assert core.figures()["gauges"]["services"] == 1


@pytest.mark.parametrize(
    ("addresses", "fault"),
    [
        (tuple(Address(f"t{number}") for number in range(MAX_ADDRESSES + 1)), f"at most {MAX_ADDRESSES} are allowed"),
        ((Address(REPLIES_TOPIC, server="b" * 16),), "another process gets its answers"),
    ],
)
def test_a_service_can_not_consume_everything(core: ReceiverCore, addresses: tuple[Address, ...], fault: str) -> None:
    core.from_client(b"c", Hello("service", "control1", ORIGIN, "one", 1), NOW)
    core.take_effects(NOW)
    core.from_client(b"c", Consume(1, addresses), NOW)
    effects = core.take_effects(NOW)
    assert [fault in effect.text for effect in effects if isinstance(effect, Say)] == [True]
    assert not any(isinstance(effect, ToClient) for effect in effects)
    assert core.figures()["gauges"]["consumers"] == 0


def test_no_host_is_connected_to_on_another_hosts_word(core: ReceiverCore) -> None:
    core.from_link(b"l", Hello("receiver", "compute1", ORIGIN), NOW)
    for number in range(1, 50):
        envelope = Envelope(MessageId(ORIGIN, number), Pattern.CAST, Address("compute", server=f"evil{number}"), "compute1", 30.0)
        core.from_link(b"l", Parcel(envelope, b""), NOW)
    assert not any(isinstance(effect, Dial) for effect in core.take_effects(NOW))
    assert {peer["host"] for peer in core.status(NOW)["peers"]} == {"compute1"}


def test_what_is_read_late_from_an_earlier_connection_of_a_receiver_is_not_heard(core: ReceiverCore) -> None:
    core.from_link(b"old", Hello("receiver", "compute1", ORIGIN), NOW)
    core.from_link(b"new", Hello("receiver", "compute1", ORIGIN), NOW)
    core.take_effects(NOW)
    envelope = Envelope(MessageId(ORIGIN, 1), Pattern.CAST, parse_topic("compute.control1"), "compute1", 9.0, "control1")
    core.from_link(b"old", Parcel(envelope, b""), NOW)
    assert core.take_effects(NOW) == [ToLink(b"old", WhoAreYou())]


def test_nor_by_way_of_a_notification(core: ReceiverCore) -> None:
    core.from_link(b"l", Hello("receiver", "compute1", ORIGIN), NOW)
    for number in range(1, 50):
        envelope = Envelope(MessageId(ORIGIN, number), Pattern.NOTIFICATION, Address("compute", server=f"evil{number}"), "compute1", 30.0)
        core.from_link(b"l", Parcel(envelope, b""), NOW)
    for _turn in range(3):
        core.tick(NOW + 1.0)
    assert not any(isinstance(effect, Dial) and "evil" in effect.host for effect in core.take_effects(NOW + 1.0))


def test_two_names_of_one_place_are_one_host_if_one_is_an_address(core: ReceiverCore) -> None:
    core.from_client(b"c", Hello("service", "control1", ORIGIN, "one", 1), NOW)
    core.from_client(b"c", Parcel(Envelope(MessageId(ORIGIN, 1), Pattern.CAST, Address("compute", server="192.0.2.7"), "control1", 30.0), b""), NOW)
    assert Dial("192.0.2.7") in core.take_effects(NOW)
    core.same_place("192.0.2.7", "compute1", "192.0.2.7", NOW)
    core.peer_connected("compute1", "192.0.2.7:9500", NOW)
    core.from_peer("compute1", Welcome("compute1", "b" * 16), NOW)
    sent = [effect for effect in core.take_effects(NOW) if isinstance(effect, ToPeer) and isinstance(effect.message, Parcel)]
    assert [effect.host for effect in sent] == ["compute1"]
    core.replace_matchmaker(Ring(Settings("control1"), {"compute": ["compute1", "compute2"]}), NOW)
    core.same_place("compute2", "compute1", "192.0.2.7", NOW)
    assert any("it has the same address as host compute1: 192.0.2.7" in text for text in said(core))


def test_what_ends_when_one_before_it_made_room_is_no_surprise() -> None:
    small = World({"compute": ["compute1"]}, ["compute1"], backlog=2)
    small.start_service("compute1", ["compute.compute1"], window=0)
    sender = small.start_service("compute1")
    short = [sender.cast("compute.compute1", b"", ttl=1.0) for _turn in range(2)]
    sender.cast("compute.compute1", b"", ttl=60.0)
    small.advance(15.0)
    assert set(sender.settled) == set(short)


def test_a_receiver_started_anew_is_told_of_thousands_that_had_been_taken(core: ReceiverCore) -> None:
    """Each that has ended lets the next be sent, and its end is known at once."""
    sender, consumer, count = "a" * 16, "b" * 16, 3000
    address = Address("compute")
    core.from_client(b"sender", Hello("service", "control1", sender, "sender", 1, 0), NOW)
    for number in range(1, count + 1):
        envelope = Envelope(MessageId(sender, number), Pattern.CAST, address, "control1", 30.0, "control1", attempt=1)
        core.from_client(b"sender", Parcel(envelope, b"body"), NOW)
    core.from_client(b"consumer", Hello("service", "control1", consumer, "consumer", 2, 10, ((sender, 1, tuple(range(1, count + 1))),)), NOW)
    core.from_client(b"consumer", Consume(1, (address,)), NOW)
    effects = core.take_effects(NOW)
    for beat in range(1, 60):
        core.tick(NOW + beat / 10)
        effects += core.take_effects(NOW + beat / 10)
    told = [effect.message for effect in effects if isinstance(effect, ToClient) and effect.client == b"sender"]
    assert sum(len(message.messages) for message in told if isinstance(message, Accepted)) == count
    assert not [effect for effect in effects if isinstance(effect, ToClient) and isinstance(effect.message, Parcel)]
