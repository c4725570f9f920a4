# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq
from brokerless.rpc.receiver.keys import (
    MAX_KEY_FILE_BYTES,
    AllowList,
    KeyFileError,
    KeyPair,
    OwnKeys,
    allow_list_signature,
    key_fault,
    parse_own_keys,
    parse_public_keys,
    read_allow_list,
    read_own_keys,
    to_z85,
)
from zmq.utils import z85

# RFC 26 and RFC 32 have these
FIRST = KeyPair("Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID", "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs")
SECOND = KeyPair("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6")
HASHES = FIRST.public[:-1] + "#"


def test_z85_is_what_zeromq_says_it_is() -> None:
    for _turn in range(200):
        key = os.urandom(32)
        assert to_z85(key).encode() == z85.encode(key)
        assert key_fault(to_z85(key)) == ""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "a key has 40 characters, and this has 0"),
        ("a" * 41, "a key has 40 characters, and this has 41"),
        ("a" * 39 + "~", "'~' is no character of Z85"),
        ("a" * 39 + " ", "' ' is no character of Z85"),
        ("a" * 39 + "é", "'é' is no character of Z85"),
        ("#" * 40, "it is not Z85: five of its characters in a row are more than 32 bits"),
    ],
)
def test_what_is_no_key_is_named_and_not_repeated(text: str, fault: str) -> None:
    assert key_fault(text) == fault


def test_own_keys_come_back_from_their_text_in_each_phase_of_a_rotation() -> None:
    keys = OwnKeys(FIRST)
    assert keys.accepted == (FIRST.public,)
    prepared = keys.prepared(SECOND)
    assert prepared.accepted == (FIRST.public, SECOND.public)
    rotated = prepared.rotated()
    assert rotated.current == SECOND
    assert rotated.accepted == (SECOND.public, FIRST.public)
    settled = rotated.settled()
    assert settled == OwnKeys(SECOND)
    for state in (keys, prepared, rotated, settled):
        assert parse_own_keys(state.to_text(), "f") == state
    assert FIRST.secret not in rotated.to_text()
    assert keys.rotated() == keys


def test_a_secret_is_not_shown() -> None:
    assert FIRST.secret not in repr(OwnKeys(FIRST, FIRST))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "key file f: lacks public and secret"),
        (f"public = {FIRST.public}\n", "key file f: lacks secret"),
        (f"{OwnKeys(FIRST).to_text()}public = {FIRST.public}\n", "key file f, line 4: public is there twice"),
        (
            f"\n{FIRST.secret}\n",
            "key file f, line 2: must be NAME = KEY with one of the names public, secret, next_public, next_secret, previous_public",
        ),
        ("private = x\n", "key file f, line 1: must be NAME = KEY with one of the names public, secret, next_public, next_secret, previous_public"),
        (f"secret = {FIRST.secret}x\n", "key file f, line 1: secret: a key has 40 characters, and this has 41"),
        (f"{OwnKeys(FIRST).to_text()}next_public = {SECOND.public}\n", "key file f: next_public and next_secret belong together, and one is missing"),
    ],
)
def test_what_is_no_own_key_file_is_named_without_its_secrets(text: str, fault: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        parse_own_keys(text, "f")
    assert str(caught.value) == fault


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o440])
def test_a_key_file_for_the_owner_and_readers_of_its_group_is_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "own"
    path.write_text(OwnKeys(FIRST).to_text())
    path.chmod(mode)
    assert read_own_keys(path) == OwnKeys(FIRST)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602, 0o610])
def test_a_key_file_that_others_get_at_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "own"
    path.write_text(OwnKeys(FIRST).to_text())
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"own: has mode {mode:04o}, and may have 0600 or 0640"):
        read_own_keys(path)


