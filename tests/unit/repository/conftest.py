# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Fixtures that read the repository's own metadata."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture(scope="session")
def galaxy(checkout: Path) -> dict[str, Any]:
    """galaxy.yml."""
    loaded: dict[str, Any] = yaml.safe_load((checkout / "galaxy.yml").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="session")
def pyproject(checkout: Path) -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
