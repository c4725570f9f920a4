# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The program `brokerless`, run as an operator runs it, against real receivers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokerless.rpc import impl_zmq
from brokerless.rpc.context import RpcContext
from brokerless.rpc.dispatch import RpcDispatcher
from receiver_process import Receiver, hosts, run_program, runtime_environment, short_directory, wait_until

RING = {"compute": ["compute1", "compute2"], "network": ["compute2"]}


class Compute:
    RPC_API_VERSION = "2.1"

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def echo(self, context: RpcContext, **values: Any) -> Any:
        self.seen.append(values)
        return values

    def fails(self, context: RpcContext, message: str) -> None:
        raise ValueError(message)


class Plain(Compute):
    RPC_API_VERSION = "1.0"


@pytest.fixture(scope="module")
def three_hosts() -> Iterator[list[Receiver]]:
    with hosts(["control1", "compute1", "compute2"], RING) as running:
        yield running


@pytest.fixture(scope="module")
def services(three_hosts: list[Receiver]) -> Iterator[list[Plain]]:
    """A consumer of compute on compute1 and compute2; that of compute1 serves API version 2.1 too."""
    plain = [Plain(), Plain()]
    connections = []
    for receiver, proxy in zip(three_hosts[1:], (RpcDispatcher([plain[0], Compute()]), plain[1]), strict=True):
        connection = impl_zmq.create_connection(receiver.conf)
        connection.create_consumer("compute", proxy)
        connection.create_consumer("compute", proxy, fanout=True)
        connection.consume_in_thread()
        connections.append(connection)
    wait_until(lambda: {host["state"] for host in data(three_hosts[0], "ring", "show", "compute")["hosts"]} == {"up"}, "both hosts can be reached")
    yield plain
    for connection in connections:
        connection.close()
    impl_zmq.cleanup()


def run(receiver: Receiver, *arguments: str) -> tuple[int, str, str]:
    done = run_program("brokerless", "--config-file", receiver.config_file, *arguments)
    return done.returncode, done.stdout, done.stderr


def data(receiver: Receiver, *arguments: str) -> Any:
    code, output, errors = run(receiver, "--json", *arguments)
    assert (code, errors) == (0, "")
    return json.loads(output)


def complaint(receiver: Receiver, *arguments: str) -> str:
    """Return the one line of a command that must fail."""
    code, output, errors = run(receiver, *arguments)
    assert (code, output) == (1, "")
    assert errors.startswith("brokerless: ")
    assert errors.count("\n") == 1
    return errors.removeprefix("brokerless: ").rstrip("\n")


def test_status_tells_what_the_receiver_is_and_knows(three_hosts: list[Receiver], services: list[Plain]) -> None:
    control1, compute1, _compute2 = three_hosts
    status = data(control1, "status")
    assert (status["host"], status["pid"], status["ports"]) == ("control1", control1.pid, [control1.port])
    assert (status["matchmaker"]["name"], status["matchmaker"]["source"]) == ("fanout-ring", str(control1.ring_file))
    assert not status["matchmaker"]["error"]
    assert [(peer["host"], peer["state"]) for peer in status["peers"]] == [("compute1", "up"), ("compute2", "up")]
    consumers = {consumer["address"] for consumer in data(compute1, "status")["consumers"]}
    assert {"compute", "compute.compute1", "fanout~compute"} <= consumers


def test_status_is_a_table_for_people(three_hosts: list[Receiver], services: list[Plain]) -> None:
    for receiver, texts in [
        (three_hosts[0], ["Peers", "compute1", "compute2"]),
        (three_hosts[1], ["Consumers", "compute.compute1", "fanout~compute"]),
    ]:
        code, output, errors = run(receiver, "status")
        assert (code, errors) == (0, "")
        for text in [f"Receiver of {receiver.host}", "MatchMaker fanout-ring", *texts]:
            assert text in output


def test_check_calls_oneself_and_says_what_is_wrong(three_hosts: list[Receiver], services: list[Plain]) -> None:
    control1 = three_hosts[0]
    checked = data(control1, "check")
    assert (checked["host"], checked["peers_not_up"], checked["matchmaker"]["error"], checked["curve"]) == ("control1", [], "", None)
    assert checked["round_trip_ms"] > 0
    assert "All hosts that it knows are up." in run(control1, "check")[1]
    ring = control1.ring_file.read_text(encoding="utf-8")
    control1.ring_file.write_text("{", encoding="utf-8")
    try:
        wait_until(lambda: run(control1, "check")[0] == 1, "the ring that can't be read is noticed")
        code, output, errors = run(control1, "--json", "check")
        assert (code, json.loads(output)["host"]) == (1, "control1")
        assert errors.startswith(f"brokerless: MatchMaker: ring file {control1.ring_file}")
    finally:
        control1.ring_file.write_text(ring, encoding="utf-8")
    wait_until(lambda: run(control1, "check")[0] == 0, "the ring is read again")


