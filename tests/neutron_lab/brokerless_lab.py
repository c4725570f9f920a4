# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The lab without a message broker: Neutron and the nodes have `transport_url = zmq://`, and each host has a receiver of its own.

    with BrokerlessLab(["net1", "net2"]) as lab:
        lab.add_nodes(NodeSpec("net1"), NodeSpec("net2"))

The MatchMaker is mesh: the ring file names hosts, and receivers tell each other what is consumed there.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab import CONTROLLER, Lab
from lab_programs import install_runtime, neutron_environment
from neutron_services import LabSettings, neutron_conf
from receiver_process import Receiver, mesh_of


class BrokerlessLab(Lab):
    """As `Lab`, but there is no RabbitMQ, and there are no relays to the bus."""

    def __init__(self, hosts: Sequence[str], settings: LabSettings | None = None) -> None:
        """`hosts` are the names of all nodes that there will be."""
        super().__init__(settings)
        self._hosts = (CONTROLLER, *hosts)
        self.receivers: dict[str, Receiver] = {}
        """By host."""

    def _make_bus(self) -> None:
        install_runtime(neutron_environment())
        mesh = mesh_of(
            Receiver, self.directory / "receivers", self._hosts, ring={"neutron": self._hosts}, network="127.84.0", rpc_zmq_matchmaker="mesh"
        )
        self.receivers = {receiver.host: receiver for receiver in mesh}

    def _start_bus(self) -> None:
        for receiver in self.receivers.values():
            self._open.enter_context(receiver)

    def _configuration(self, host: str, settings: LabSettings, database: str = "") -> str:
        options: dict[str, object] = {"rpc_zmq_ipc_dir": self.receivers[host].ipc_directory, "rpc_zmq_host": host}
        return neutron_conf(settings, host, self.directory, database, "zmq://", {"oslo_messaging_zmq": options})

    def how_rpcdaemon_hears(self, client: str) -> dict[str, object]:
        """By the receiver of the host on which Neutron's servers are; without a broker there is no other replica to agree with."""
        return {"bus": f"tap:{self.receivers[CONTROLLER].config_file}", "tap_topic": "neutron/q-reports-plugin", "leader": "single"}
