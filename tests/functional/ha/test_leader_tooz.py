# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Replicas that agree by tooz: with a real Redis that goes and comes, and with a file."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from brokerless.ha.leader.tooz import ToozLeaderSettings, ToozLeadership, UnfitDriver
from receiver_process import wait_until
from redis_server import RedisServer
from replica_process import Replica, overlaps, writes_in
from worker_process import Worker

LEASE = 3.0


@contextlib.contextmanager
def replicas_at(url: str, writes: Path) -> Iterator[dict[str, Worker]]:
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(Worker(Replica, name, "tooz", url, LEASE, str(writes))) for name in ("first", "second")}


def the_writer(replicas: dict[str, Worker]) -> str:
    found: list[str] = []

    def one_writes() -> bool:
        found[:] = [name for name, worker in replicas.items() if worker.ask("writes")]
        return len(found) == 1

    wait_until(one_writes, "one replica writes")
    return found[0]


def test_with_redis(tmp_path: Path) -> None:
    writes = tmp_path / "writes"
    with RedisServer() as server, replicas_at(f"redis://127.0.0.1:{server.port}?lock_timeout=2&timeout=2", writes) as replicas:
        leader = the_writer(replicas)
        os.kill(replicas[leader].pid, signal.SIGSTOP)
        try:
            others = {name: worker for name, worker in replicas.items() if name != leader}
            (successor,) = others
            assert the_writer(others) == successor
        finally:
            os.kill(replicas[leader].pid, signal.SIGCONT)
        wait_until(lambda: replicas[leader].ask("woken"), "the frozen one is awake")
        assert not any(replicas[leader].ask("woken"))
        server.kill()
        wait_until(lambda: not any(worker.ask("leads") for worker in replicas.values()), "nobody leads without Redis")
        server.start()
        third = the_writer(replicas)
        os.kill(replicas.pop(third).pid, signal.SIGKILL)
        (fourth,) = replicas
        assert the_writer(replicas) == fourth
        assert overlaps(writes_in(writes)) == []


def test_with_a_file(tmp_path: Path) -> None:
    writes = tmp_path / "writes"
    with replicas_at(f"file://{tmp_path}/locks", writes) as replicas:
        leader = the_writer(replicas)
        os.kill(replicas.pop(leader).pid, signal.SIGKILL)
        (successor,) = replicas
        assert the_writer(replicas) == successor
        replicas[successor].ask("close")
        assert replicas[successor].ask("lost")
        assert overlaps(writes_in(writes)) == []


@pytest.mark.parametrize("url", ["etcd3+http://127.0.0.1:1", "mysql://127.0.0.1/x", "postgresql://127.0.0.1/x"])
def test_drivers_that_can_not_tell_are_refused(url: str) -> None:
    with pytest.raises(UnfitDriver, match="there could be two leaders"):
        ToozLeadership(ToozLeaderSettings(url))
