# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What tests of evacuations share: a lab of three nodes, of which the first has all the routers, and where the routers are to be in the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from cloud_contents import Contents
from lab import Lab
from lab_size import FULL
from neutron_services import LabSettings
from simulated_nodes import NodeSpec

ROUTERS = 60 if FULL else 20
NODES = ("net1", "net2", "net3")
POLICY = {"reconnect_grace": 3, "settle_within": 0}
"""Agents of the lab are back at once when the bus is, and the ports of their routers are never ACTIVE."""


@contextlib.contextmanager
def evacuation_lab(settings: LabSettings) -> Iterator[Lab]:
    """Start it, with all of the legacy routers on net1."""
    with Lab(settings, Contents(legacy_routers=ROUTERS)) as lab:
        lab.add_nodes(*(NodeSpec(host, fetch_routers=False) for host in NODES))
        lab.bind_routers({"net1": legacy_routers(lab)})
        yield lab


def legacy_routers(lab: Lab) -> list[str]:
    return [router["id"] for router in lab.api.list("routers") if router["name"].startswith("legacy-")]


def bindings(lab: Lab, routers: list[str]) -> dict[str, list[str]]:
    """Return for each router the hosts that it is bound to."""
    by_host = lab.routers_by_host()
    return {router: sorted(host for host, bound in by_host.items() if router in bound) for router in routers}


def assert_spread(lab: Lab, routers: list[str], alive: set[str], patience: float = 0.0) -> None:
    """Each router is bound to one agent, a live one, within `patience` seconds, and their numbers differ by one at most."""
    deadline = time.monotonic() + patience
    while (bound := bindings(lab, routers)) and not all(len(hosts) == 1 and alive.issuperset(hosts) for hosts in bound.values()):
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    assert {router: hosts for router, hosts in bound.items() if len(hosts) != 1 or not alive.issuperset(hosts)} == {}
    loads = [sum(hosts == [host] for hosts in bound.values()) for host in alive]
    assert max(loads) - min(loads) <= 1, loads
