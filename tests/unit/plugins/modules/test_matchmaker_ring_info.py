# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brokerless.openstack.plugins.modules.matchmaker_ring_info import main


@pytest.mark.parametrize("check", [False, True])
def test_what_a_ring_says(run_module: Any, ring_path: Path, check: bool) -> None:
    ring_path.write_text('{"scheduler": ["o2", "o1"], "q-*": ["n1", "o1"]}', encoding="utf-8")
    result = run_module(main, check=check, path=str(ring_path))
    assert result["changed"] is False
    assert (result["path"], result["exists"], result["valid"], result["error"]) == (str(ring_path), True, True, "")
    assert result["ring"] == {"scheduler": ["o2", "o1"], "q-*": ["n1", "o1"]}
    assert result["topics"] == ["q-*", "scheduler"]
    assert result["hosts"] == ["n1", "o1", "o2"]
    assert "topic_hosts" not in result


@pytest.mark.parametrize(
    ("topic", "key", "hosts"),
    [("scheduler", "scheduler", ["o2", "o1"]), ("q-plugin", "q-*", ["n1"]), ("compute", "", [])],
)
def test_the_hosts_of_one_topic(run_module: Any, ring_path: Path, topic: str, key: str, hosts: list[str]) -> None:
    ring_path.write_text('{"scheduler": ["o2", "o1"], "q-*": ["n1"]}', encoding="utf-8")
    result = run_module(main, path=str(ring_path), topic=topic)
    assert (result["topic_key"], result["topic_hosts"]) == (key, hosts)


def test_a_missing_file_is_no_failure(run_module: Any, ring_path: Path) -> None:
    result = run_module(main, path=str(ring_path), topic="scheduler")
    assert (result["exists"], result["valid"], result["error"]) == (False, False, f"ring file {ring_path}: does not exist")
    assert (result["ring"], result["topics"], result["hosts"], result["topic_hosts"]) == ({}, [], [], [])


def test_a_broken_file_is_no_failure(run_module: Any, ring_path: Path) -> None:
    ring_path.write_text('{"scheduler": "abc"}', encoding="utf-8")
    result = run_module(main, path=str(ring_path))
    assert (result["exists"], result["valid"]) == (True, False)
    assert result["error"] == f"ring file {ring_path}: key 'scheduler': must be an array of hosts, not a string"
    assert "failed" not in result


def test_a_dangling_link_exists(run_module: Any, ring_path: Path) -> None:
    ring_path.symlink_to("nowhere")
    result = run_module(main, path=str(ring_path))
    assert (result["exists"], result["valid"]) == (True, False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"path": "ring.json"}, "path 'ring.json' must be absolute"), ({"path": "/x", "topic": "a/b"}, "topic 'a/b' contains '/'")],
)
def test_bad_arguments_are_a_failure(run_module: Any, arguments: dict[str, str], said: str) -> None:
    result = run_module(main, **arguments)
    assert result["failed"] is True
    assert said in result["msg"]
