# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The module on a host where the runtime's program is there, or not yet."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brokerless.openstack.plugins.module_utils.brokerless.rpc.receiver.keys import OwnKeys, read_own_keys
from ansible_collections.brokerless.openstack.plugins.modules.curve_keypair import main

PROGRAM = str(Path(sys.executable).with_name("brokerless"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A key file that does not exist yet."""
    return tmp_path / "curve.secret"


@pytest.fixture
def keypair(run_module: Any, path: Path) -> Callable[..., dict[str, Any]]:
    """A function that runs the module on that file, first in check mode, which must foretell whether it changes, and return its result."""

    def run(**arguments: Any) -> dict[str, Any]:
        content = path.read_bytes() if path.exists() else None
        foretold = run_module(main, check=True, path=str(path), executable=PROGRAM, **arguments)
        assert (path.read_bytes() if path.exists() else None) == content
        happened: dict[str, Any] = run_module(main, path=str(path), executable=PROGRAM, **arguments)
        assert foretold.get("changed") == happened.get("changed")
        assert foretold.get("pending", False) == any(key not in foretold["public_keys"] for key in happened.get("public_keys", []))
        assert sorted(name.name for name in path.parent.iterdir()) == (["curve.secret"] if path.exists() else [])
        return happened

    return run


def secrets_of(keys: OwnKeys) -> list[str]:
    return [pair.secret for pair in (keys.current, keys.next) if pair]


def test_keys_are_made_once_and_only_the_public_one_is_told(keypair: Callable[..., dict[str, Any]], path: Path) -> None:
    made = keypair()
    keys = read_own_keys(path)
    assert made["changed"] is True
    assert (made["public_key"], made["public_keys"], made["pending"]) == (keys.current.public, [keys.current.public], False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not any(secret in json.dumps(made) for secret in secrets_of(keys))
    assert made["diff"][0]["after"] == f"public = {keys.current.public}\n"
    again = keypair()
    assert again["changed"] is False
    assert again["public_keys"] == made["public_keys"]


def test_check_mode_says_that_a_key_would_be_made_and_invents_none(run_module: Any, path: Path) -> None:
    foretold = run_module(main, check=True, path=str(path), executable="/nowhere/brokerless")
    assert (foretold["changed"], foretold["pending"], foretold["public_keys"]) == (True, True, [])
    assert "public_key" not in foretold
    assert not path.exists()
    for state in ("prepared", "rotated", "settled"):
        assert run_module(main, check=True, path=str(path), state=state)["pending"] is True


def test_a_rotation_keeps_two_keys_accepted_until_it_is_settled(keypair: Callable[..., dict[str, Any]], path: Path) -> None:
    [old] = keypair()["public_keys"]
    prepared = keypair(state="prepared")
    assert prepared["changed"] is True
    first, following = prepared["public_keys"]
    assert (first, prepared["public_key"]) == (old, old)
    for state in ("prepared", "present", "settled"):
        again = keypair(state=state)
        assert (again["changed"], again["public_keys"]) == (False, [old, following]), state
    known = secrets_of(read_own_keys(path))
    rotated = keypair(state="rotated")
    assert (rotated["changed"], rotated["public_key"], rotated["public_keys"]) == (True, following, [following, old])
    assert known[0] not in path.read_text()
    for state in ("rotated", "present"):
        again = keypair(state=state)
        assert (again["changed"], again["public_keys"]) == (False, [following, old]), state
    settled = keypair(state="settled")
    assert (settled["changed"], settled["public_keys"]) == (True, [following])
    assert keypair(state="settled")["changed"] is False
    for result in (prepared, rotated, settled):
        assert not any(secret in json.dumps(result) for secret in known)


def test_regenerate_makes_new_keys_at_once_even_of_a_broken_file(keypair: Callable[..., dict[str, Any]], path: Path) -> None:
    [old] = keypair()["public_keys"]
    [new] = keypair(regenerate=True)["public_keys"]
    assert new != old
    path.write_text("broken")
    assert "line 1: must be NAME = KEY" in keypair()["msg"]
    assert path.read_text() == "broken"
    assert keypair(regenerate=True)["changed"] is True
    assert "does not go with state=rotated" in keypair(regenerate=True, state="rotated")["msg"]


def test_a_file_that_others_could_read_is_not_quietly_mended(keypair: Callable[..., dict[str, Any]], path: Path) -> None:
    keypair()
    path.chmod(0o644)
    told = keypair()
    assert told["failed"] is True
    assert "has mode 0644" in told["msg"]
    assert "regenerate=true makes new keys" in told["msg"]


def test_a_change_of_the_mode_alone_is_a_change(keypair: Callable[..., dict[str, Any]], path: Path) -> None:
    keypair()
    assert keypair(mode="0640")["changed"] is True
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert keypair(mode="0640")["changed"] is False


def test_the_secret_is_never_in_a_file_that_others_can_read(run_module: Any, path: Path) -> None:
    """Whatever the umask, and whatever mode is asked for in the end."""
    old = os.umask(0)
    try:
        run_module(main, path=str(path), executable=PROGRAM)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"path": "curve.secret"}, "path 'curve.secret' must be absolute"),
        ({"executable": "/nowhere/brokerless"}, "the program /nowhere/brokerless, which makes keys, does not exist"),
        ({"executable": "/bin/false"}, "/bin/false made no keys: exit code 1"),
        ({"state": "rotated"}, "does not exist, so its keys can't be rotated; state=present makes some"),
        ({"state": "gone"}, "value of state must be one of: present, prepared, rotated, settled, got: gone"),
    ],
)
def test_what_can_not_be_done_is_named(run_module: Any, path: Path, arguments: dict[str, Any], said: str) -> None:
    told = run_module(main, **{"path": str(path), "executable": PROGRAM, **arguments})
    assert told["failed"] is True
    assert said in told["msg"]
    assert list(path.parent.iterdir()) == []


def test_a_missing_directory_is_named_but_may_be_about_to_be_made_in_check_mode(run_module: Any, tmp_path: Path) -> None:
    path = tmp_path / "none" / "curve.secret"
    told = run_module(main, path=str(path), executable=PROGRAM)
    assert told["msg"] == f"directory {path.parent} of key file {path} does not exist; make it first"
    assert run_module(main, check=True, path=str(path), executable=PROGRAM)["changed"] is True
