# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What a receiver says of who consumes an address."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Consumers:
    """The hosts that consume an address now, and all exchanges in which its bare topic is consumed in its namespace."""

    hosts: frozenset[str]
    exchanges: frozenset[str]