def test_public_keys_have_comments_and_may_hold_what_begins_one() -> None:
    assert key_fault(HASHES) == ""
    assert key_fault("#" + "0" * 39), "no key begins with one"
    text = f"# of control1\n\n  {FIRST.public}  # in use\n{HASHES}\t#next\n#{SECOND.public}\n"
    assert parse_public_keys(text, "f") == (FIRST.public, HASHES)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "public keys f: holds no key; remove the file to refuse the host"),
        ("# nothing\n", "public keys f: holds no key; remove the file to refuse the host"),
        ("\nabc\n", "public keys f, line 2: a key has 40 characters, and this has 3"),
        (f"{FIRST.public} {SECOND.public}\n", "public keys f, line 1: a line holds one key"),
        (f"{FIRST.public}\n{FIRST.public}\n", "public keys f, line 2: the same key is there twice"),
    ],
)
def test_what_are_no_public_keys_is_named(text: str, fault: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        parse_public_keys(text, "f")
    assert str(caught.value) == fault


def test_an_allow_list_is_read_by_host(tmp_path: Path) -> None:
    (tmp_path / "control1.pub").write_text(f"{FIRST.public}\n{HASHES}\n")
    (tmp_path / "compute1.lab.pub").write_text(f"{SECOND.public}\n")
    (tmp_path / ".compute2.pub").write_text("half of it")
    (tmp_path / "control1.pub~").write_text("a backup")
    allowed = read_allow_list(tmp_path)
    assert allowed.hosts == {"control1": (FIRST.public, HASHES), "compute1.lab": (SECOND.public,)}
    assert [allowed.host_of(key) for key in (FIRST.public, HASHES, SECOND.public, "x")] == ["control1", "control1", "compute1.lab", None]
    assert allowed.keys_of("control1") == (FIRST.public, HASHES)
    assert allowed.keys_of("nobody") == ()


def test_a_fingerprint_tells_lists_apart() -> None:
    lists = [{}, {"a": ("1",)}, {"a": ("1", "2")}, {"a": ("2", "1")}, {"b": ("1",)}]
    assert len({AllowList(hosts).fingerprint for hosts in lists}) == len(lists)
    assert AllowList({"a": ("1",), "b": ("2",)}).fingerprint == AllowList({"b": ("2",), "a": ("1",)}).fingerprint


def big(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_KEY_FILE_BYTES + 1)


@pytest.mark.parametrize(
    ("name", "make", "fault"),
    [
        (
            "a b.pub",
            lambda path: path.write_text(FIRST.public),
            "a b.pub: its name is no host's: host 'a b' contains ' ', which is not allowed in it",
        ),
        (
            "a.pub",
            lambda path: path.write_text(SECOND.public),
            f"b.pub: key {SECOND.public} is the one of host a too; each host has a key of its own",
        ),
        ("a.pub", lambda path: path.write_bytes(b"\xff"), "a.pub: is not UTF-8 text (byte 1)"),
        ("a.pub", big, "a.pub: is too big; a key file has 65536 bytes at most"),
        ("a.pub", lambda path: path.mkdir(), "a.pub: can't be read: Is a directory"),
        ("a.pub", os.mkfifo, "a.pub: is no regular file"),
        ("a.pub", lambda path: path.symlink_to("nowhere"), "a.pub: can't be read: No such file or directory"),
    ],
)
def test_what_is_no_allow_list_is_named(tmp_path: Path, name: str, make: Callable[[Path], object], fault: str) -> None:
    (tmp_path / "b.pub").write_text(SECOND.public)
    make(tmp_path / name)
    with pytest.raises(KeyFileError) as caught:
        read_allow_list(tmp_path)
    assert str(caught.value).endswith(fault)
    assert str(tmp_path) in str(caught.value)


def test_files_that_may_not_be_read_are_named(open_tmp_path: Path, unprivileged: Callable[[Callable[[], str]], str]) -> None:
    (open_tmp_path / "a.pub").write_text(FIRST.public)
    (open_tmp_path / "a.pub").chmod(0)
    closed = open_tmp_path / "closed"
    closed.mkdir(mode=0)

    def ask(path: Path) -> str:
        try:
            return str(read_allow_list(path))
        except KeyFileError as error:
            return str(error)

    assert unprivileged(lambda: ask(open_tmp_path)) == f"public keys {open_tmp_path}/a.pub: can't be read: Permission denied"
    assert unprivileged(lambda: ask(closed)) == f"directory {closed} of the hosts' public keys can't be read: Permission denied"


def test_a_signature_changes_with_the_list(tmp_path: Path) -> None:
    assert allow_list_signature(tmp_path / "none") is None
    seen = {allow_list_signature(tmp_path)}
    for change in (
        lambda: (tmp_path / "a.pub").write_text(FIRST.public),
        lambda: (tmp_path / "a.pub").write_text(FIRST.public + "\n"),
        lambda: (tmp_path / "b.pub").write_text(FIRST.public),
        (tmp_path / "a.pub").unlink,
    ):
        change()
        seen.add(allow_list_signature(tmp_path))
    assert len(seen) == 5
    (tmp_path / "notes").write_text("nothing")
    assert allow_list_signature(tmp_path) in seen


def test_zeromq_takes_the_keys_that_are_taken_here() -> None:
    assert zmq.curve_public(FIRST.secret.encode()).decode() == FIRST.public
