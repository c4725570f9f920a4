# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""One of several replicas acts: `lease` says what it may do and until when; each other file is a way to agree on who it is."""

from __future__ import annotations
