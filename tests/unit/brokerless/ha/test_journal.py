# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The journal in a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from brokerless.ha import journal
from brokerless.ha.journal import Entry, FileJournal, HostWish, JournalError, OpenMove, read, written

MOVE = OpenMove("r1", "agent-1", "net1", "agent-2", "net2", "removing", "ctl1/7", 1_700_000_000.0)


def test_what_was_begun_and_not_ended_is_found_again(tmp_path: Path) -> None:
    first = FileJournal(tmp_path / "journal")
    first.put(MOVE)
    first.put(OpenMove("r2", "agent-1", "net1", "agent-3", "net3", "removing", "ctl1/7", 1.0))
    first.put(MOVE.at_stage("adding", "agent-3", "net3"))
    first.end("move:r2")
    assert FileJournal(tmp_path / "journal").entries() == [MOVE.at_stage("adding", "agent-3", "net3")]


def test_a_line_that_was_broken_off_had_not_begun(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_text(written(MOVE) + "\n" + written(MOVE)[:20], encoding="utf-8")
    assert FileJournal(path).entries() == [MOVE]


@pytest.mark.parametrize("line", ["{}", "[]", "no", '{"format": 2}', written(MOVE).replace('"r1"', "null")])
def test_a_line_that_is_none_is_an_error_that_names_it(tmp_path: Path, line: str) -> None:
    path = tmp_path / "journal"
    path.write_text(f"{written(MOVE)}\n{line}\n", encoding="utf-8")
    with pytest.raises(JournalError, match=r"journal, line 2: "):
        FileJournal(path)


def test_it_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "COMPACT_LINES", 10)
    path = tmp_path / "journal"
    kept = FileJournal(path)
    kept.put(MOVE)
    for _turn in range(50):
        kept.put(OpenMove("r2", "", "", "agent-3", "net3", "adding", "ctl1/7", 1.0))
        kept.end("move:r2")
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 12
    kept.close()
    assert FileJournal(path).entries() == [MOVE]


def test_a_place_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"journal .*nowhere"):
        FileJournal(tmp_path / "nowhere" / "journal")


@pytest.mark.parametrize("entry", [MOVE, HostWish("net1", "draining", 1_700_000_000.0)])
def test_an_entry_is_read_as_it_was_written(entry: Entry) -> None:
    assert read(written(entry)) == entry
