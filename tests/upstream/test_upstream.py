# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""oslo.messaging's own tests on `zmq://`, as much of them as takes a minute; `make upstream` runs all, RabbitMQ beside them."""

from __future__ import annotations

import pytest
from upstream_suite import VERSIONS, Row, rows, run_row, shown

CHEAP = [row for row in rows() if row.transport == "zmq" and row.version == VERSIONS[0] and (row.threads == "native" or row.suite == "unit")]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("row", CHEAP, ids=lambda row: f"{row.suite}-{row.threads}-{row.version}")
def test_each_test_ends_as_it_must(row: Row) -> None:
    outcomes = run_row(row)
    assert outcomes.as_expected, "\n".join(shown([outcomes]))
