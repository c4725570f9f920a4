# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The connection of MatchMaker `redis` to its Redis: a thread that registers this host and follows the others, for as long as it takes.

What is written and what an answer means is decided in `redis_registry`; here are the sockets and the clock. Two connections: one hears of
changes (publish/subscribe), one reads and writes. When either breaks, both are made anew, after a pause that grows with each failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from ...soft_import import soft_import
from ..topics import Address
from .base import Settings
from .redis_registry import (
    MAX_HOSTS,
    MAX_REPLY_BYTES,
    MAX_VALUE_BYTES,
    READ,
    REGISTER,
    UNREGISTER,
    Registry,
    RegistryError,
    encode_value,
)

if TYPE_CHECKING:
    from redis import asyncio as redis
    from redis import backoff, exceptions
    from redis.asyncio import retry
else:
    redis = soft_import("redis.asyncio", "redis")
    backoff = soft_import("redis.backoff", "redis")
    exceptions = soft_import("redis.exceptions", "redis")
    retry = soft_import("redis.asyncio.retry", "redis")

LOG = logging.getLogger("brokerless.receiver")
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 3.0
"""Seconds until Redis is tried again: after the first failure about, and at most."""
COLLECT_SECONDS = 0.02
"""Seconds for which changes that are heard of are collected, to be read together."""
MAX_HEARD = 200
"""So many changed hosts are read by their names; when there are more, all are read."""
FAREWELL_SECONDS = 2.0
"""The most that taking back this host's registration may take."""
RESTART_SECONDS = 30.0
"""A receiver that ends before its services is likely to be started again: for so long at most they still count, so that no fanout misses them."""

Follow = Callable[[Mapping[str, frozenset[Address]], str], None]
"""Is told what each other host consumes, and what is wrong now (empty: nothing)."""


