# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A real receiver's metrics, read as Prometheus reads them, and what `brokerless status` says of the same."""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokerless.rpc import impl_zmq
from brokerless.rpc.context import RpcContext
from brokerless.rpc.driver.connection import Connection
from brokerless.rpc.topics import Address, parse_topic
from brokerless.version import VERSION
from hostile_peer import HostilePeer
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from receiver_process import Receiver, free_port, run_program, short_directory, wait_until

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Compute:
    RPC_API_VERSION = "1.0"

    def echo(self, context: RpcContext, value: Any) -> Any:
        return value


def text_of(receiver: Receiver, accept: str = "text/plain") -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{receiver.conf.rpc_zmq_metrics_port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.read().decode())


def scrape(receiver: Receiver) -> Samples:
    """Return what the receiver shows, without what is about its process."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text_of(receiver))
        for sample in family.samples
        if family.name.startswith("brokerless_")
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((f"brokerless_{name}", frozenset(labels.items())), 0.0)


def labels_of(samples: Samples, name: str) -> set[str]:
    return {label for (sample, labels) in samples for _key, label in labels if sample == f"brokerless_{name}"}


def status_of(receiver: Receiver) -> Any:
    done = run_program("brokerless", "--config-file", receiver.config_file, "--json", "status")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with short_directory() as directory:
        port = free_port(["127.0.0.1"])
        with Receiver(directory, port=port, rpc_zmq_metrics_port=port + 1, rpc_zmq_port_count=2, rpc_zmq_topic_backlog=20) as running:
            yield running
            impl_zmq.cleanup()


def test_what_is_scraped_is_what_status_says(receiver: Receiver) -> None:
    before = scrape(receiver)
    assert value(before, "messages_total", side="forwarding", kind="call", outcome="accepted") == 0
    connection = impl_zmq.create_connection(receiver.conf)
    connection.create_consumer("compute", Compute())
    connection.consume_in_thread()
    for number in range(10):
        assert impl_zmq.call(receiver.conf, None, "compute", {"method": "echo", "args": {"value": number}}) == number
    impl_zmq.cast(receiver.conf, None, "compute", {"method": "echo", "args": {"value": 0}})
    wait_until(
        lambda: (
            value(scrape(receiver), "messages_total", side="delivery", kind="cast", outcome="accepted") == 1
            and value(scrape(receiver), "messages_total", side="delivery", kind="reply", outcome="accepted") == 10
        ),
        "all is accepted",
    )
    after = scrape(receiver)
    for side, outcome in (("forwarding", "submitted"), ("forwarding", "accepted"), ("delivery", "handed_over"), ("delivery", "accepted")):
        counted = {kind: value(after, "messages_total", side=side, kind=kind, outcome=outcome) for kind in ("call", "cast", "reply", "fanout")}
        assert counted == {"call": 10, "cast": 1, "reply": 10, "fanout": 0}, (side, outcome)
    assert value(after, "services") == 1
    assert value(after, "consumers") == 2  # compute and compute.control1
    for stage in ("forwarding", "delivery", "consumer"):
        assert value(after, "stage_seconds_count", stage=stage) == 21
        assert value(after, "stage_seconds_sum", stage=stage) > 0 or stage != "consumer"
        assert value(after, "stage_seconds_bucket", stage=stage, le="+Inf") == 21
    assert value(after, "stage_seconds_count", stage="network") == 0
    assert {dict(labels)["version"] for name, labels in after if name == "brokerless_build_info"} == {VERSION}

    status = status_of(receiver)
    for row in status["messages"]:
        labels = {name: row[name] for name in ("side", "kind", "outcome")}
        assert value(after, "messages_total", **labels) == row["count"], row
    for stage, histogram in status["seconds"].items():
        assert value(after, "stage_seconds_count", stage=stage) == histogram["count"]
        assert value(after, "stage_seconds_sum", stage=stage) == pytest.approx(histogram["sum"])
    for source in ("services", "peers"):
        assert value(after, "body_bytes_total", source=source) == status["counters"][f"bytes_from_{source}"]
        assert value(after, "received_messages_total", source=source) == status["counters"][f"from_{source}"]
    assert value(after, "body_bytes_total", source="services") > 21 * 20
    assert value(after, "refused_messages_total") == status["counters"]["refused"] == 0
    assert value(after, "refused_connections_total") == status["counters"]["refused_connections"] == 0
    # whoever asks for status is a process itself, and has credit
    for name in status["gauges"].keys() - {"services", "credit"}:
        assert value(after, name) == status["gauges"][name], name


def test_openmetrics_is_spoken_too(receiver: Receiver) -> None:
    families = {family.name for family in read_openmetrics(text_of(receiver, "application/openmetrics-text; version=1.0.0"))}
    assert {"brokerless_build", "brokerless_messages", "brokerless_stage_seconds", "process_open_fds"} <= families


def test_topics_that_come_from_outside_make_no_labels(receiver: Receiver) -> None:
    connection = Connection(str(receiver.ipc_directory), receiver.host)
    try:
        connection.subscribe([parse_topic("compute.control1")], lambda _incoming: None)
        with HostilePeer(receiver) as peer:
            for number in range(300):
                peer.parcel(number + 1, Address(f"evil{number}", server="control1"))
            wait_until(lambda: value(scrape(receiver), "waiting_messages", reason="no consumer") == 300, "all of them wait")
        after = scrape(receiver)
    finally:
        connection.close(timeout=1.0)
    assert labels_of(after, "queue_messages") == {"other"}
    assert value(after, "queue_messages", address="other") == 300
    assert not any("evil" in label for _name, labels in after for _key, label in labels)
    assert len(status_of(receiver)["queues"]) == 20


def test_a_full_backlog_is_counted_and_said_once(receiver: Receiver) -> None:
    with HostilePeer(receiver) as peer:
        for number in range(200):
            peer.parcel(number + 1, Address("compute", server="control1"))
        wait_until(lambda: value(scrape(receiver), "bound_hits_total", bound="topic_backlog") == 180, "what is too much is counted")
    samples = scrape(receiver)
    assert value(samples, "messages_total", side="delivery", kind="cast", outcome="returned_full") == 180
    assert status_of(receiver)["bounds"] == {"topic_backlog": 180}
    assert receiver.log.count("the backlog of compute.control1 is full") == 1


def test_a_broken_ring_is_counted() -> None:
    with short_directory() as directory:
        port = free_port(["127.0.0.1"])
        ring = {"compute": ["control1"]}
        with Receiver(directory, port=port, ring=ring, rpc_zmq_metrics_port=port + 50) as receiver:
            assert value(scrape(receiver), "ring_hosts") == 1
            assert value(scrape(receiver), "ring_faulty") == 0
            receiver.ring_file.write_text("{")
            wait_until(lambda: value(scrape(receiver), "ring_faulty") == 1, "the fault is shown")
            assert value(scrape(receiver), "ring_reload_errors_total") == 1


def test_a_port_in_use_is_named_and_nothing_is_left() -> None:
    with short_directory() as directory, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        receiver = Receiver(directory, port=port - 1, rpc_zmq_metrics_port=port)
        done = run_program("receiver", "--config-file", receiver.config_file)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        assert f"can't show metrics on 127.0.0.1 port {port}: Address already in use" in done.stderr
        assert not list(receiver.ipc_directory.glob("*.sock"))


def test_clients_that_say_nothing_make_no_threads_and_keep_nobody_out_for_long(receiver: Receiver) -> None:
    def threads() -> int:
        return len(list(Path(f"/proc/{receiver.pid}/task").iterdir()))

    before = threads()
    with contextlib.ExitStack() as silent:
        for _turn in range(4):
            silent.enter_context(socket.create_connection(("127.0.0.1", receiver.conf.rpc_zmq_metrics_port)))
        assert value(scrape(receiver), "services") == 0
        assert threads() == before
