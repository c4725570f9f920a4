# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The example of a MatchMaker of one's own: built, installed beside the runtime, and used by real receivers."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from brokerless.rpc.driver.connection import Connection, Incoming
from brokerless.rpc.topics import parse_topic
from receiver_process import Receiver, free_port, short_directory, wait_until

EXAMPLE = Path(__file__).resolve().parents[3] / "files" / "examples" / "directory_matchmaker"
HOSTS = {"control1": "127.0.3.1", "compute1": "127.0.3.2"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the example was installed, as a distribution."""
    made = tmp_path_factory.mktemp("example")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", made, EXAMPLE], check=True)
    (wheel,) = made.glob("directory_matchmaker-1.0-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", made / "site", wheel], check=True)
    return made / "site"


def test_it_is_found_by_its_short_name_and_followed(installed: Path) -> None:
    with short_directory() as directory, ExitStack() as stack:
        source = directory / "hosts.d"
        source.mkdir()
        (source / "compute1").write_text("compute\n")
        (source / ".compute2.swp").write_text("not a host")
        port = free_port(list(HOSTS.values()))
        known = ",".join(f"{name}:{address}" for name, address in HOSTS.items())
        options = {"rpc_zmq_matchmaker": "directory", "rpc_zmq_matchmaker_options": f"path:{source}", "rpc_zmq_host_addresses": known}
        connections = {}
        for host, address in HOSTS.items():
            receiver = Receiver(directory, host, address, port, **options)
            receiver.packages = [installed]
            stack.enter_context(receiver)
            connections[host] = Connection(str(receiver.ipc_directory), host, heartbeat=0.2)
            stack.callback(connections[host].close, timeout=1.0)
        control, compute = connections["control1"], connections["compute1"]

        def answer(incoming: Incoming) -> None:
            incoming.reply(b"here")

        compute.subscribe([parse_topic("compute"), parse_topic("volume")], answer)
        assert control.call(parse_topic("compute"), b"where", 30.0) == b"here"
        assert control.inspect("status")["matchmaker"] == {"name": "directory", "source": str(source), "file": "", "error": ""}

        (source / "compute1").write_text("compute\nvolume\n")
        assert control.call(parse_topic("volume"), b"where", 30.0) == b"here"

        (source / "compute1").write_text("../etc\n")
        wait_until(lambda: control.inspect("status")["matchmaker"]["error"], "the fault is said")
        assert (
            f"{source}/compute1: topic '../etc' contains '..'; what was read before stays in use" in control.inspect("status")["matchmaker"]["error"]
        )
        assert control.call(parse_topic("volume"), b"where", 30.0) == b"here"

        (source / "compute1").write_text("compute\n")
        wait_until(lambda: not control.inspect("status")["matchmaker"]["error"], "it is well again")
        assert control.inspect("route", "volume")["problem"] == f"MatchMaker directory ({source}) has no host for topic 'volume'"
