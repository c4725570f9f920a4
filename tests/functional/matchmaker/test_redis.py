# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""MatchMaker `redis` with a real Redis server and real receivers, either of which goes and comes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from brokerless.rpc.driver.connection import Connection, Incoming, close_connections, process_connection
from brokerless.rpc.driver.workers import worker_of
from brokerless.rpc.topics import Address, parse_topic
from receiver_process import Receiver, free_port, short_directory, wait_until
from redis_server import RedisServer

HOSTS = {"control1": "127.0.2.1", "compute1": "127.0.2.2", "compute2": "127.0.2.3"}
COMPUTE = Address("compute")
FOR_HOURS = {"matchmaker_heartbeat_freq": 3600, "matchmaker_heartbeat_ttl": 7200}
"""Renewals that no test lives to see: what is noticed then is noticed because it happened."""
FOR_SECONDS = {"matchmaker_heartbeat_freq": 0.5, "matchmaker_heartbeat_ttl": 2}
TTL = 30.0


class Service:
    """A process of a service at a receiver: takes down what it is given, and answers with its host."""

    def __init__(self, receiver: Receiver, *topics: str) -> None:
        self.connection = Connection(str(receiver.ipc_directory), receiver.host, heartbeat=0.2)
        self.bodies: list[bytes] = []
        if topics:
            self.connection.subscribe([parse_topic(topic) for topic in topics], self._take)

    def _take(self, incoming: Incoming) -> None:
        self.bodies.append(incoming.body)
        incoming.reply(self.connection.host.encode())

    def call(self, topic: str = "compute") -> str:
        return self.connection.call(parse_topic(topic), b"who are you", TTL).decode()

    def status(self) -> Any:
        return self.connection.inspect("status")

    def problem(self) -> str:
        return str(self.status()["matchmaker"]["error"])

    def known(self, topic: str = "compute") -> list[str]:
        """The hosts that the receiver knows for a topic."""
        return [host["host"] for host in self.connection.inspect("route", topic)["hosts"]]

    def ready(self, topic: str = "compute") -> list[str]:
        """Those of them that can take a message now."""
        return [host["host"] for host in self.connection.inspect("route", topic)["hosts"] if host["state"] == "up"]

    def peer(self, host: str) -> str:
        return next((str(peer["state"]) for peer in self.status()["peers"] if peer["host"] == host), "unknown")


class Cloud:
    """Hosts that find each other through one Redis, which the test starts."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.directory = stack.enter_context(short_directory())
        self.port = free_port(list(HOSTS.values()))

    def receiver(self, host: str, server: RedisServer | None, times: dict[str, float] | None = None, **settings: object) -> Receiver:
        """Make a host; its receiver is stopped at the end, and started by the test."""
        known = ",".join(f"{name}:{address}" for name, address in HOSTS.items())
        where = {"port": server.port, "timeout": 1} if server else {}
        receiver = Receiver(
            self.directory,
            host,
            HOSTS[host],
            self.port,
            redis=where | settings,
            rpc_zmq_matchmaker="redis",
            rpc_zmq_host_addresses=known,
            **(times or FOR_HOURS),
        )
        self.stack.callback(receiver.stop)
        return receiver

    def started(self, host: str, server: RedisServer | None, times: dict[str, float] | None = None, **settings: object) -> Receiver:
        receiver = self.receiver(host, server, times, **settings)
        receiver.start()
        return receiver

    def service(self, receiver: Receiver, *topics: str) -> Service:
        """Make a service; its connection is closed at the end."""
        service = Service(receiver, *topics)
        self.stack.callback(service.connection.close, timeout=1.0)
        return service

    def compute_hosts(self, server: RedisServer, times: dict[str, float] | None = None) -> list[Receiver]:
        """Start two hosts with a consumer of compute each."""
        receivers = [self.started(host, server, times) for host in ("compute1", "compute2")]
        self.consumers = [self.service(receiver, "compute", f"compute.{receiver.host}", "fanout~compute") for receiver in receivers]
        return receivers


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def cloud(server: RedisServer) -> Iterator[Cloud]:
    with ExitStack() as stack:
        yield Cloud(stack)


@pytest.fixture
def database(server: RedisServer) -> Iterator[Any]:
    """A client of the test's own."""
    with redis.Redis(port=server.port, decode_responses=True) as database:
        yield database


