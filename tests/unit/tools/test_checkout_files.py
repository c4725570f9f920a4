# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Which files are ours, and copies of them."""

from __future__ import annotations

from pathlib import Path

from checkout_files import copy_files, files_of_checkout


def test_files_are_those_that_git_does_not_ignore() -> None:
    files = files_of_checkout()
    assert "galaxy.yml" in files
    assert [name for name in files if name.startswith((".venv/", ".cache/", "collections/"))] == []
    assert files_of_checkout("galaxy.yml", "tools/*.nothing") == ["galaxy.yml"]


def test_copies_are_real_files(tmp_path: Path, checkout: Path) -> None:
    copy_files(["galaxy.yml", ".ci/run"], tmp_path)
    assert (tmp_path / "galaxy.yml").read_bytes() == (checkout / "galaxy.yml").read_bytes()
    assert (tmp_path / ".ci" / "run").stat().st_mode & 0o111
