# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The RPC transport: topics, MatchMakers, the receiver of a host, and the drivers that services use."""

from __future__ import annotations
