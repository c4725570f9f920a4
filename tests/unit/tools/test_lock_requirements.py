# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""From pip's report to pinned requirements."""

from __future__ import annotations

import lock_requirements


def test_report_becomes_pins() -> None:
    report = {"install": [{"metadata": {"name": "b", "version": "2"}}, {"metadata": {"name": "A", "version": "1.0"}}]}
    assert lock_requirements.pins(report) == {"b": "2", "A": "1.0"}


def test_pins_are_sorted_and_name_their_source() -> None:
    header, *lines = lock_requirements.render("some.in", {"b": "2", "A": "1.0", "c": "3"}).splitlines()
    assert header.startswith("# Resolved from some.in ")
    assert lines == ["A==1.0", "b==2", "c==3"]
