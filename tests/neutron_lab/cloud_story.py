# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What happens to a small cloud from its first network to the death of a node, told in lines that are the same on every bus."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cloud_contents import create_network, create_router_on
from lab import Lab
from simulated_nodes import DHCP_AGENT, L3_AGENT, NodeSpec

HOSTS = ("net1", "net2", "net3")


class CloudStory:
    """One telling; `lines` is what was seen so far."""

    def __init__(self, lab: Lab) -> None:
        """The lab has no nodes yet."""
        self._lab = lab
        self.lines: list[str] = []

    def _seen(self, line: str) -> None:
        self.lines.append(line)

    def _await(self, line: str, condition: Callable[[], object]) -> None:
        self._lab.wait_until(condition, line)
        self._seen(line)

    def _know(self, what: str, identity: str) -> list[str]:
        """Return the nodes that run and have been told of a router, or of a network."""
        return [host for host, node in self._lab.nodes.items() if node.running and identity in getattr(node.view(), what)]

    def _asked(self, method: str, hosts: Iterable[str] = HOSTS) -> dict[str, int]:
        return {host: self._lab.nodes[host].view().asked.get(method, 0) for host in hosts}

    def _all_hear(self, method: str, act: Callable[[], object], hosts: Iterable[str] = HOSTS) -> None:
        """Each of these nodes hears one more message of this kind after `act`, and none hears two."""
        before = self._asked(method, hosts)
        act()
        self._await(f"{method}: heard by each of {', '.join(hosts)}", lambda: all(self._asked(method, hosts)[host] > before[host] for host in hosts))
        assert self._asked(method, hosts) == {host: count + 1 for host, count in before.items()}

    def tell(self) -> list[str]:
        """Let it all happen, and return the lines."""
        lab, api = self._lab, self._lab.api
        lab.add_nodes(*(NodeSpec(host) for host in HOSTS))
        self._seen(f"alive: {sorted((agent['host'], agent['agent_type']) for agent in lab.agents() if agent['alive'])}")

        network, subnet = create_network(api, "story", 1)
        self._await("the network is served by one node, which knows it", lambda: len(self._know("networks", network)) == 1)
        router = create_router_on(api, "story", subnet, ha=False)
        self._await("the router is on one node, which knows it", lambda: len(self._know("routers", router)) == 1)
        (source,) = self._know("routers", router)
        target, other = (host for host in HOSTS if host != source)

        def ports() -> dict[str, str]:
            return {port["device_owner"]: port["binding:vif_type"] for port in api.list("ports", network_id=network)}

        self._await("its ports are bound", lambda: ports() == {"network:dhcp": "ovs", "network:router_interface": "ovs"})

        agents = {host: lab.agent(host)["id"] for host in HOSTS}
        assert api.call("DELETE", f"agents/{agents[source]}/l3-routers/{router}").status == 204
        self._await("taken away, the router is on no node", lambda: self._know("routers", router) == [])
        assert api.call("POST", f"agents/{agents[target]}/l3-routers", {"router_id": router}).status == 201
        self._await("given to another, the router is there alone", lambda: self._know("routers", router) == [target])
        assert lab.nodes[target].view().asked["router_added_to_agent"] == 1

        (server,) = self._know("networks", network)
        spare = next(host for host in HOSTS if host != server)
        answer = api.call("POST", f"agents/{lab.agent(spare, DHCP_AGENT)['id']}/dhcp-networks", {"network_id": network})
        assert answer.status == 201, answer
        self._await("the network is served by two nodes", lambda: set(self._know("networks", network)) == {server, spare})

        before = self._asked("agent_updated", [other])
        api.put(f"agents/{agents[other]}", {"agent": {"admin_state_up": False}})
        self._await("a disabled agent is told so", lambda: self._asked("agent_updated", [other])[other] > before[other])
        api.put(f"agents/{agents[other]}", {"agent": {"admin_state_up": True}})
        self._await("and that it is enabled", lambda: self._asked("agent_updated", [other])[other] > before[other] + 1)

        api.put(f"routers/{router}/remove_router_interface", {"subnet_id": subnet})
        self._all_hear("router_deleted", lambda: api.delete(f"routers/{router}"))
        self._await("the router is on no node", lambda: self._know("routers", router) == [])
        self._all_hear("network_delete_end", lambda: api.delete(f"networks/{network}"))
        self._await("the network is on no node", lambda: self._know("networks", network) == [])
        assert (api.list("routers"), api.list("networks"), api.list("ports")) == ([], [], [])
        self._seen("nothing is left of them")

        network, subnet = create_network(api, "later", 2)
        router = create_router_on(api, "later", subnet, ha=False)
        self._await("a second router is on one node", lambda: len(self._know("routers", router)) == 1)
        (victim,) = self._know("routers", router)
        lab.nodes[victim].kill()

        def dead() -> set[tuple[str, str]]:
            return {(agent["host"], agent["agent_type"]) for agent in lab.agents() if not agent["alive"]}

        self._await("a node is killed, and its agents are called dead", lambda: {(victim, L3_AGENT), (victim, DHCP_AGENT)} <= dead())
        assert {host for host, _kind in dead()} == {victim}
        lab.nodes[victim].start()
        lab.await_alive(victim)
        self._await("started again it is alive, and knows its router", lambda: self._know("routers", router) == [victim])
        return self.lines
