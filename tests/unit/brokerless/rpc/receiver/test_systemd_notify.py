# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from brokerless.rpc.receiver.systemd_notify import SystemdNotifier


@pytest.fixture(params=["path", "abstract"])
def notify_socket(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, socket.socket]]:
    """A datagram socket as systemd makes it, and its name as systemd writes it into the environment."""
    # a path from here stays below the limit of a UNIX socket, wherever temporary files are
    monkeypatch.chdir(tmp_path)
    name = "./notify" if request.param == "path" else f"@brokerless-test-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        listening.settimeout(60)
        yield name, listening


def test_states_arrive_one_a_line_in_one_datagram(notify_socket: tuple[str, socket.socket]) -> None:
    name, listening = notify_socket
    notifier = SystemdNotifier({"NOTIFY_SOCKET": name})
    notifier.notify("READY=1", "STATUS=listening on port 9500, Gerät")
    notifier.notify("WATCHDOG=1")
    assert listening.recv(4096).decode() == "READY=1\nSTATUS=listening on port 9500, Gerät"
    assert listening.recv(4096) == b"WATCHDOG=1"


def test_a_socket_that_is_gone_does_no_harm(notify_socket: tuple[str, socket.socket]) -> None:
    name, listening = notify_socket
    notifier = SystemdNotifier({"NOTIFY_SOCKET": name})
    notifier.notify("READY=1")
    assert listening.recv(4096) == b"READY=1"
    listening.close()
    notifier.notify("STOPPING=1")


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/" + "x" * 300}], ids=["none", "empty", "too long"])
def test_without_a_usable_socket_nothing_happens(environment: dict[str, str]) -> None:
    SystemdNotifier(environment).notify("READY=1")


def test_the_environment_of_the_process_is_what_counts(notify_socket: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    name, listening = notify_socket
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    SystemdNotifier(os.environ).notify("READY=1")
    assert listening.recv(4096) == b"READY=1"


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getppid())}, None),
        ({"WATCHDOG_USEC": "500"}, 0.00025),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "\u00b2"}, None),
    ],
)
def test_the_watchdog_is_due_twice_in_its_time(environment: dict[str, str], seconds: float | None) -> None:
    assert SystemdNotifier(environment).watchdog_seconds == seconds
