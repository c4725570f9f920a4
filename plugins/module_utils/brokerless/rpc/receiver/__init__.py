# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The receiver, the post office of a host: a core that decides (no sockets, no clock, no threads) and the daemon around it."""

from __future__ import annotations
