# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""`rpc_ping` and `process` with real receivers, the program `brokerless` and consumers."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokerless.rpc import impl_zmq
from receiver_process import RUNTIME, Receiver, hosts, short_directory

RING = {"compute": ["compute1", "compute2"], "scheduler": ["control1"]}


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with the runtime's programs, run from the sources."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for program, module in (("brokerless", "brokerless"), ("brokerless-receiver", "receiver")):
        path = folder / program
        start = f"from brokerless.cmd.{module} import main; raise SystemExit(main())"
        path.write_text(f"#!/bin/sh\nPYTHONPATH='{RUNTIME}' exec '{sys.executable}' -c '{start}' \"$@\"\n", encoding="utf-8")
        path.chmod(0o755)
    return folder


@pytest.fixture
def cloud() -> Iterator[list[Receiver]]:
    """Receivers of control1, compute1 and compute2, and a consumer of the topic compute on each of the latter."""
    with hosts(["control1", "compute1", "compute2"], RING) as receivers, contextlib.ExitStack() as consumers:
        for receiver in receivers[1:]:
            connection = impl_zmq.create_connection(receiver.conf)
            consumers.callback(connection.close)
            service = object()
            connection.create_consumer("compute", service)
            connection.create_consumer(f"compute.{receiver.host}", service)
            connection.create_consumer("compute", service, fanout=True)
            connection.consume_in_thread()
        yield receivers


def test_pings_between_hosts(run_play: Any, programs: Path, cloud: list[Receiver]) -> None:
    def ping(topic: str, **arguments: Any) -> dict[str, Any]:
        return {"brokerless.openstack.rpc_ping": {"topic": topic, **arguments}, "ignore_errors": True}

    tasks = [
        ping("compute", retries=3),
        ping("compute.compute2", retries=3),
        ping("fanout~compute", retries=3),
        ping("nowhere", timeout=1),
        ping("compute"),
    ]
    tasks[-1]["check_mode"] = True
    defaults = {
        "group/brokerless.openstack.openstack": {"config_file": str(cloud[0].config_file), "executable": str(programs / "brokerless"), "timeout": 10}
    }
    done = run_play(tasks, hosts="c1.lab", module_defaults=defaults)
    bare, directed, fanout, nowhere, checked = done.tasks
    assert bare.result["host"] in RING["compute"]
    assert bare.result["round_trip_ms"] > 0
    assert directed.result["host"] == "compute2"
    assert {answer["host"] for answer in fanout.result["answers"]} == {"compute1", "compute2"}
    assert nowhere.outcome == "failed"
    assert "nowhere" in nowhere.result["msg"]
    assert "fanout-ring" in nowhere.result["msg"]
    assert checked.result["host"] in RING["compute"]
    assert not any(result.result["changed"] for result in done.tasks)


def test_a_receiver_as_a_process(run_play: Any, programs: Path) -> None:
    with short_directory() as folder:
        host = Receiver(folder, ring={"scheduler": ["control1"]})
        process = {
            "name": "receiver",
            "command": [str(programs / "brokerless-receiver"), "--config-file", str(host.config_file)],
            "pid_file": str(host.directory / "receiver.pid"),
            "ready_socket": str(host.ipc_directory / "receiver.sock"),
        }
        start = {"brokerless.openstack.process": process}
        other = {"brokerless.openstack.process": {**process, "pid_file": str(host.directory / "other.pid"), "ready_socket": str(folder / "none")}}
        reload = {"brokerless.openstack.process": {**process, "state": "reloaded"}}
        stop = {"brokerless.openstack.process": {**process, "state": "stopped"}}
        try:
            done = run_play([start, start, {**other, "ignore_errors": True}, reload], hosts="c1.lab")
            assert [result.result["changed"] for result in done.tasks] == [True, False, False, True], done.output
            refused = done.tasks[2].result
            assert "process receiver ended at once with exit code 1" in refused["msg"]
            assert str(host.port) in refused["msg"]
        finally:
            ended = run_play([stop, stop], hosts="c1.lab")
        assert [result.result["changed"] for result in ended.tasks] == [True, False], ended.output
        assert "warnings" not in ended.tasks[0].result, "the receiver did not end on SIGTERM"
