# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The artifacts of a release, and empty places they are installed into."""

from __future__ import annotations

from pathlib import Path

import pytest
from build_artifacts import Artifacts, build_artifacts
from empty_places import BARE_PYTHON, EmptyPlace, InstalledCollection


@pytest.fixture(scope="session")
def wheelhouse(checkout: Path) -> Path:
    """The runtime's libraries as wheels, which `make deps` brings."""
    folder = checkout / ".cache" / "wheelhouse"
    assert list(folder.glob("pyzmq-*.whl")), "there is no wheelhouse; run `make deps`"
    return folder


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """The wheel and the collection's tarball, fresh from the checkout."""
    return build_artifacts(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="session")
def runtime(artifacts: Artifacts, wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> EmptyPlace:
    """An empty virtual environment with the wheel in it, installed from the wheelhouse alone."""
    place = EmptyPlace(tmp_path_factory.mktemp("runtime"))
    place.must([BARE_PYTHON, "-m", "venv", "venv"])
    place.must(["venv/bin/pip", "install", "--quiet", "--no-index", "--find-links", wheelhouse, artifacts.wheel])
    return place


@pytest.fixture(scope="session")
def collection(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> InstalledCollection:
    """The tarball, installed."""
    place = InstalledCollection(tmp_path_factory.mktemp("collection"))
    place.ansible("ansible-galaxy", "collection", "install", "--offline", "--force", "--collections-path", "collections", artifacts.tarball)
    return place
