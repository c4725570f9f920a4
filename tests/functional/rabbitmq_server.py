# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A real RabbitMQ broker for tests, on private ports of the loopback address: `with RabbitmqServer() as broker: kombu.Connection(broker.url)`."""

from __future__ import annotations

from pathlib import Path

from receiver_process import free_port
from server_process import ADDRESS, ServerProcess, answers, system_programs

START_SECONDS = 180.0
"""How long a start may take; a broker needs ten seconds of a processor that has nothing else to do."""


class RabbitmqServer(ServerProcess):
    """A RabbitMQ broker with a name, a port mapper (epmd) and a directory of its own; started again it still has its durable queues."""

    def __init__(self, place: Path | None = None) -> None:
        """Take free ports; `place` is as for every server. Nothing is started yet."""
        super().__init__("RabbitMQ", place)
        self.port = free_port([ADDRESS])
        self._epmd_port = free_port([ADDRESS])
        self._distribution_port = free_port([ADDRESS])

    @property
    def url(self) -> str:
        """What a client connects to, as kombu and oslo.messaging want it."""
        return f"amqp://guest:guest@{ADDRESS}:{self.port}//"

    def start(self) -> None:
        """Start the broker, and return when it greets its clients. Fails with its log if it ends instead."""
        environment = {
            "HOME": str(self.directory),  # where Erlang keeps the cookie
            "ERL_EPMD_ADDRESS": ADDRESS,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": ADDRESS,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none",
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.directory),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.directory / "none"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
            "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the broker, which hears our signals
        }
        (self.directory / "plugins").write_text("[].\n", encoding="utf-8")
        # Started here and not by the broker, it does not outlive the test.
        self.run([str(system_programs() / "epmd"), "-address", ADDRESS, "-port", str(self._epmd_port)])
        self.run([str(system_programs() / "rabbitmq-server")], environment)
        self.wait_until_ready(lambda: answers(self.port, b"AMQP\0\0\x09\x01", b"\x01"), START_SECONDS)
