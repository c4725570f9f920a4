# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""An operator's commands over a real RabbitMQ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import kombu
import pytest
from brokerless.ha.control import QUEUE, CommandServer, NobodyLeads, Reply, ask
from rabbitmq_server import RabbitmqServer


def obey(command: Mapping[str, Any], reply: Reply) -> None:
    reply({"heard": command})


def test_a_command_reaches_whoever_leads_and_the_answer_comes_back(broker: RabbitmqServer) -> None:
    server = CommandServer([broker.url], obey)
    server.start()
    try:
        assert ask([broker.url], {"command": "drain", "host": "net1"}, 30.0) == {"heard": {"command": "drain", "host": "net1"}}
    finally:
        server.close()


def test_nobody_is_told_when_nobody_leads(broker: RabbitmqServer) -> None:
    with pytest.raises(NobodyLeads, match="no rpcdaemon answered within 1 s"):
        ask([broker.url], {"command": "status"}, 1.0)
    with pytest.raises(NobodyLeads, match="RabbitMQ can't be asked who leads"):
        ask(["amqp://guest:guest@127.0.0.1:1//"], {"command": "status"}, 1.0)


def test_what_is_no_command_harms_nobody(broker: RabbitmqServer) -> None:
    server = CommandServer([broker.url], obey)
    server.start()
    try:
        ask([broker.url], {"command": "status"}, 30.0)
        with kombu.Connection(broker.url) as connection:
            producer = connection.Producer()
            for body in (b"", b"[]", b"\xff", b'"' + b"x" * 100_000 + b'"', b"[" * 5000):
                producer.publish(body, routing_key=QUEUE, content_type="application/octet-stream", content_encoding="binary")
        assert ask([broker.url], {"command": "plan"}, 30.0) == {"heard": {"command": "plan"}}
    finally:
        server.close()
