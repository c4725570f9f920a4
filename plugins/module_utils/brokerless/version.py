# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The version of the runtime; `galaxy.yml` and the changelog carry the same one."""

from __future__ import annotations

VERSION = "0.1.0"