def both_are_ready(service: Service) -> None:
    wait_until(lambda: service.ready() == ["compute1", "compute2"], "both compute hosts are known and up")


def test_calls_go_round_and_fanouts_reach_all(cloud: Cloud, server: RedisServer) -> None:
    control = cloud.service(cloud.started("control1", server))
    cloud.compute_hosts(server)
    both_are_ready(control)
    answers = [control.call() for _turn in range(6)]
    assert sorted(answers[:2]) == ["compute1", "compute2"]
    assert answers == answers[:2] * 3
    control.connection.cast(Address("compute", fanout=True), b"to all", TTL)
    for consumer in cloud.consumers:
        wait_until(lambda consumer=consumer: b"to all" in consumer.bodies, "the fanout arrived")
    assert control.problem() == ""
    assert control.status()["matchmaker"] == {"name": "redis", "source": f"127.0.0.1:{server.port}", "file": "", "error": ""}


def test_consumers_that_come_and_go_are_known_at_once(cloud: Cloud, server: RedisServer, database: Any) -> None:
    control = cloud.service(cloud.started("control1", server))
    compute1 = cloud.started("compute1", server)
    service = cloud.service(compute1, "volume")
    wait_until(lambda: control.ready("volume") == ["compute1"], "the first consumer is known")
    later = cloud.service(compute1, "network")
    wait_until(lambda: control.ready("network") == ["compute1"], "a later one is known")
    later.connection.close(timeout=1.0)
    wait_until(lambda: control.known("network") == [], "the one that left is not known any more")
    assert control.known("volume") == ["compute1"]
    service.connection.close(timeout=1.0)
    compute1.stop()
    wait_until(lambda: database.hgetall("brokerless:hosts").keys() == {"control1"}, "the host that was shut down has left")
    assert control.known("volume") == []


def test_a_fanout_misses_no_service_whose_receiver_is_restarted(cloud: Cloud, server: RedisServer) -> None:
    control = cloud.service(cloud.started("control1", server))
    compute1, _compute2 = cloud.compute_hosts(server)
    both_are_ready(control)
    for end in (compute1.stop, compute1.kill):
        end()
        wait_until(lambda: control.ready() == ["compute2"], "the host is down")
        control.connection.cast(Address("compute", fanout=True), b"meanwhile", TTL)
        compute1.start()
        control.connection.cast(Address("compute", fanout=True), b"early", TTL)
        for consumer in cloud.consumers:
            wait_until(lambda consumer=consumer: sorted(consumer.bodies) == [b"early", b"meanwhile"], "the fanouts arrived")
            consumer.bodies.clear()
        both_are_ready(control)


def test_services_that_end_with_their_receiver_are_forgotten_soon(cloud: Cloud, server: RedisServer) -> None:
    control = cloud.service(cloud.started("control1", server))
    compute1, _compute2 = cloud.compute_hosts(server, FOR_SECONDS)
    both_are_ready(control)
    compute1.stop()
    wait_until(lambda: control.known() == ["compute2"], "the host is not known any more, though nothing is renewed here for hours")


def test_each_worker_has_a_view_of_its_own(cloud: Cloud, server: RedisServer, database: Any) -> None:
    control, compute = (cloud.started(host, server, FOR_HOURS | {"rpc_zmq_receiver_workers": 2}) for host in ("control1", "compute1"))
    cloud.stack.callback(close_connections)
    topics = [Address(f"topic{number}") for number in range(8)]
    assert {worker_of(topic, 2) for topic in topics} == {0, 1}
    process_connection(compute.conf).subscribe(topics, lambda incoming: incoming.reply(b"here"))
    for topic in topics:
        assert process_connection(control.conf).call(topic, b"where", TTL) == b"here"
    assert set(database.keys()) == {"brokerless:hosts", "brokerless:expiry", "brokerless:1:hosts", "brokerless:1:expiry"}


def test_a_message_waits_for_the_first_consumer(cloud: Cloud, server: RedisServer) -> None:
    control = cloud.service(cloud.started("control1", server))
    control.connection.cast(COMPUTE, b"early", TTL)
    compute1 = cloud.service(cloud.started("compute1", server), "compute")
    wait_until(lambda: compute1.bodies == [b"early"], "the cast arrived")


