# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""RPC for OpenStack without a message broker: the runtime of the Ansible collection `brokerless.openstack`.

The package knows nothing of Ansible. It is imported by the collection's modules, and installed as the wheel
`brokerless-openstack`, which gives it its console scripts.
"""

from __future__ import annotations
