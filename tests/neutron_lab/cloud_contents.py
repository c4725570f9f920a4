# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Networks, routers and floating IPs that a lab starts with. They take a second each to create, so a lab's database with them is kept."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cloud_api import CloudApi

EXTERNAL = "external"
"""The name of the external network, flat on physnet1."""


@dataclass(frozen=True)
class Contents:
    """What is in a cloud. Each router has a network and a subnet of its own, with DHCP, and is bound to no agent, as the networks are."""

    legacy_routers: int = 0
    """Named legacy-0, legacy-1, …, and so are their networks."""
    networks: int = 0
    """More networks, without a router: network-0, …"""
    gateways: int = 0
    """How many of the routers have a gateway on the external network."""
    floating_ips: int = 0
    """How many of the routers with a gateway have one, for a port on their network."""

    @property
    def name(self) -> str:
        """Tells people what is in it."""
        return f"{self.legacy_routers}-routers-{self.networks}-networks-{self.gateways}-gateways-{self.floating_ips}-floating-ips"

    def create(self, api: CloudApi) -> None:
        """Create all of it in a cloud that has nothing and no nodes: Neutron schedules nothing then, and waits for nobody."""
        external = None
        if self.gateways:
            physical = {"router:external": True, "provider:network_type": "flat", "provider:physical_network": "physnet1"}
            external = api.create("network", name=EXTERNAL, **physical)["id"]
            api.create("subnet", name=EXTERNAL, network_id=external, ip_version=4, cidr="198.18.0.0/16", enable_dhcp=False)

        def create_router(number: int) -> None:
            network, subnet = create_network(api, f"legacy-{number}", number)
            gateway = {"external_gateway_info": {"network_id": external}} if number < self.gateways else {}
            router = create_router_on(api, f"legacy-{number}", subnet, ha=False, **gateway)
            if number < self.floating_ips:
                port = api.create("port", name=f"server-{number}", network_id=network)["id"]
                api.create("floatingip", floating_network_id=external, port_id=port)
            assert router

        with ThreadPoolExecutor(4) as pool:
            routers = pool.map(create_router, range(self.legacy_routers))
            others = pool.map(lambda number: create_network(api, f"network-{number}", self.legacy_routers + number), range(self.networks))
            for _made in itertools.chain(routers, others):
                pass


def create_network(api: CloudApi, name: str, number: int, **options: object) -> tuple[str, str]:
    """Create a network with a subnet, different for each number, and return their IDs."""
    network = api.create("network", name=name, **options)["id"]
    cidr = f"10.{number // 250}.{number % 250}.0/24"
    return network, api.create("subnet", name=name, network_id=network, ip_version=4, cidr=cidr)["id"]


def create_router_on(api: CloudApi, name: str, subnet: str, **options: object) -> str:
    """Create a router with an interface on the subnet, and return its ID. `options` are the API's: ha, distributed, availability_zone_hints, …"""
    router: str = api.create("router", name=name, **{"distributed": False, **options})["id"]
    api.put(f"routers/{router}/add_router_interface", {"subnet_id": subnet})
    return router