class RedisFollower:
    """Registers this host in Redis, and tells `follow` what is known of the others, from a thread of its own between `start` and `stop`."""

    def __init__(self, settings: Settings, follow: Follow) -> None:
        """Nothing is connected yet. Raises a `ValueError` if the settings are nothing to connect by."""
        self._settings = settings
        self._follow = follow
        prefix = settings.redis.checked().key_prefix + (f":{settings.worker}" if settings.worker else "")
        self._keys = (f"{prefix}:hosts", f"{prefix}:expiry")
        self._channel = f"{prefix}:changes"
        self._registry = Registry(settings.host, settings.heartbeat_freq, settings.heartbeat_ttl, self._keys)
        self._addresses: frozenset[Address] = frozenset()
        self._complete = False
        self._registered: frozenset[Address] | None = None
        self._register_at = 0.0
        self._heard: set[str] = set()
        self._read_everything = False
        self._view_of = ""
        self._own_fault = ""
        self._thread = threading.Thread(target=self._run, name="matchmaker-redis", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._client()

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Take back this host's registration, if Redis is there, and end."""
        if self._thread.is_alive():
            self._set(self._stop)
            self._thread.join(2 * FAREWELL_SECONDS)

    def consumed_here(self, addresses: frozenset[Address], *, complete: bool) -> None:
        """Register `addresses` for this host, in the background; until they are `complete`, besides those that are registered."""
        self._addresses, self._complete = addresses, complete
        self._set(self._wake)

    @property
    def _wanted(self) -> frozenset[Address]:
        return self._addresses if self._complete else self._addresses | (self._registry.before or frozenset())

    def _set(self, event: asyncio.Event) -> None:
        loop = self._loop
        if loop is None:
            event.set()
            return
        with contextlib.suppress(RuntimeError):  # it has ended
            loop.call_soon_threadsafe(event.set)

    def _client(self) -> redis.Redis:
        wanted = self._settings.redis
        options: dict[str, Any] = {
            "socket_timeout": wanted.timeout,
            "socket_connect_timeout": wanted.timeout,
            "username": wanted.username or None,
            "password": wanted.password or None,
            "client_name": f"brokerless-receiver@{self._settings.host}",
            # what breaks is to be heard of here, where it is known what to do next
            "retry": retry.Retry(backoff.NoBackoff(), 0),
        }
        if wanted.url:
            return redis.Redis.from_url(wanted.url, **options)
        return redis.Redis(host=wanted.host, port=wanted.port, db=wanted.db, **options)

    # --- the thread --------------------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        following = asyncio.create_task(self._follow_for_ever())
        await self._stop.wait()
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        if self._registered is not None:
            with contextlib.suppress(exceptions.RedisError, OSError, TimeoutError):
                async with asyncio.timeout(FAREWELL_SECONDS), self._client() as client:
                    await self._leave(client)

    async def _follow_for_ever(self) -> None:
        failures = 0
        pause = backoff.ExponentialWithJitterBackoff(LONGEST_PAUSE, FIRST_PAUSE)
        while True:
            self._registered = None
            try:
                async with self._client() as client, client.pubsub() as changes:
                    await self._subscribe(changes)
                    await self._catch_up(client)
                    failures = 0
                    await _until_one_fails(self._hear(changes), self._keep_up(client))
            except (exceptions.RedisError, OSError, ValueError) as error:
                self._say_outage(error)
            except Exception as error:
                # whatever it is, the view stays in use, and the next try may do
                LOG.exception("MatchMaker redis met what it does not know; trying again")
                self._say_outage(error)
            failures += 1
            await asyncio.sleep(FIRST_PAUSE + pause.compute(failures))

    async def _subscribe(self, changes: Any) -> None:
        """Return when Redis says that changes will be heard of: only then nothing is missed between them and what is read."""
        await changes.subscribe(self._channel)
        if await changes.get_message(timeout=self._settings.redis.timeout) is None:
            raise exceptions.TimeoutError(f"no answer for {self._settings.redis.timeout:g} s")

    async def _catch_up(self, client: redis.Redis) -> None:
        """Register, and read everything. Whatever changes from here on is heard of."""
        if self._view_of:
            self._registry.data_lost(time.monotonic())
        else:
            await self._read_all(client)
        await self._register(client)
        await self._read_all(client)

    async def _hear(self, changes: Any) -> None:
        """Note which hosts changed. Fails when Redis is silent."""
        timeout = self._settings.redis.timeout
        asked = False
        while True:
            message = await changes.get_message(timeout=timeout)
            if message is None:
                if asked:
                    raise exceptions.TimeoutError(f"no answer for {timeout:g} s")
                asked = True
                await changes.ping()
                continue
            asked = False
            if message["type"] == "message":
                self._note_change(message["data"])

    def _note_change(self, host: bytes) -> None:
        if len(self._heard) >= MAX_HEARD or len(host) > MAX_VALUE_BYTES:
            self._heard.clear()
            self._read_everything = True
        elif not self._read_everything:
            self._heard.add(host.decode("utf-8", "backslashreplace"))
        self._wake.set()

    async def _keep_up(self, client: redis.Redis) -> None:
        """Register and read when it is due, or when something changed."""
        while True:
            due = min(self._register_at, self._registry.next_reading())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - time.monotonic())):
                    await self._wake.wait()
            self._wake.clear()
            if self._registered != self._wanted or time.monotonic() >= self._register_at:
                await self._register(client)
            if self._heard or self._read_everything:
                await asyncio.sleep(COLLECT_SECONDS)
            if self._read_everything or time.monotonic() >= self._registry.next_reading():
                await self._read_all(client)
            elif self._heard:
                await self._read_some(client)

    async def _register(self, client: redis.Redis) -> None:
        addresses = self._wanted
        self._register_at = time.monotonic() + self._settings.heartbeat_freq
        try:
            value = encode_value(addresses)
        except RegistryError as error:
            self._own_fault = f"{error}; what was registered before stays in use"
            self._registered = addresses
            self._tell()
            return
        self._own_fault = ""
        was_there = await self._write(client, value, self._settings.heartbeat_ttl)
        if self._registered is not None and not was_there:
            self._registry.data_lost(time.monotonic())
            self._read_everything = True
        self._registered = addresses

    async def _write(self, client: redis.Redis, value: str, ttl: float, *, always_heard: bool = False) -> Any:
        milliseconds = int(ttl * 1000)
        return await self._script(client, REGISTER, self._settings.host, value, milliseconds, self._channel, MAX_HOSTS, int(always_heard))

    async def _leave(self, client: redis.Redis) -> None:
        """Take this host's registration back, or let it die soon."""
        if self._registered:
            await self._write(client, encode_value(self._registered), min(RESTART_SECONDS, self._settings.heartbeat_ttl), always_heard=True)
        else:
            await self._script(client, UNREGISTER, self._settings.host, self._channel)

    async def _read_all(self, client: redis.Redis) -> None:
        self._read_everything = False
        self._heard.clear()
        answer = await self._script(client, READ, MAX_HOSTS, MAX_VALUE_BYTES, MAX_REPLY_BYTES)
        if not self._registry.take_all(answer, time.monotonic()):
            self._register_at = 0.0
        self._view_of = time.strftime("%H:%M:%S")
        self._tell()

    async def _read_some(self, client: redis.Redis) -> None:
        asked, self._heard = self._heard, set()
        answer = await self._script(client, READ, MAX_HOSTS, MAX_VALUE_BYTES, MAX_REPLY_BYTES, *asked)
        self._registry.take_some(asked, answer, time.monotonic())
        self._tell()

    async def _script(self, client: redis.Redis, script: str, *arguments: str | int) -> Any:
        return await client.eval(script, len(self._keys), *self._keys, *arguments)

    def _tell(self) -> None:
        self._follow(self._registry.consumed, self._own_fault or self._registry.problem)

    def _say_outage(self, error: BaseException) -> None:
        kept = f"the view of {self._view_of} stays in use" if self._view_of else "only this host's own consumers are known"
        self._follow(self._registry.consumed, f"Redis at {self._settings.redis.shown} {fault_of(error)}; {kept}; trying again")


async def _until_one_fails(*works: Coroutine[Any, Any, None]) -> None:
    """Do the works side by side until one raises, and raise that, when the others have been stopped."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def fault_of(error: BaseException) -> str:
    """Return what an error of the connection means for the operator, in one line that continues "Redis at ..."."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthenticationWrongNumberOfArgsError):
        return f"refuses us ({text.rstrip('.')}): check username and password in [matchmaker_redis]"
    if isinstance(error, exceptions.NoPermissionError):
        return f"does not permit what we need ({text.rstrip('.')}): see the rights of the user in docs/matchmakers.md"
    if isinstance(error, exceptions.ReadOnlyError):
        return "is a replica that only reads: name the one that writes"
    if isinstance(error, exceptions.BusyLoadingError):
        return "is still loading its data"
    if text.startswith("WRONGTYPE "):
        what = text.removeprefix("WRONGTYPE ")
        return f"holds something that is not ours: {what}: delete that key, or set another key_prefix in [matchmaker_redis]"
    if isinstance(error, exceptions.ResponseError | RegistryError):
        return f"can't be worked with: {text}"
    return f"can't be reached: {text}"