def test_check_of_a_host_without_a_receiver_fails(tmp_path: Path) -> None:
    assert "is brokerless-receiver running?" in complaint(Receiver(tmp_path), "check")


@pytest.mark.parametrize(
    ("topic", "expected"),
    [("compute", [{"compute1"}, {"compute2"}]), ("compute.compute2", [{"compute2"}]), ("fanout~compute", [{"compute1", "compute2"}])],
)
def test_ping_tells_who_answers_and_how_soon(three_hosts: list[Receiver], services: list[Plain], topic: str, expected: list[set[str]]) -> None:
    pinged = data(three_hosts[0], "ping", topic)
    assert pinged["topic"] == topic
    assert {answer["host"] for answer in pinged["answers"]} in expected
    assert all(answer["round_trip_ms"] > 0 and answer["pid"] == os.getpid() for answer in pinged["answers"])
    assert pinged["silent"] == []


def test_ping_of_nobody_says_why(three_hosts: list[Receiver], services: list[Plain]) -> None:
    control1 = three_hosts[0]
    assert "on topic 'unknown' within 0.5 s: MatchMaker fanout-ring" in complaint(control1, "ping", "unknown", "--timeout", "0.5")
    assert "has no host for topic 'unknown'" in complaint(control1, "ping", "fanout~unknown", "--timeout", "0.5")
    code, output, errors = run(control1, "--json", "ping", "fanout~network", "--timeout", "0.5")
    assert code == 1
    assert errors.startswith("brokerless: 1 of 1 hosts of topic 'network' did not answer: compute2; the first: no answer")
    assert [silent["host"] for silent in json.loads(output)["silent"]] == ["compute2"]


def test_call_shows_the_value(three_hosts: list[Receiver], services: list[Plain]) -> None:
    values = ["name=web1", "count=3", 'text="3"', 'tags=["a", null]', "empty=", "bad=\x1b[2J"]
    expected = {"name": "web1", "count": 3, "text": "3", "tags": ["a", None], "empty": "", "bad": "\x1b[2J"}
    assert data(three_hosts[0], "call", "compute", "echo", *values) == {"topic": "compute", "method": "echo", "value": expected}
    code, output, errors = run(three_hosts[0], "call", "compute", "echo", *values)
    assert (code, errors) == (0, "")
    assert json.loads(output) == expected
    assert "\x1b" not in output


def test_call_of_a_version_of_the_api(three_hosts: list[Receiver], services: list[Plain]) -> None:
    control1 = three_hosts[0]
    assert data(control1, "call", "compute.compute1", "echo", "--rpc-version", "2.0", "a=1")["value"] == {"a": 1}
    told = complaint(control1, "call", "compute.compute2", "echo", "--rpc-version", "2.0")
    assert told == "UnsupportedRpcVersion: RPC version 2.0 is not supported by this endpoint"


def test_call_that_fails_tells_what_the_method_raised_in_one_line(three_hosts: list[Receiver], services: list[Plain]) -> None:
    control1 = three_hosts[0]
    assert complaint(control1, "call", "compute", "fails", 'message="no\\nroom \\u001b[2J"') == "ValueError: no room \\x1b[2J"
    assert complaint(control1, "call", "compute", "nothing") == "NoSuchMethod: No such RPC function 'nothing'"
    assert complaint(control1, "call", "unknown", "echo", "--timeout", "0.3").startswith(
        "no answer to method 'echo' on topic 'unknown' within 0.3 s: "
    )
    assert complaint(control1, "call", "a/b", "echo").startswith("topic 'a/b' contains '/'")


def test_cast_returns_when_the_message_was_handed_over(three_hosts: list[Receiver], services: list[Plain]) -> None:
    for service in services:
        service.seen.clear()
    assert data(three_hosts[0], "cast", "compute.compute2", "echo", "a=1") == {"topic": "compute.compute2", "method": "echo", "handed_over": True}
    wait_until(lambda: services[1].seen == [{"a": 1}], "the cast ran")
    code, output, errors = run(three_hosts[0], "fanout-cast", "compute", "echo", "a=2")
    assert (code, output, errors) == (0, "Method echo for topic compute was handed over.\n", "")
    wait_until(lambda: services[0].seen == [{"a": 2}] and services[1].seen == [{"a": 1}, {"a": 2}], "the fanout ran everywhere")


