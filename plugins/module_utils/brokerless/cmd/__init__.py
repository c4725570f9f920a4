# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The programs: `brokerless-receiver` and `brokerless`."""

from __future__ import annotations
