# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""One real RabbitMQ for all tests of this folder: it takes long to start. Each test has a virtual world of its own by the names it uses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rabbitmq_server import RabbitmqServer


@pytest.fixture(scope="session")
def broker() -> Iterator[RabbitmqServer]:
    with RabbitmqServer() as broker:
        yield broker
