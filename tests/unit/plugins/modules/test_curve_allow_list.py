# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brokerless.openstack.plugins.module_utils.brokerless.rpc.receiver.keys import read_allow_list
from ansible_collections.brokerless.openstack.plugins.modules.curve_allow_list import main

A1, A2, B1 = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID", "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", "b" * 40


def host(name: str, *keys: str, pending: bool = False) -> dict[str, Any]:
    return {"name": name, "public_keys": list(keys), "pending": pending}


@pytest.fixture
def allow(run_module: Any, tmp_path: Path) -> Any:
    """A function that writes the allow-list, first in check mode, which must foretell all of it, and returns the result."""

    def run(*hosts: dict[str, Any], **arguments: Any) -> dict[str, Any]:
        given = {"path": str(tmp_path), "hosts": list(hosts), **arguments}
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        foretold = run_module(main, check=True, **given)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        happened: dict[str, Any] = run_module(main, **given)
        assert {**foretold, "fingerprint": None, "invocation": None} == {**happened, "fingerprint": None, "invocation": None}
        return happened

    return run


def test_a_list_is_written_once_and_read_as_it_was_meant(allow: Any, tmp_path: Path) -> None:
    result = allow(host("b", B1), host("a", A1, A2), mode="0640")
    assert (result["changed"], result["written"], result["removed"]) == (True, ["a", "b"], [])
    read = read_allow_list(tmp_path)
    assert read.hosts == {"a": (A1, A2), "b": (B1,)}
    assert result["fingerprint"] == read.fingerprint
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}
    assert result["diff"][0] == {"before_header": f"{tmp_path}/a.pub", "after_header": f"{tmp_path}/a.pub", "before": "", "after": f"{A1}\n{A2}\n"}
    again = allow(host("b", B1), host("a", A1, A2), mode="0640")
    assert (again["changed"], again["written"], again["diff"]) == (False, [], [])


def test_hosts_that_left_are_removed_and_those_of_other_runs_stay(allow: Any, tmp_path: Path) -> None:
    allow(host("a", A1), host("b", B1), host("c", A2))
    (tmp_path / "notes").write_text("mine")
    result = allow(host("a", A1), keep=["b", "d"])
    assert (result["removed"], result["kept"], result["missing"]) == (["c"], ["b"], ["d"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pub", "b.pub", "notes"]


def test_another_order_is_a_change_and_other_comments_are_not(allow: Any, tmp_path: Path) -> None:
    (tmp_path / "a.pub").write_text(f"# mine\n{A1} # in use\n{A2}\n")
    assert allow(host("a", A1, A2), mode="0644")["changed"] is False
    assert allow(host("a", A2, A1))["written"] == ["a"]
    (tmp_path / "a.pub").write_text("broken")
    assert allow(host("a", A2, A1))["written"] == ["a"]


def test_a_change_of_the_mode_alone_is_a_change(allow: Any, tmp_path: Path) -> None:
    allow(host("a", A1))
    assert stat.S_IMODE((tmp_path / "a.pub").stat().st_mode) == 0o644
    result = allow(host("a", A1), mode="0600")
    assert (result["changed"], result["written"]) == (True, [])
    assert stat.S_IMODE((tmp_path / "a.pub").stat().st_mode) == 0o600


def test_check_mode_foretells_the_file_of_a_key_that_is_not_made_yet(run_module: Any, tmp_path: Path) -> None:
    foretold = run_module(main, check=True, path=str(tmp_path / "none"), hosts=[host("a", pending=True), host("b", B1, pending=True)])
    assert foretold["written"] == ["a", "b"]
    assert [part["after"] for part in foretold["diff"]] == ["# (and a key that the run makes)\n", f"{B1}\n# (and a key that the run makes)\n"]
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ([host("a", pending=True)], "host 'a' has a pending key, which only check mode accepts"),
        ([host("a")], "host 'a' has no public key"),
        ([host("a", A1), host("a", A2)], "host 'a' is listed more than once"),
        ([host("a", A1), host("b", A1)], f"host 'b': key {A1} is there twice, or host 'a' has it too"),
        ([host("a", "short")], "host 'a': public key 'short': a key has 40 characters, and this has 5"),
        ([host("../a", A1)], "'../a'"),
    ],
)
def test_a_list_that_is_no_good_changes_nothing(run_module: Any, tmp_path: Path, hosts: list[dict[str, Any]], said: str) -> None:
    (tmp_path / "b.pub").write_text(f"{B1}\n")
    told = run_module(main, path=str(tmp_path), hosts=hosts)
    assert told["failed"] is True
    assert said in told["msg"]
    assert [path.name for path in tmp_path.iterdir()] == ["b.pub"]


def test_a_missing_directory_is_named(run_module: Any, tmp_path: Path) -> None:
    assert run_module(main, path=str(tmp_path / "none"), hosts=[])["msg"] == f"{tmp_path}/none is no directory; make it first"
    assert run_module(main, path="none", hosts=[])["msg"] == "path 'none' must be absolute"
