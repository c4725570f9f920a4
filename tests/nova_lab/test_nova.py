# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Nova as it is on `zmq://`: its services are up, answer, and the cells do not hear each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from nova_lab import CELLS, CONTROL, NovaLab
from receiver_process import wait_until

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def lab() -> Iterator[NovaLab]:
    with NovaLab() as started:
        yield started


def test_all_services_are_up(lab: NovaLab) -> None:
    found = {(service["cell"], service["host"], service["binary"]) for service in lab.ask("services") if service["up"]}
    assert found == {
        ("cell0", CONTROL, "nova-conductor"),
        ("cell0", CONTROL, "nova-scheduler"),
        *((cell, cell, binary) for cell in CELLS for binary in ("nova-conductor", "nova-compute")),
    }


@pytest.mark.parametrize(
    ("cell", "topic"), [("", "conductor"), ("", "scheduler"), *((cell, topic) for cell in CELLS for topic in ("conductor", "compute"))]
)
def test_each_service_answers_a_ping(lab: NovaLab, cell: str, topic: str) -> None:
    assert lab.ask("ping", cell, topic, cell or CONTROL) == "pong"
    assert lab.ask("ping", cell, topic, "") == "pong"


@pytest.mark.parametrize("cell", CELLS)
def test_a_compute_is_asked_as_the_api_asks(lab: NovaLab, cell: str) -> None:
    assert lab.ask("power", cell, cell, "reboot") == "reboot"
    assert lab.ask("uptime", cell, cell) == "NotImplementedError"


@pytest.mark.parametrize(("cell", "other"), [CELLS, CELLS[::-1]])
def test_a_cell_does_not_hear_the_other(lab: NovaLab, cell: str, other: str) -> None:
    assert lab.ask("ping", cell, "compute", other) == "MessagingTimeout"
    assert lab.ask("ping", "", "compute", other) == "MessagingTimeout"


@pytest.mark.parametrize("cell", CELLS)
def test_an_instance_is_built_from_the_conductor_above_the_cells_down_to_the_compute(lab: NovaLab, cell: str) -> None:
    assert lab.ask("discover") == len(CELLS)
    instance = lab.ask("build", cell, f"in-{cell}")
    wait_until(lambda: [found for found in lab.ask("instances", cell) if found["state"] != "building"], f"{cell} has built it", 120.0)
    assert lab.ask("instances", cell) == [{"uuid": instance, "host": cell, "state": "active", "task": None}]
