# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What is heard of Neutron's agents, wherever they report: `base` says what a source tells, each other file is one source or a part of one."""

from __future__ import annotations