def test_a_server_that_is_no_host_is_found_where_it_is_consumed(cloud: Cloud, server: RedisServer) -> None:
    control = cloud.service(cloud.started("control1", server))
    cloud.service(cloud.started("compute1", server), "volume", "volume.backends@lvm")
    wait_until(lambda: control.ready("volume.backends@lvm") == ["compute1"], "the server is known")
    assert control.call("volume.backends@lvm") == "compute1"


def test_a_host_that_died_is_passed_over_and_then_forgotten(cloud: Cloud, server: RedisServer, database: Any) -> None:
    control = cloud.service(cloud.started("control1", server, FOR_SECONDS))
    _compute1, compute2 = cloud.compute_hosts(server, FOR_SECONDS)
    both_are_ready(control)
    compute2.kill()
    wait_until(lambda: control.ready() == ["compute1"], "the dead host is down")
    assert [control.call() for _turn in range(3)] == ["compute1"] * 3
    wait_until(lambda: control.known() == ["compute1"], "the dead host is forgotten")
    wait_until(lambda: "compute2" not in database.hgetall("brokerless:hosts"), "its entry is cleaned up")
    compute2.start()
    both_are_ready(control)


def test_a_view_outlives_redis_and_a_redis_that_forgot_everything(cloud: Cloud, server: RedisServer, database: Any) -> None:
    control = cloud.service(cloud.started("control1", server))
    compute1, _compute2 = cloud.compute_hosts(server)
    both_are_ready(control)
    server.kill()
    wait_until(control.problem, "the outage is noticed")
    assert f"Redis at 127.0.0.1:{server.port} can't be reached: " in control.problem()
    assert " stays in use; trying again" in control.problem()
    assert sorted(control.call() for _turn in range(2)) == ["compute1", "compute2"]
    compute1.kill()
    wait_until(lambda: control.ready() == ["compute2"], "a host that dies meanwhile is down")
    server.start()
    seen: set[tuple[str, ...]] = set()

    def well_again() -> bool:
        seen.add(tuple(control.known()))
        return control.problem() == "" and sorted(database.hgetall("brokerless:hosts")) == ["compute2", "control1"]

    wait_until(well_again, "the hosts that live have registered again")
    assert seen == {("compute1", "compute2")}, "the view was another one in between"
    assert control.call() == "compute2"


def test_data_that_vanish_from_a_redis_that_stays_are_written_again(cloud: Cloud, server: RedisServer, database: Any) -> None:
    control = cloud.service(cloud.started("control1", server, FOR_SECONDS))
    cloud.compute_hosts(server, FOR_SECONDS)
    both_are_ready(control)
    database.flushall()
    wait_until(lambda: sorted(database.hgetall("brokerless:hosts")) == ["compute1", "compute2", "control1"], "all are registered again")
    both_are_ready(control)


def test_without_redis_at_the_start_a_hosts_own_consumers_are_served(cloud: Cloud, server: RedisServer) -> None:
    server.stop()
    receiver = cloud.started("control1", server)
    control = cloud.service(receiver, "compute")
    assert control.call() == "control1"
    wait_until(lambda: "can't be reached" in control.problem(), "the outage is said")
    assert "only this host's own consumers are known; trying again" in control.problem()
    server.start()
    wait_until(lambda: control.problem() == "", "Redis is found")
    cloud.service(cloud.started("compute1", server), "compute")
    wait_until(lambda: control.ready() == ["compute1", "control1"], "the other host is found")
    assert receiver.log.count("can't be reached") == 1, "an outage is said once"


def test_hostile_values_are_ignored_and_named(cloud: Cloud, server: RedisServer, database: Any) -> None:
    control = cloud.service(cloud.started("control1", server))
    cloud.compute_hosts(server)
    both_are_ready(control)
    far = database.zscore("brokerless:expiry", "compute1")
    values = {
        "../../etc/passwd": '{"format":1,"consumes":["//compute"]}',
        "not-json": "{",
        "a-list": "[]",
        "nested": "[" * 100_000,
        "of-the-future": '{"format":2}',
        "numbers": '{"format":1,"consumes":[1]}',
        "dots": '{"format":1,"consumes":["//../x"]}',
        "slash": '{"format":1,"consumes":["//compute/../../x"]}',
        "huge": "x" * (300 << 10),
        "many": json.dumps({"format": 1, "consumes": ["//t"] * 3000}),
        "empty": "",
    }
    for host, value in values.items():
        database.hset("brokerless:hosts", host, value)
        database.zadd("brokerless:expiry", {host: far})
        database.publish("brokerless:changes", host)
    database.zadd("brokerless:expiry", {"for-ever": float("inf")})
    database.hset("brokerless:hosts", "for-ever", '{"format":1,"consumes":["//compute"]}')
    for noise in ("for-ever", "x" * (1 << 20), "\0\n", b"\xff\xfe", ""):
        database.publish("brokerless:changes", noise)
    wait_until(lambda: f"and {len(values)} more" in control.problem(), "all of them are noticed")
    assert "'../../etc/passwd'" in control.problem()
    assert control.known() == ["compute1", "compute2"]
    assert sorted(control.call() for _turn in range(2)) == ["compute1", "compute2"]
    database.hdel("brokerless:hosts", *values, "for-ever")
    database.zrem("brokerless:expiry", *values, "for-ever")
    for host in [*values, "for-ever"]:
        database.publish("brokerless:changes", host)
    wait_until(lambda: control.problem() == "", "they are gone")


