# Copyright: Contributors to brokerless.openstack
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """How modules find the program that reaches the rpcdaemon which leads."""

    DOCUMENTATION = r"""
options:
  executable:
    description:
      - The runtime's program C(rpcdaemon) on the host. The role P(brokerless.openstack.runtime#role) puts it there.
    type: path
    default: /opt/brokerless/current/bin/rpcdaemon
  config_file:
    description:
      - The configuration file of rpcdaemon on the host, which says where RabbitMQ is. The user must be able to read it.
    type: path
    default: /etc/rpcdaemon.conf
notes:
  - Any host with the runtime and rpcdaemon's configuration file will do; the command goes over RabbitMQ to the replica that leads.
"""
