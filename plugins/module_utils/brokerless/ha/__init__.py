# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Virtual routers and DHCP that survive a dead network node: who is dead, what goes where, and how it is moved."""

from __future__ import annotations
