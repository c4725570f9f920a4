# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What decides; the sockets around it are tested with real receivers, in tests/functional/rpc/test_keys.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from brokerless.rpc.receiver.gatekeeper import (
    BURST_SECONDS,
    MOST_LINKS_KNOWN,
    MOST_REFUSALS_KNOWN,
    Admissions,
    Refusals,
    checked_own_keys,
    new_key_pair,
)
from brokerless.rpc.receiver.keys import AllowList, KeyFileError, KeyPair, OwnKeys

A1, A2, B1 = "a1" * 20, "a2" * 20, "b1" * 20
LIST = AllowList({"a": (A1, A2), "b": (B1,)})


def test_a_connection_is_admitted_for_the_host_of_its_key_only() -> None:
    admissions = Admissions(LIST)
    assert admissions.host_of_link(b"1") is None
    assert admissions.admit(b"1", "a", A2)
    assert admissions.host_of_link(b"1") == "a"
    assert not admissions.admit(b"2", "b", A2)
    assert not admissions.admit(b"3", "a", "unknown")
    assert admissions.host_of_link(b"2") is admissions.host_of_link(b"3") is None


def test_only_connections_whose_very_key_is_gone_are_cut_off() -> None:
    admissions = Admissions(LIST)
    for link, host, key in ((b"1", "a", A1), (b"2", "a", A2), (b"3", "b", B1)):
        assert admissions.admit(link, host, key)
    changes = admissions.replace(AllowList({"a": (A2,), "b": (B1,)}))
    assert (changes.cut_links, changes.redial, changes.hosts) == ([b"1"], [], ["a"])
    assert [admissions.host_of_link(link) for link in (b"1", b"2", b"3")] == [None, "a", "b"]
    # a key that went to another host lets nobody be the first one any more
    changes = admissions.replace(AllowList({"b": (A2,)}))
    assert (changes.cut_links, changes.hosts) == ([b"2", b"3"], ["a", "b"])
    assert not admissions.admit(b"2", "a", A2)


def test_hosts_are_dialled_with_their_keys_in_turn_until_one_fits() -> None:
    admissions = Admissions(LIST)
    assert admissions.key_to_dial("a") == A1
    assert admissions.key_to_dial("a") == A1
    admissions.wrong_key("a")
    assert admissions.key_to_dial("a") == A2
    admissions.wrong_key("a")
    assert admissions.key_to_dial("a") == A1
    assert admissions.key_to_dial("c") is None


def test_hosts_that_were_dialled_with_a_key_that_is_gone_are_dialled_anew() -> None:
    admissions = Admissions(LIST)
    admissions.wrong_key("a")
    assert [admissions.key_to_dial(host) for host in ("a", "b")] == [A2, B1]
    assert admissions.replace(AllowList({"a": (A2, A1), "b": (B1,)})).redial == []
    changes = admissions.replace(AllowList({"a": (A1,), "b": (B1,), "c": ("c",)}))
    assert (changes.redial, changes.hosts) == (["a"], ["a", "c"])
    assert admissions.key_to_dial("a") == A1


def test_connections_that_are_remembered_have_a_limit() -> None:
    admissions = Admissions(LIST)
    for number in range(MOST_LINKS_KNOWN + 1):
        admissions.admit(b"%d" % number, "a", A1)
    assert admissions.host_of_link(b"0") is None
    assert len(admissions.replace(AllowList({})).cut_links) == MOST_LINKS_KNOWN


def test_a_refusal_is_said_once_in_a_burst_with_the_count() -> None:
    refusals = Refusals()
    assert refusals.line("x", "why", 0.0) == "refused x: why"
    assert [refusals.line("x", "why", now) for now in (0.0, 1.0, BURST_SECONDS - 1)] == ["", "", ""]
    assert refusals.line("y", "why", 1.0) == "refused y: why"
    assert refusals.line("x", "why", BURST_SECONDS) == "refused x: why (3 more times since this was last said)"
    assert refusals.line("x", "why", 3 * BURST_SECONDS) == "refused x: why"


def test_refusals_that_are_remembered_have_a_limit() -> None:
    refusals = Refusals()
    for number in range(MOST_REFUSALS_KNOWN + 1):
        assert refusals.line(str(number), "why", 0.0)
    assert refusals.line("0", "why", 0.0), "it was forgotten"
    assert not refusals.line("2", "why", 0.0)


@pytest.mark.parametrize("name", ["public", "next_public"])
def test_a_public_key_that_is_not_the_secret_ones_is_named(tmp_path: Path, name: str) -> None:
    good, other = new_key_pair(), KeyPair(new_key_pair().public, new_key_pair().secret)
    path = tmp_path / "own"
    path.touch(0o600)
    path.write_text(OwnKeys(good, new_key_pair()).to_text())
    assert checked_own_keys(str(path)).current == good
    path.write_text((OwnKeys(other) if name == "public" else OwnKeys(good, other)).to_text())
    with pytest.raises(KeyFileError, match=f"own: {name} does not belong to its secret key; make new keys"):
        checked_own_keys(str(path))
