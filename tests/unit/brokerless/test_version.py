# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path

import yaml
from brokerless.version import VERSION


def test_it_is_a_semantic_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?", VERSION)


def test_the_collection_has_the_same_one(checkout: Path) -> None:
    assert yaml.safe_load((checkout / "galaxy.yml").read_text())["version"] == VERSION
