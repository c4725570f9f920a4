# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A service of oslo.messaging, configured as OpenStack's are: `doubling.py serve`, or `doubling.py call HOST NUMBER`."""

from __future__ import annotations

import socket
import sys

import oslo_messaging
from oslo_config import cfg


class Endpoint:
    """Doubles numbers, and says where."""

    def double(self, context: dict[str, object], number: int) -> list[object]:
        """Return twice the number, and the host."""
        return [2 * number, socket.gethostname().partition(".")[0]]


def main() -> None:
    """Serve, or call."""
    conf = cfg.CONF
    conf([], project="doubling", default_config_files=[], default_config_dirs=["/etc/doubling.conf.d"])
    transport = oslo_messaging.get_rpc_transport(conf)
    if sys.argv[1] == "serve":
        target = oslo_messaging.Target(topic="doubling", server=socket.gethostname().partition(".")[0])
        server = oslo_messaging.get_rpc_server(transport, target, [Endpoint()])
        server.start()
        server.wait()
    else:
        client = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic="doubling", server=sys.argv[2]), timeout=10)
        sys.stdout.write(f"{conf.transport_url} {client.call({}, 'double', number=int(sys.argv[3]))}\n")
        transport.cleanup()


if __name__ == "__main__":
    main()