@pytest.mark.parametrize(("key", "kind"), [("brokerless:hosts", "a list, not a hash"), ("brokerless:expiry", "a list, not a zset")])
def test_a_key_of_another_type_is_named(key: str, kind: str, cloud: Cloud, server: RedisServer, database: Any) -> None:
    database.lpush(key, "someone else's")
    control = cloud.service(cloud.started("control1", server), "compute")
    wait_until(lambda: f"{key} is {kind}: delete that key" in control.problem(), "the key is named")
    assert control.call() == "control1"
    assert database.lrange(key, 0, -1) == ["someone else's"]
    database.delete(key)
    wait_until(lambda: control.problem() == "", "it goes on by itself")


def test_clouds_with_prefixes_of_their_own_do_not_see_each_other(cloud: Cloud, server: RedisServer, database: Any) -> None:
    control = cloud.service(cloud.started("control1", server, key_prefix="first"), "volume")
    cloud.service(cloud.started("compute1", server, key_prefix="second"), "compute")
    wait_until(lambda: {"first:hosts", "second:hosts"} <= set(database.keys()), "both are registered")
    wait_until(lambda: "//compute" in str(database.hgetall("second:hosts")), "the consumer is registered")
    assert control.known() == []


def test_a_password_is_used_and_a_wrong_one_is_named(cloud: Cloud, server: RedisServer, database: Any) -> None:
    database.config_set("requirepass", "s3cret")
    good = cloud.service(cloud.started("control1", server, password="s3cret"))
    bad_receiver = cloud.started("compute1", server, password="s4cret")
    bad = cloud.service(bad_receiver, "compute")
    none = cloud.service(cloud.started("compute2", server))
    wait_until(lambda: good.problem() == "", "the right password opens")
    for service in (bad, none):
        wait_until(lambda service=service: "refuses us" in service.problem(), "the refusal is said")
        assert "check username and password in [matchmaker_redis]" in service.problem()
    assert "s4cret" not in bad_receiver.log + json.dumps(bad.status())
    database.config_set("requirepass", "s4cret")
    wait_until(lambda: bad.problem() == "", "it has kept trying")


def test_a_user_with_the_rights_in_the_documentation_can_do_all(cloud: Cloud, server: RedisServer, database: Any) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "matchmakers.md").read_text(encoding="utf-8")
    rights = page[page.index("user brokerless on ") :].partition("```")[0].split()[2:]
    database.execute_command("ACL", "SETUSER", "brokerless", *rights)
    database.execute_command("ACL", "SETUSER", "stranger", "on", ">password", "+@all", "-eval", "~*", "&*")
    database.config_set("requirepass", "another")
    control = cloud.service(cloud.started("control1", server, username="brokerless", password="password"))
    stranger = cloud.service(cloud.started("compute2", server, username="stranger", password="password"))
    cloud.service(cloud.started("compute1", server, username="brokerless", password="password"), "compute")
    wait_until(lambda: control.ready() == ["compute1"], "the consumer is known")
    assert control.problem() == ""
    wait_until(lambda: "does not permit what we need" in stranger.problem(), "the lack of rights is said")


def test_a_unix_socket_by_its_url(cloud: Cloud, server: RedisServer, database: Any) -> None:
    control = cloud.service(cloud.started("control1", None, url=f"unix://{server.socket_path}"), "compute")
    wait_until(lambda: control.problem() == "", "Redis is found")
    wait_until(lambda: "//compute" in str(database.hgetall("brokerless:hosts")), "the consumer is registered")
