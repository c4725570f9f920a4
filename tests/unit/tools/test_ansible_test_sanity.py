# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What ansible-test is given: a real tree, and pip's configuration."""

from __future__ import annotations

import configparser
from pathlib import Path

from ansible_test_sanity import copy_files, files_of_checkout, write_pip_config


def test_pip_configuration_is_written_down(tmp_path: Path) -> None:
    listing = ":env:.timeout='60'\nglobal.extra-index-url='file:///a file:///b'\nglobal.find-links='/x\\n/y'\n"
    write_pip_config(tmp_path / "pip" / "pip.conf", listing)
    written = configparser.RawConfigParser()
    written.read(tmp_path / "pip" / "pip.conf")
    assert written.get("global", "timeout") == "60"
    assert written.get("global", "extra-index-url") == "file:///a file:///b"
    assert written.get("global", "find-links").split() == ["/x", "/y"]


def test_no_pip_configuration_is_fine(tmp_path: Path) -> None:
    write_pip_config(tmp_path / "pip.conf", "")
    assert (tmp_path / "pip.conf").read_text(encoding="utf-8").split() == ["[global]"]


def test_tree_holds_real_files(tmp_path: Path, checkout: Path) -> None:
    files = files_of_checkout()
    assert Path("galaxy.yml") in files
    assert [name for name in files if name.parts[0] in {".venv", ".cache", "collections"}] == []
    copy_files([Path("galaxy.yml"), Path(".ci/run")], tmp_path)
    assert not (tmp_path / "galaxy.yml").is_symlink()
    assert (tmp_path / "galaxy.yml").read_bytes() == (checkout / "galaxy.yml").read_bytes()
    assert (tmp_path / ".ci" / "run").stat().st_mode & 0o111
