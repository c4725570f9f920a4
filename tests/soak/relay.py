# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The network between the hosts of a test: every connection from one to another goes through a relay, which can cut it or fall silent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping

Link = tuple[str, str]
"""The host that connects, and the one that it connects to."""


class Network:
    """All relays, in a thread of their own; made in a process of its own, because the hosts' work goes through it."""

    def __init__(self, links: Mapping[Link, tuple[str, str]], port: int) -> None:
        """For each link listen on the first address, and connect to the second one, both at `port`."""
        self._port = port
        self._down: set[Link] = set()
        self._flowing: dict[Link, asyncio.Event] = {}
        self._pipes: dict[Link, set[asyncio.StreamWriter]] = {}
        self._servers: dict[Link, asyncio.Server] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        for link, (address, target) in links.items():
            self.join(link, address, target)

    def join(self, link: Link, address: str | socket.socket, target: str) -> None:
        """Add a link, which works; `address` may be a socket that listens already. Raises `OSError` if nobody can listen on the address."""
        asyncio.run_coroutine_threadsafe(self._listen(link, address, target), self._loop).result(30.0)

    def leave(self, link: Link) -> None:
        """Take a link away: nobody listens on its address any more."""
        self.cut(link)
        self._call(self._servers.pop(link).close)

    def close(self) -> None:
        """Break all connections, and end."""
        for link in list(self._pipes):
            self.mend(link)
            self.cut(link)
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(30.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30.0)
        self._loop.close()

    def cut(self, link: Link) -> None:
        """Break the link's connections, and let no new ones be made."""
        self._call(self._cut, link)

    def silence(self, link: Link) -> None:
        """Let nothing through on the link any more; its connections stay open, and new ones can be made."""
        self._call(self._flowing[link].clear)

    def mend(self, link: Link) -> None:
        """Let the link work again. What a silent one held back goes on."""
        self._call(self._mend, link)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        done = threading.Event()

        def call() -> None:
            function(*arguments)
            done.set()

        self._loop.call_soon_threadsafe(call)
        assert done.wait(30.0)

    def _cut(self, link: Link) -> None:
        self._down.add(link)
        for writer in list(self._pipes[link]):
            writer.transport.abort()

    def _mend(self, link: Link) -> None:
        self._down.discard(link)
        self._flowing[link].set()

    async def _end(self) -> None:
        for server in self._servers.values():
            server.close()
        # their connections are broken: what still copies ends by itself
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=10.0)

    async def _listen(self, link: Link, address: str | socket.socket, target: str) -> None:
        self._down.discard(link)
        self._flowing[link] = asyncio.Event()
        self._flowing[link].set()
        self._pipes[link] = set()
        relay = self._relay(link, target)
        if isinstance(address, socket.socket):
            self._servers[link] = await asyncio.start_server(relay, sock=address)
        else:
            self._servers[link] = await asyncio.start_server(relay, address, self._port)

    def _relay(self, link: Link, target: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if link in self._down:
                writer.transport.abort()
                return
            try:
                there_reader, there_writer = await asyncio.open_connection(target, self._port)
            except OSError:
                writer.transport.abort()
                return
            both = {writer, there_writer}
            self._pipes[link] |= both
            await asyncio.gather(self._copy(link, reader, there_writer), self._copy(link, there_reader, writer))
            self._pipes[link] -= both
            for each in both:
                each.transport.abort()

        return relay

    async def _copy(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy until either end is gone, and then end both: a receiver has no use for a connection that is half closed."""
        with contextlib.suppress(OSError):
            while content := await reader.read(1 << 16):
                await self._flowing[link].wait()
                writer.write(content)
                await writer.drain()
        writer.transport.abort()
