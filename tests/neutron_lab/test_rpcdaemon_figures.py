# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Seconds until a dead agent's routers have moved, beside Neutron's own failover and bare calls of the API, in the same lab."""

from __future__ import annotations

import time

from evacuation_lab import POLICY, assert_spread, evacuation_lab, legacy_routers
from failover_figures import api_ceiling, native_failover, watch_evacuation
from lab_size import show
from neutron_services import LabSettings
from rpcdaemon_process import RpcdaemonProcess


def test_figures_of_a_death_beside_neutrons_own_failover_and_the_apis_ceiling() -> None:
    """The routers of one of three agents, with the same agent_down_time."""
    with evacuation_lab(LabSettings()) as lab:
        routers = legacy_routers(lab)
        lab.bind_routers({"net1": routers})
        ceilings = [api_ceiling(lab, "net1", ["net2", "net3"], callers) for callers in (1, 2, 4)]
        with RpcdaemonProcess(lab, "measured", policy=POLICY) as daemon:
            daemon.await_calm()
            died = time.time()
            ours = watch_evacuation(lab, "net1", lab.nodes["net1"].kill, patience=300.0)
            figures = daemon.figures(0, died)
            assert_spread(lab, routers, {"net2", "net3"})
        lab.nodes["net1"].start()
        lab.await_alive("net1")
        lab.bind_routers({"net1": routers})
        native = native_failover(lab, "net1")
        show(f"one of three agents dies with {len(routers)} routers", [("rpcdaemon", ours), ("Neutron's own failover", native)], figures, ceilings)
        assert ours.left == 0
