# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What a message costs must hardly grow with the hosts. Calls are counted, not seconds, so that the result is the same on every run."""

from __future__ import annotations

import pytest
from cost_per_message import measure

MOST = 1.3


@pytest.mark.parametrize("kind", ["fanout-ring", "mesh"])
def test_a_message_among_a_thousand_hosts_costs_little_more_than_among_three(kind: str) -> None:
    few, many = (measure(kind, hosts, messages=500) for hosts in (3, 1000))
    assert many.calls / few.calls <= MOST, f"{few} against {many}"
    assert few.effects >= 3.0
