# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping

import pytest
from brokerless.rpc.matchmaker.base import Settings
from brokerless.rpc.matchmaker.redis_follower import RedisFollower, fault_of
from brokerless.rpc.matchmaker.redis_settings import RedisSettings
from brokerless.rpc.topics import Address
from redis import exceptions


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (exceptions.ConnectionError("Error 111 connecting to redis1:6379."), "can't be reached: Error 111 connecting to redis1:6379."),
        (exceptions.TimeoutError("no answer for 5 s"), "can't be reached: no answer for 5 s"),
        (OSError(2, "No such file"), "can't be reached: [Errno 2] No such file"),
        (ConnectionResetError(), "can't be reached: ConnectionResetError"),
        (exceptions.AuthenticationError("Authentication required."), "refuses us (Authentication required): check username and password"),
        (exceptions.NoPermissionError("NOPERM x"), "does not permit what we need (NOPERM x): see the rights"),
        (exceptions.ReadOnlyError("You can't write"), "is a replica that only reads"),
        (exceptions.BusyLoadingError("LOADING"), "is still loading its data"),
        (exceptions.ResponseError("WRONGTYPE b:hosts is a list, not a hash"), "b:hosts is a list, not a hash: delete that key"),
        (exceptions.ResponseError("unknown\ncommand"), "can't be worked with: unknown command"),
    ],
)
def test_an_error_says_what_it_means(error: Exception, text: str) -> None:
    assert text in fault_of(error)
    assert "\n" not in fault_of(error)


def test_without_redis_the_outage_is_said_and_the_end_comes_at_once() -> None:
    said: list[str] = []
    heard = threading.Event()

    def follow(consumed: Mapping[str, frozenset[Address]], problem: str) -> None:
        assert consumed == {"control1": frozenset()}
        said.append(problem)
        heard.set()

    follower = RedisFollower(Settings("control1", redis=RedisSettings(url="unix:///nonexistent/redis.sock", timeout=1.0)), follow)
    follower.consumed_here(frozenset({Address("compute")}), complete=True)
    follower.start()
    assert heard.wait(30)
    follower.consumed_here(frozenset(), complete=True)
    follower.stop()
    assert not follower._thread.is_alive()
    assert said[0].startswith("Redis at unix:///nonexistent/redis.sock can't be reached: ")
    assert said[0].endswith("; only this host's own consumers are known; trying again")
    follower.consumed_here(frozenset(), complete=True)


def test_after_many_changes_at_once_everything_is_read() -> None:
    async def hear(count: int) -> tuple[int, bool]:
        follower = RedisFollower(Settings("control1"), lambda _consumed, _problem: None)
        for number in range(count):
            follower._note_change(f"host{number}".encode())
        return len(follower._heard), follower._read_everything

    assert asyncio.run(hear(200)) == (200, False)
    assert asyncio.run(hear(201)) == (0, True)
    assert asyncio.run(hear(5000)) == (0, True)
