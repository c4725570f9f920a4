# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Real connections and real commands."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from brokerless.ha.probes import AT_ONCE, Prober, ask_command, ask_tcp, tcp_port
from receiver_process import free_port, wait_until

HERE = "127.0.0.1"


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "probe"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o700)
    return str(path)


def test_a_port_that_answers_and_one_that_refuses_are_both_of_a_host_that_is_up() -> None:
    with socket.create_server((HERE, 0)) as listener:
        assert ask_tcp(HERE, listener.getsockname()[1], 5.0)[0] is True
    up, detail = ask_tcp(HERE, free_port([HERE]), 5.0)
    assert up is True
    assert "refuses" in detail


def test_no_answer_proves_nothing() -> None:
    with socket.socket() as full:
        full.bind((HERE, 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection((HERE, port)), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex((HERE, port))
            assert ask_tcp(HERE, port, 0.2)[0] is None
    assert ask_tcp("no such host", 22, 5.0)[0] is None
    assert ask_tcp("x" * 100, 22, 5.0)[0] is None


@pytest.mark.parametrize(
    ("text", "up", "words"),
    [
        ('test "$RPCDAEMON_HOST" = net1', True, "net1 is up"),
        ("exit 1", None, "does not know about net1"),
        ("exit 2", False, "net1 forwards nothing"),
        ("echo no route; exit 3", None, "ended with 3: no route"),
        ("sleep 60", None, "was killed"),
    ],
)
def test_a_command_says_it_by_what_it_ends_with(tmp_path: Path, text: str, up: bool | None, words: str) -> None:
    found, detail = ask_command(script(tmp_path, text), "net1", 0.3 if "sleep" in text else 30.0)
    assert found is up
    assert words in detail


def test_a_command_that_is_not_there_proves_nothing() -> None:
    assert ask_command("/nowhere/probe", "net1", 5.0)[0] is None


@pytest.mark.parametrize(("written", "port"), [("tcp:22", 22), ("/usr/bin/probe tcp:22", None), ("", None)])
def test_how_a_probe_is_written(written: str, port: int | None) -> None:
    assert tcp_port(written) == port


@pytest.mark.parametrize("written", ["tcp:", "tcp:ssh", "tcp:0", "tcp:65536", "tcp:22 "])
def test_a_port_that_is_none_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="probe is"):
        tcp_port(written)


def test_a_few_hosts_are_asked_at_a_time_and_each_once(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    command = script(tmp_path, f'echo "$RPCDAEMON_HOST" >>{tmp_path}/asked; until test -e {gate}; do sleep 0.02; done')
    found: list[tuple[str, bool | None]] = []
    lock = threading.Lock()

    def tell(host: str, up: bool | None, _detail: str) -> None:
        with lock:
            found.append((host, up))

    def asked() -> list[str]:
        return (tmp_path / "asked").read_text(encoding="utf-8").split() if (tmp_path / "asked").exists() else []

    prober = Prober(command, 60.0, tell)
    hosts = [f"net{number}" for number in range(AT_ONCE + 2)]
    for host in [*hosts, *hosts]:
        prober.ask(host)
    wait_until(lambda: len(asked()) == AT_ONCE, "as many are asked as may be")
    assert not found
    gate.touch()
    wait_until(lambda: len(found) == len(hosts), "all are asked")
    assert sorted(found) == [(host, True) for host in hosts]
    assert sorted(asked()) == hosts
    prober.close()
