# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator

import pytest
from brokerless.rpc import impl_zmq


@pytest.fixture(autouse=True)
def _no_link_outlives_its_test() -> Iterator[None]:
    """Close the test process's links to receivers, so that each test connects anew."""
    yield
    impl_zmq.cleanup()
