# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A real Redis server for tests, on a private port of the loopback address: `with RedisServer() as redis: ... redis.port`."""

from __future__ import annotations

from receiver_process import free_port
from server_process import ADDRESS, ServerProcess, answers, system_programs


class RedisServer(ServerProcess):
    """A Redis server; started again it has the same port, and has forgotten everything."""

    def __init__(self, port: int | None = None) -> None:
        """Without `port` a free one is taken. Nothing is started yet."""
        super().__init__("Redis")
        self.port = free_port([ADDRESS]) if port is None else port
        self.socket_path = self.directory / "redis.sock"

    def start(self) -> None:
        """Start the server, and return when it answers. Fails with its log if it ends instead."""
        options = ["--port", str(self.port), "--bind", ADDRESS, "--save", "", "--appendonly", "no", "--dir", str(self.directory)]
        options += ["--unixsocket", str(self.socket_path)]
        self.run([str(system_programs() / "redis-server"), *options])
        self.wait_until_ready(lambda: answers(self.port, b"PING\r\n", b"+PONG"))
