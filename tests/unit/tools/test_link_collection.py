# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The tree of links that makes a checkout a collection."""

from __future__ import annotations

from pathlib import Path

import pytest
from link_collection import COLLECTION, link_collection


@pytest.fixture
def small_checkout(tmp_path: Path) -> Path:
    """A folder with a module and a few things that must not be linked."""
    (tmp_path / "plugins" / "modules").mkdir(parents=True)
    (tmp_path / "plugins" / "modules" / "thing.py").write_text("THING = 1\n", encoding="utf-8")
    (tmp_path / "galaxy.yml").write_text("---\n", encoding="utf-8")
    for name in (".git", ".venv", "dist"):
        (tmp_path / name).mkdir()
    return tmp_path


def names_in(tree: Path) -> list[str]:
    return sorted(entry.name for entry in tree.iterdir())


def test_links_the_visible_entries(small_checkout: Path) -> None:
    collections = link_collection(small_checkout)
    tree = collections.joinpath(*COLLECTION)
    assert collections == small_checkout / "collections"
    assert names_in(tree) == ["galaxy.yml", "plugins"]
    assert (tree / "plugins" / "modules" / "thing.py").read_text(encoding="utf-8") == "THING = 1\n"
    assert all(entry.is_symlink() and not entry.readlink().is_absolute() for entry in tree.iterdir())


def test_follows_what_comes_and_goes(small_checkout: Path) -> None:
    tree = link_collection(small_checkout).joinpath(*COLLECTION)
    (small_checkout / "roles").mkdir()
    (small_checkout / "galaxy.yml").unlink()
    link_collection(small_checkout)
    assert names_in(tree) == ["plugins", "roles"]


def test_corrects_a_link_that_points_elsewhere(small_checkout: Path) -> None:
    tree = link_collection(small_checkout).joinpath(*COLLECTION)
    (tree / "plugins").unlink()
    (tree / "plugins").symlink_to("../nowhere")
    link_collection(small_checkout)
    assert (tree / "plugins" / "modules").is_dir()


def test_survives_a_move_of_the_checkout(small_checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    link_collection(small_checkout)
    moved = small_checkout.rename(tmp_path_factory.mktemp("elsewhere") / "checkout")
    assert (moved / "collections").joinpath(*COLLECTION, "plugins", "modules").is_dir()
