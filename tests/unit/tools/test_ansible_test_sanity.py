# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What ansible-test is given: pip's configuration."""

from __future__ import annotations

import configparser
from pathlib import Path

from ansible_test_sanity import write_pip_config


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
