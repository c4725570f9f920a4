# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The RPC functions when receivers and services come late, stop, or die."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from brokerless.rpc import impl_zmq
from brokerless.rpc.context import RpcContext
from brokerless.rpc.errors import Timeout
from receiver_process import PATIENCE, Receiver, hosts, short_directory, wait_until

RING = {"test": ["compute1"], "all": ["compute1", "compute2"]}


class Service:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def echo(self, context: RpcContext, value: Any) -> Any:
        self.seen.append(value)
        return value


@contextlib.contextmanager
def serving(receiver: Receiver, topic: str) -> Iterator[Service]:
    service = Service()
    with impl_zmq.create_connection(receiver.conf) as connection:
        connection.create_consumer(topic, service)
        connection.consume_in_thread()
        yield service


def echo(receiver: Receiver, topic: str, value: Any, timeout: float = PATIENCE) -> Any:
    return impl_zmq.call(receiver.conf, None, topic, {"method": "echo", "args": {"value": value}}, timeout)


@pytest.fixture
def alone() -> Iterator[Receiver]:
    """One host whose receiver is not started yet."""
    with short_directory() as directory:
        receiver = Receiver(directory)
        try:
            yield receiver
        finally:
            impl_zmq.cleanup()
            receiver.kill()


def test_without_a_receiver_a_call_times_out_and_says_so_and_works_when_it_is_there(alone: Receiver) -> None:
    with pytest.raises(Timeout, match=r"on topic 'test' within 0\.3 s: there is no receiver at .*receiver\.sock: is brokerless-receiver running\?"):
        echo(alone, "test", 1, timeout=0.3)
    with serving(alone, "test") as service:
        alone.start()
        assert echo(alone, "test", 2) == 2
    assert service.seen == [2]


def test_a_call_that_waits_while_the_receiver_comes_is_answered(alone: Receiver) -> None:
    with serving(alone, "test"), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(echo, alone, "test", 1)
        alone.start()
        assert waiting.result(PATIENCE) == 1


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_calls_and_consumers_survive_the_end_of_their_receiver(alone: Receiver, end: str) -> None:
    alone.start()
    with serving(alone, "test") as service:
        assert echo(alone, "test", 1) == 1
        assert getattr(alone, end)() == {"stop": 0, "kill": -signal.SIGKILL}[end]
        with pytest.raises(Timeout, match=r"there is no receiver at|the receiver at .* does not answer"):
            echo(alone, "test", "meanwhile", timeout=0.5)
        alone.start()
        assert echo(alone, "test", 2) == 2
    assert service.seen == [1, 2]


def test_casts_that_were_accepted_arrive_once_whatever_happens_to_the_receivers() -> None:
    with hosts(["control1", "compute1"], RING) as (control1, compute1):
        with serving(compute1, "test") as service:
            for number in range(60):
                impl_zmq.cast(control1.conf, None, "test", {"method": "echo", "args": {"value": number}})
                if number % 20 == 9:
                    control1.kill()
                    control1.start()
                if number % 20 == 19:
                    compute1.kill()
                    compute1.start()
            wait_until(lambda: len(set(service.seen)) == 60, "all casts arrived", PATIENCE * 2)
    assert sorted(service.seen) == list(range(60))


def test_when_a_host_dies_calls_to_the_bare_topic_go_on_to_the_other() -> None:
    with hosts(["control1", "compute1", "compute2"], RING) as (control1, compute1, compute2):
        with serving(compute1, "all") as first, serving(compute2, "all") as second:
            assert [echo(control1, f"all.{host}", host) for host in ("compute1", "compute2")] == ["compute1", "compute2"]
            compute1.kill()
            for number in range(10):
                assert echo(control1, "all", number) == number
        assert second.seen == ["compute2", *range(10)]
        assert first.seen == ["compute1"]


def test_a_changed_ring_is_followed() -> None:
    with hosts(["control1", "compute1"], {"other": ["compute1"]}) as (control1, compute1):
        with serving(compute1, "test"):
            with pytest.raises(Timeout, match="has no host for topic 'test'"):
                echo(control1, "test", 1, timeout=0.5)
            control1.write_ring({"test": ["compute1"]})
            control1.signal(signal.SIGHUP)
            assert echo(control1, "test", 2) == 2


def test_a_child_of_a_service_has_a_link_of_its_own(alone: Receiver) -> None:
    alone.start()
    with serving(alone, "test") as service:
        assert echo(alone, "test", "parent") == "parent"
        mine, childs = socket.socketpair()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                childs.send(str(echo(alone, "test", "child")).encode())
                status = 0
            finally:
                os._exit(status)
        with mine, childs:
            mine.settimeout(PATIENCE)
            assert mine.recv(100) == b"child"
        assert os.waitpid(child, 0) == (child, 0)
        assert echo(alone, "test", "parent again") == "parent again"
    assert service.seen == ["parent", "child", "parent again"]


def test_wait_ends_by_close_in_the_handler_of_a_signal(alone: Receiver) -> None:
    alone.start()
    connection = impl_zmq.create_connection(alone.conf)
    connection.create_consumer("test", Service())
    connection.consume_in_thread()
    previous = signal.signal(signal.SIGUSR1, lambda *_arguments: connection.close())
    try:
        killing = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        killing.start()
        connection.wait()
        killing.join(PATIENCE)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    with pytest.raises(Timeout):
        echo(alone, "test", 1, timeout=0.3)
