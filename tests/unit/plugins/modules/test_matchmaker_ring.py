# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The module writes what the action plugin has resolved: topics and names of hosts."""

from __future__ import annotations

import json
import os
import resource
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brokerless.openstack.plugins.module_utils.brokerless.rpc.matchmaker.ring_file import MAX_RING_BYTES
from ansible_collections.brokerless.openstack.plugins.modules.matchmaker_ring import main

TOPICS = {"scheduler": {"hosts": ["o1p409", "o2p409"]}, "network": {"hosts": ["o3p409"]}}
RING = {"scheduler": ["o1p409", "o2p409"], "network": ["o3p409"]}
TEXT = '{\n  "network": [\n    "o3p409"\n  ],\n  "scheduler": [\n    "o1p409",\n    "o2p409"\n  ]\n}\n'


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_ring(run_module: Any, ring_path: Path) -> None:
    result = run_module(main, path=str(ring_path), topics=TOPICS, mode="0640")
    assert result["changed"] is True
    assert result["ring"] == RING
    assert result["topics"] == ["network", "scheduler"]
    assert result["path"] == str(ring_path)
    assert ring_path.read_text(encoding="utf-8") == TEXT
    assert mode_of(ring_path) == 0o640
    assert "backup_file" not in result
    assert names_in(ring_path.parent) == ["ring.json"]


def test_the_second_run_changes_nothing(run_module: Any, ring_path: Path) -> None:
    run_module(main, path=str(ring_path), topics=TOPICS, mode="0640")
    before = ring_path.stat()
    result = run_module(main, path=str(ring_path), topics=TOPICS, mode="0640", backup=True)
    assert result["changed"] is False
    assert result["ring"] == RING
    assert [part["before"] == part["after"] for part in result["diff"]] == [True]
    assert ring_path.stat() == before
    assert names_in(ring_path.parent) == ["ring.json"]


