# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from brokerless.ha.audit import AuditFile
from brokerless.ha.errands import Result


def test_each_event_is_a_line_also_after_the_file_was_rotated_away(tmp_path: Path) -> None:
    audit = AuditFile(str(tmp_path / "audit"))
    audit.write("ended", id="r1", result=Result.DONE, seconds=0.25)
    (tmp_path / "audit").rename(tmp_path / "audit.1")
    audit.write("leads", term=7)
    (first,) = map(json.loads, (tmp_path / "audit.1").read_text(encoding="utf-8").splitlines())
    (second,) = map(json.loads, (tmp_path / "audit").read_text(encoding="utf-8").splitlines())
    assert (first["event"], first["id"], first["result"], first["seconds"]) == ("ended", "r1", "done", 0.25)
    assert (second["event"], second["term"]) == ("leads", 7)
    assert first["at"].endswith("Z")


def test_a_file_that_can_not_be_written_is_told_once_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    audit = AuditFile(str(tmp_path / "nowhere" / "audit"))
    with caplog.at_level(logging.ERROR):
        for _turn in range(3):
            audit.write("leads")
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    AuditFile("").write("leads")
    assert list(tmp_path.iterdir()) == []