def test_a_cast_that_cannot_be_handed_over_is_a_failure(three_hosts: list[Receiver], services: list[Plain]) -> None:
    told = complaint(three_hosts[0], "cast", "unknown", "echo", "--timeout", "0.5")
    assert "for unknown was not handed over: " in told
    assert "has no host for topic 'unknown'" in told


def test_ring_show_tells_the_ring_in_use_and_the_states_of_its_hosts(three_hosts: list[Receiver], services: list[Plain]) -> None:
    control1, compute1, _compute2 = three_hosts
    shown = data(control1, "ring", "show")
    assert (shown["matchmaker"], shown["file"]) == ("fanout-ring", str(control1.ring_file))
    assert not shown["error"]
    assert shown["topics"] == [
        {"topic": "compute", "hosts": [{"host": "compute1", "state": "up"}, {"host": "compute2", "state": "up"}]},
        {"topic": "network", "hosts": [{"host": "compute2", "state": "up"}]},
    ]
    assert data(compute1, "ring", "show")["topics"][0]["hosts"][0] == {"host": "compute1", "state": "this host"}
    code, output, _errors = run(control1, "ring", "show")
    assert code == 0
    assert "compute2" in output


def test_ring_show_of_a_topic_tells_where_a_message_would_go(three_hosts: list[Receiver], services: list[Plain]) -> None:
    control1 = three_hosts[0]
    route = data(control1, "ring", "show", "compute")
    assert (route["topic"], route["kind"], route["problem"]) == ("compute", "bare", None)
    assert [host["host"] for host in route["hosts"]] == ["compute1", "compute2"]
    assert [host["next"] for host in route["hosts"]].count(True) == 1
    code, output, _errors = run(control1, "ring", "show", "compute.compute2")
    assert code == 0
    assert "Topic compute.compute2, directed" in output
    assert "has no host for topic 'unknown'" in run(control1, "ring", "show", "unknown")[1]
    assert complaint(control1, "ring", "show", "a b").startswith("topic 'a b' contains ' '")


@pytest.fixture
def alone() -> Iterator[Receiver]:
    """One host with the MatchMaker localhost whose receiver does not run."""
    with short_directory() as directory:
        receiver = Receiver(directory)
        yield receiver
        receiver.kill()


@pytest.mark.parametrize("command", [["status"], ["ping", "compute"], ["ring", "show"], ["ring", "show", "compute"]])
def test_without_a_receiver_a_question_says_so(alone: Receiver, command: list[str]) -> None:
    assert complaint(alone, *command) == f"there is no receiver at {alone.ipc_directory}/receiver.sock: is brokerless-receiver running?"


def test_without_a_receiver_calls_and_casts_say_so(alone: Receiver) -> None:
    for command in ("call", "cast", "fanout-cast"):
        told = complaint(alone, command, "compute", "echo", "--timeout", "0.3")
        assert "receiver" in told


def test_ring_show_without_a_ring_says_so(alone: Receiver) -> None:
    alone.start()
    assert complaint(alone, "ring", "show") == "the receiver of control1 uses MatchMaker localhost, which has no ring file; give a TOPIC"


def test_output_that_nobody_reads_is_no_traceback(alone: Receiver, tmp_path: Path) -> None:
    ring = tmp_path / "ring.json"
    ring.write_text(json.dumps({f"topic{number}": ["host1"] for number in range(5000)}))
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-c", "from brokerless.cmd.brokerless import main; raise SystemExit(main())", "ring", "check", str(ring)]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=runtime_environment(), timeout=60, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_keys_are_made_and_shown_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "curve.secret"
    made = run_program("brokerless", "key", "new", path)
    assert (made.returncode, made.stderr) == (0, "")
    assert path.stat().st_mode & 0o777 == 0o600
    content = path.read_text()
    assert f"public = {made.stdout}" in content
    shown = run_program("brokerless", "--json", "key", "show", path)
    assert json.loads(shown.stdout) == {"file": str(path), "public_keys": [made.stdout.rstrip("\n")]}
    again = run_program("brokerless", "key", "new", path)
    assert (again.returncode, again.stdout, again.stderr) == (1, "", f"brokerless: key file {path} can't be made: File exists\n")
    assert path.read_text() == content
    path.chmod(0o644)
    assert "has mode 0644" in run_program("brokerless", "key", "show", path).stderr