def test_without_room_it_says_so_in_one_line_and_the_old_ring_is_whole(run_module: Any, ring_path: Path) -> None:
    """The kernel's limit on a file's size stands for a full disk: it too fails when the content is written, not before."""
    ring_path.write_text('{"old": ["a"]}\n', encoding="utf-8")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        result = run_module(main, path=str(ring_path), topics=TOPICS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result["msg"] == f"ring file {ring_path} can't be written: File too large"
    assert ring_path.read_text(encoding="utf-8") == '{"old": ["a"]}\n'
    assert names_in(ring_path.parent) == ["ring.json"]


@pytest.mark.parametrize("exists", [False, True])
def test_check_mode_writes_nothing_and_predicts_the_run(run_module: Any, ring_path: Path, exists: bool) -> None:
    if exists:
        ring_path.write_text('{"old": ["a"]}\n', encoding="utf-8")
        ring_path.chmod(0o644)
    arguments = {"path": str(ring_path), "topics": TOPICS, "mode": "0600", "backup": True}
    predicted = run_module(main, check=True, **arguments)
    assert ring_path.exists() == exists
    assert not exists or ring_path.read_text(encoding="utf-8") == '{"old": ["a"]}\n'
    happened = run_module(main, **arguments)
    assert predicted["changed"] is happened["changed"] is True
    assert predicted["diff"] == happened["diff"]
    assert happened["diff"][0]["after"] == TEXT
    assert happened["diff"][0]["before"] == ('{"old": ["a"]}\n' if exists else "")
    assert run_module(main, check=True, **arguments)["changed"] is False


def test_a_file_that_says_the_same_in_another_layout_is_left_alone(run_module: Any, ring_path: Path) -> None:
    text = json.dumps(RING)
    ring_path.write_text(text, encoding="utf-8")
    assert run_module(main, path=str(ring_path), topics=TOPICS)["changed"] is False
    assert ring_path.read_text(encoding="utf-8") == text


def test_another_order_of_hosts_is_another_ring(run_module: Any, ring_path: Path) -> None:
    ring_path.write_text(json.dumps({**RING, "scheduler": ["o2p409", "o1p409"]}), encoding="utf-8")
    assert run_module(main, path=str(ring_path), topics=TOPICS)["changed"] is True
    assert json.loads(ring_path.read_text(encoding="utf-8")) == RING


def test_the_old_file_is_kept_if_asked_for(run_module: Any, ring_path: Path) -> None:
    ring_path.write_text('{"old": ["a"]}', encoding="utf-8")
    result = run_module(main, path=str(ring_path), topics=TOPICS, backup=True)
    assert Path(result["backup_file"]).read_text(encoding="utf-8") == '{"old": ["a"]}'
    assert len(names_in(ring_path.parent)) == 2


def test_owner_and_mode_survive_a_change_of_the_ring(run_module: Any, ring_path: Path) -> None:
    ring_path.write_text('{"old": ["a"]}', encoding="utf-8")
    ring_path.chmod(0o604)
    assert run_module(main, path=str(ring_path), topics=TOPICS)["changed"] is True
    assert mode_of(ring_path) == 0o604


def test_a_change_of_the_mode_alone_is_a_change(run_module: Any, ring_path: Path) -> None:
    run_module(main, path=str(ring_path), topics=TOPICS, mode="0644")
    predicted = run_module(main, check=True, path=str(ring_path), topics=TOPICS, mode="0600")
    assert predicted["changed"] is True
    assert mode_of(ring_path) == 0o644
    happened = run_module(main, path=str(ring_path), topics=TOPICS, mode="0600")
    assert happened["changed"] is True
    assert mode_of(ring_path) == 0o600
    assert predicted["diff"] == happened["diff"]
    assert happened["diff"][1]["after"] == {"mode": "0600"}


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "is empty, which is not JSON"),
        (b'{"a": []}', "key 'a': its array of hosts is empty"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_ring_is_replaced_and_that_is_said(run_module: Any, ring_path: Path, content: bytes, error: str) -> None:
    ring_path.write_bytes(content)
    predicted = run_module(main, check=True, path=str(ring_path), topics=TOPICS)
    assert ring_path.read_bytes() == content
    result = run_module(main, path=str(ring_path), topics=TOPICS)
    assert result["previous_error"] == predicted["previous_error"]
    assert error in result["previous_error"]
    assert ring_path.read_text(encoding="utf-8") == TEXT


def test_a_file_that_is_too_big_is_replaced_but_not_shown(run_module: Any, ring_path: Path) -> None:
    with ring_path.open("wb") as file:
        file.truncate(MAX_RING_BYTES + 1)
    result = run_module(main, path=str(ring_path), topics=TOPICS)
    assert "is too big" in result["previous_error"]
    assert result["diff"][0]["before"] == "(too big to be shown)\n"
    assert ring_path.read_text(encoding="utf-8") == TEXT


def test_the_file_behind_a_link_is_written(run_module: Any, ring_path: Path) -> None:
    link = ring_path.with_name("link.json")
    link.symlink_to("ring.json")
    assert run_module(main, path=str(link), topics=TOPICS)["changed"] is True
    assert link.is_symlink()
    assert ring_path.read_text(encoding="utf-8") == TEXT
    assert run_module(main, path=str(link), topics=TOPICS)["changed"] is False


def test_a_missing_directory_is_named_but_may_be_about_to_be_made_in_check_mode(run_module: Any, tmp_path: Path) -> None:
    path = tmp_path / "none" / "ring.json"
    result = run_module(main, path=str(path), topics=TOPICS)
    assert result["msg"] == f"directory {path.parent} of ring file {path} does not exist; make it first"
    assert run_module(main, check=True, path=str(path), topics=TOPICS)["changed"] is True


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"topics": {}}, "no topic is given; a ring needs one at least"),
        ({"topics": {"scheduler": {"hosts": ["a", "a"]}}}, "hosts of topic 'scheduler' hold 'a' more than once"),
        ({"topics": {"a/b": {"hosts": ["a"]}}}, "topic 'a/b' contains '/'"),
        ({"topics": {"scheduler": {"hosts": ["a b"]}}}, "host 'a b' contains ' '"),
        ({"topics": {"scheduler": {"groups": ["control"]}}}, "groups are looked up by the action plugin of the same name, which did not run"),
        ({"topics": TOPICS, "path": "ring.json"}, "path 'ring.json' must be absolute"),
        ({"topics": TOPICS, "names": "long"}, "value of names must be one of: short, fqdn, variable, got: long"),
    ],
)
def test_bad_arguments_leave_the_old_ring_alone(run_module: Any, ring_path: Path, arguments: dict[str, Any], said: str) -> None:
    ring_path.write_text(json.dumps(RING), encoding="utf-8")
    result = run_module(main, **{"path": str(ring_path), **arguments})
    assert result["failed"] is True
    assert said in result["msg"]
    assert ring_path.read_text(encoding="utf-8") == json.dumps(RING)
    assert names_in(ring_path.parent) == ["ring.json"]


def test_flags_give_the_topics_their_values(run_module: Any, ring_path: Path) -> None:
    result = run_module(
        main, path=str(ring_path), topic_flags={"compute_topic": "cell1"}, flag_hosts={"compute_topic": ["c1"], "network_topic": ["n1"]}
    )
    assert result["ring"] == {"cell1": ["c1"], "network": ["n1"]}


def test_what_is_no_file_is_not_replaced(run_module: Any, tmp_path: Path) -> None:
    assert run_module(main, path=str(tmp_path), topics=TOPICS)["msg"] == f"{tmp_path} is a directory, so no ring can be written there"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert run_module(main, path=str(fifo), topics=TOPICS)["msg"] == f"{fifo} is no regular file, so no ring can be written there"
    assert stat.S_ISFIFO(fifo.stat().st_mode)
