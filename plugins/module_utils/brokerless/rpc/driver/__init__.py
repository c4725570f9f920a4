# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The thin driver inside a service: one connection per process to the receiver of its own host."""

from __future__ import annotations
