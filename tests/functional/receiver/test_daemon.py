# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The receiver's daemon: what it binds, what it refuses to start with, its signals and systemd."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import ifaddr
import pytest
import zmq
from brokerless.cmd.receiver import main as receiver_main
from brokerless.rpc.driver.connection import Connection
from receiver_process import Receiver, free_port, hosts, run_program, short_directory, wait_until


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


def refused(receiver: Receiver) -> str:
    """Start a receiver that can't work, and return the one line that it says."""
    result = run_program("receiver", "--config-file", receiver.config_file)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("brokerless-receiver: ")
    return result.stderr


def test_it_serves_and_leaves_nothing_behind(directory: Path) -> None:
    receiver = Receiver(directory)
    with receiver:
        socket_file = receiver.ipc_directory / "receiver.sock"
        assert stat.S_IMODE(socket_file.stat().st_mode) == 0o660
        connection = Connection(str(receiver.ipc_directory), "control1")
        assert connection.inspect("status")["pid"] == receiver.pid
        connection.close()
    assert receiver.process is not None
    assert receiver.process.returncode == 0
    assert not socket_file.exists()


def test_a_port_in_use_is_named(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"tcp://127.0.0.1:{port} is in use" in refused(Receiver(directory, port=port))
    assert not list((directory / "control1" / "ipc").glob("*.sock"))


def test_an_unknown_adapter_is_named_with_those_that_there_are(directory: Path) -> None:
    line = refused(Receiver(directory, rpc_zmq_bind_address="eth77"))
    assert "'eth77'" in line
    assert "lo" in line


@pytest.mark.parametrize(
    ("content", "fault"),
    [(None, "does not exist"), ("{", "not JSON"), ("[]", "object"), ('{"compute": "abc"}', "'compute'")],
)
def test_an_unreadable_ring_is_named(directory: Path, content: str | None, fault: str) -> None:
    receiver = Receiver(directory, rpc_zmq_matchmaker="fanout-ring")
    if content is not None:
        receiver.ring_file.write_text(content)
    line = refused(receiver)
    assert str(receiver.ring_file) in line
    assert fault in line


@pytest.mark.parametrize(
    ("option", "value", "fault"),
    [
        ("rpc_zmq_matchmaker", "roulette", "'roulette'"),
        ("rpc_zmq_start_port", "ninety", "rpc_zmq_start_port"),
        ("rpc_zmq_start_port", "65530", "past 65535"),
        ("rpc_zmq_ipc_dir", "/nonexistent/openstack", "does not exist"),
        ("rpc_zmq_bind_address", "192.0.2.1", "192.0.2.1"),
    ],
)
def test_a_wrong_option_is_named(directory: Path, option: str, value: str, fault: str) -> None:
    assert fault in refused(Receiver(directory, **{option: value}))


def test_a_socket_path_that_is_too_long_is_named(directory: Path) -> None:
    long_directory = directory / ("d" * 100)
    long_directory.mkdir()
    assert "107" in refused(Receiver(directory, rpc_zmq_ipc_dir=long_directory))


def test_a_second_receiver_does_not_take_over_the_first_ones_services(directory: Path) -> None:
    with Receiver(directory) as first:
        second = Receiver(directory, "control2", rpc_zmq_ipc_dir=first.ipc_directory)
        assert "another receiver uses" in refused(second)
        connection = Connection(str(first.ipc_directory), "control1")
        assert connection.inspect("status")["host"] == "control1"
        connection.close()


def test_check_says_what_would_be_done_and_does_nothing(directory: Path) -> None:
    receiver = Receiver(directory, ring={"compute": ["c1", "c2"]})
    result = run_program("receiver", "--config-file", receiver.config_file, "--check")
    assert result.returncode == 0
    assert f"listens on tcp://127.0.0.1:{receiver.port}" in result.stdout
    assert "2 hosts" in result.stdout
    assert list(receiver.ipc_directory.iterdir()) == []


def listening(receiver: Receiver, address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        return probe.connect_ex((address, receiver.port)) == 0


def has_ipv6_loopback() -> bool:
    return any(ip.ip[0] == "::1" for adapter in ifaddr.get_adapters() for ip in adapter.ips if isinstance(ip.ip, tuple))


@pytest.mark.parametrize("bind_address", ["127.0.0.1", "lo", "*"])
def test_it_listens_where_it_shall(directory: Path, bind_address: str) -> None:
    addresses = ["127.0.0.1", *(["::1"] if has_ipv6_loopback() else [])]
    with Receiver(directory, rpc_zmq_bind_address=bind_address, port=free_port(addresses)) as receiver:
        assert listening(receiver, "127.0.0.1")
        assert listening(receiver, "127.0.0.2") == (bind_address == "*")
        if len(addresses) > 1:
            assert listening(receiver, "::1") == (bind_address != "127.0.0.1")


def test_hosts_talk_over_ipv6(directory: Path) -> None:
    if not has_ipv6_loopback():
        result = run_program("receiver", "--config-file", Receiver(directory, address="127.0.0.1", rpc_zmq_bind_address="::1").config_file)
        assert "::1" in result.stderr
        return
    port = free_port(["::1", "127.0.0.1"])
    known = "one:[::1],two:127.0.0.1"
    ring = {"compute": ["one", "two"]}
    with (
        Receiver(directory, "one", "::1", port, ring, rpc_zmq_host_addresses=known) as one,
        Receiver(directory, "two", "127.0.0.1", port, ring, rpc_zmq_host_addresses=known) as two,
    ):
        for receiver, other in ((one, "two"), (two, "one")):
            wait_until(lambda receiver=receiver, other=other: peer_state(receiver, other) == "up", f"{other} is up")


def peer_state(receiver: Receiver, host: str) -> str:
    connection = Connection(str(receiver.ipc_directory), receiver.host)
    try:
        return next((str(peer["state"]) for peer in connection.inspect("status")["peers"] if peer["host"] == host), "unknown")
    finally:
        connection.close()


def test_a_changed_ring_is_followed_and_a_broken_one_is_not() -> None:
    with hosts(["control1", "compute1"], {"compute": ["compute1"]}) as (control, _compute):
        connection = Connection(str(control.ipc_directory), "control1")
        try:
            assert connection.inspect("route", "volume")["problem"]
            control.write_ring({"compute": ["compute1"], "volume": ["compute1"]})
            wait_until(lambda: not connection.inspect("route", "volume")["problem"], "the new topic is known")
            control.ring_file.write_text('{"volume": [}')
            wait_until(lambda: connection.inspect("status")["matchmaker"]["error"], "the broken ring is reported")
            assert str(control.ring_file) in connection.inspect("status")["matchmaker"]["error"]
            assert not connection.inspect("route", "volume")["problem"]
            control.write_ring({"compute": ["compute1"]})
            wait_until(lambda: connection.inspect("route", "volume")["problem"], "the good ring is read")
            assert connection.inspect("status")["matchmaker"]["error"] == ""
        finally:
            connection.close()
        assert control.running


def test_sighup_reads_the_ring_anew(directory: Path) -> None:
    with Receiver(directory, ring={"compute": ["compute1"]}) as receiver:
        receiver.signal(signal.SIGHUP)
        wait_until(lambda: "SIGHUP" in receiver.log, "the signal is logged")
        assert receiver.running


def test_the_watchdog_is_fed(directory: Path) -> None:
    path = directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(30)
        receiver = Receiver(directory)
        child = os.fork()
        if child == 0:
            os.environ.update({"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "200000"})
            os.environ.pop("WATCHDOG_PID", None)
            os._exit(receiver_main(["--config-file", str(receiver.config_file), "--log-file", str(receiver.log_file)]))
        try:
            states = [notify.recv(4096) for _turn in range(4)]
        finally:
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
    assert states[0].startswith(b"READY=1")
    assert states[1:] == [b"WATCHDOG=1"] * 3


def test_hostile_bytes_do_it_no_harm(directory: Path) -> None:
    with Receiver(directory) as receiver:
        files = sorted(path.name for path in receiver.ipc_directory.iterdir())
        with socket.create_connection(("127.0.0.1", receiver.port)) as raw:
            raw.sendall(os.urandom(4096))
        context = zmq.Context()
        for place in (f"tcp://127.0.0.1:{receiver.port}", f"ipc://{receiver.ipc_directory / 'receiver.sock'}"):
            with context.socket(zmq.DEALER) as dealer:
                dealer.linger = 2000
                dealer.connect(place)
                for number in range(200):
                    dealer.send_multipart([os.urandom(number), *([b"x"] * (number % 5))])
        context.term()
        wait_until(lambda: "refused a message" in receiver.log, "the refusal is logged")
        connection = Connection(str(receiver.ipc_directory), "control1")
        assert connection.inspect("status")["counters"]["refused"] > 0
        connection.close()
        assert sorted(path.name for path in receiver.ipc_directory.iterdir()) == files
        assert receiver.log.count("refused a message") < 50
