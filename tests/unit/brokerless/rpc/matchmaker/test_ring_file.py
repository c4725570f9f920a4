# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import re
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from brokerless.rpc.matchmaker.ring_file import MAX_RING_BYTES, Ring, RingError, check_ring, check_ring_key, parse_ring, read_ring
from brokerless.rpc.topics import TopicError
from hypothesis import given
from hypothesis import strategies as st

CHECKOUT = Path(__file__).parents[5]
SCHEMA = json.loads((CHECKOUT / "files/schemas/matchmaker_ring.schema.json").read_text(encoding="utf-8"))
SCHEMA_VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
LONGEST = "a" * 255

GOOD_RINGS: list[dict[str, Any]] = [
    {"scheduler": ["o1p409", "o2p409"], "network": ["o3p409", "o4p409"]},
    {"compute": ["c1.lab.example.com"]},
    {"compute": ["192.168.2.1", "fe80::1%eth0", "::1", "_underscored"]},
    {LONGEST: [LONGEST]},
    {"q-agent-notifier-*": ["a"], "*": ["b"], "?": ["c"], "[ab]c[!d]": ["d"]},
    {"a.b@c:d#e%f+g-h_i": ["a"]},
    {"Scheduler": ["A", "a"], "scheduler": ["a"]},
]

# What a program that decodes the JSON still has to refuse: the value, and what the error must say.
BAD_RINGS: list[tuple[Any, str]] = [
    ([], "must hold a JSON object of topics and their hosts, not an array"),
    ([{"a": ["b"]}], "must hold a JSON object of topics and their hosts, not an array"),
    ("scheduler", "must hold a JSON object of topics and their hosts, not a string"),
    (7, "must hold a JSON object of topics and their hosts, not a number"),
    (True, "must hold a JSON object of topics and their hosts, not a boolean"),
    (None, "must hold a JSON object of topics and their hosts, not null"),
    ({}, "defines no topic"),
    ({"scheduler": "abc"}, "key 'scheduler': must be an array of hosts, not a string"),
    ({"scheduler": 3}, "key 'scheduler': must be an array of hosts, not a number"),
    ({"scheduler": False}, "key 'scheduler': must be an array of hosts, not a boolean"),
    ({"scheduler": None}, "key 'scheduler': must be an array of hosts, not null"),
    ({"scheduler": {"host": "a"}}, "key 'scheduler': must be an array of hosts, not an object"),
    ({"scheduler": []}, "key 'scheduler': its array of hosts is empty"),
    ({"compute": ["a"], "scheduler": []}, "key 'scheduler': its array of hosts is empty"),
    ({"scheduler": [["a"]]}, "key 'scheduler': host 1 must be a string, not an array"),
    ({"scheduler": ["a", 4]}, "key 'scheduler': host 2 must be a string, not a number"),
    ({"scheduler": ["a", None]}, "key 'scheduler': host 2 must be a string, not null"),
    ({"scheduler": ["a", True]}, "key 'scheduler': host 2 must be a string, not a boolean"),
    ({"scheduler": ["a", {}]}, "key 'scheduler': host 2 must be a string, not an object"),
    ({"scheduler": ["a", ""]}, "key 'scheduler': host 2 is empty"),
    ({"scheduler": ["a", "b", "a"]}, "key 'scheduler': host 'a' is listed more than once"),
    ({"scheduler": ["a b"]}, "key 'scheduler': host 'a b' contains ' '"),
    ({"scheduler": ["a\n"]}, "key 'scheduler': host 'a\\n' contains '\\n'"),
    ({"scheduler": ["a\0"]}, "key 'scheduler': host 'a\\x00' contains '\\x00'"),
    ({"scheduler": ["../a"]}, "key 'scheduler': host '../a' contains '..'"),
    ({"scheduler": ["a/b"]}, "key 'scheduler': host 'a/b' contains '/'"),
    ({"scheduler": ["a\\b"]}, "key 'scheduler': host 'a\\\\b' contains '\\\\'"),
    ({"scheduler": ["-a"]}, "key 'scheduler': host '-a' begins with '-'"),
    ({"scheduler": [".a"]}, "key 'scheduler': host '.a' begins with '.'"),
    ({"scheduler": ["*"]}, "key 'scheduler': host '*' contains '*'"),
    ({"scheduler": ["höst"]}, "key 'scheduler': host 'höst' contains 'ö'"),
    ({"scheduler": ["a" * 300]}, "has 300 characters; at most 255 are allowed"),
    ({"": ["a"]}, "topic is empty"),
    ({"a/b": ["a"]}, "topic 'a/b' contains '/'"),
    ({"a\\b": ["a"]}, "topic 'a\\\\b' contains '\\\\'"),
    ({"a..b": ["a"]}, "topic 'a..b' contains '..'"),
    ({"..": ["a"]}, "topic '..' contains '..'"),
    ({"a\0b": ["a"]}, "topic 'a\\x00b' contains '\\x00'"),
    ({"a b": ["a"]}, "topic 'a b' contains ' '"),
    ({" ": ["a"]}, "topic ' ' contains ' '"),
    ({"a\n": ["a"]}, "topic 'a\\n' contains '\\n'"),
    ({"a" * 300: ["a"]}, "has 300 characters; at most 255 are allowed"),
    ({"*" * 256: ["a"]}, "has 256 characters; at most 255 are allowed"),
    ({"fanout~compute": ["a"]}, "topic 'fanout~compute' contains '~'"),
    ({"-a": ["a"]}, "topic '-a' begins with '-'"),
    ({"-a*": ["a"]}, "topic '-a*' is not a glob"),
    ({"a/*": ["a"]}, "topic 'a/*' contains '/'"),
    ({"a*\n": ["a"]}, "topic 'a*\\n' contains '\\n'"),
    ({"*..*": ["a"]}, "topic '*..*' contains '..'"),
    ({"a[": ["a"]}, "topic 'a[' is not a glob"),
    ({"a[]": ["a"]}, "topic 'a[]' is not a glob"),
    ({"a[!]": ["a"]}, "topic 'a[!]' is not a glob"),
    ({"a[[b]]": ["a"]}, "topic 'a[[b]]' is not a glob"),
    ({"a[*]": ["a"]}, "topic 'a[*]' is not a glob"),
    ({"a]": ["a"]}, "topic 'a]' contains ']'"),
    ({"a!*": ["a"]}, "topic 'a!*' is not a glob"),
    ({"a!": ["a"]}, "topic 'a!' contains '!'"),
]

# What only the text of a file can have.
BAD_TEXTS: list[tuple[str | bytes, str]] = [
    ("", "is empty, which is not JSON"),
    (" \n\t", "is empty, which is not JSON"),
    ("{\n  'scheduler': ['a']\n}", "is not JSON: Expecting property name enclosed in double quotes (line 2, column 3)"),
    ('{"scheduler": ["a"],}', "is not JSON: "),
    ('{"scheduler": ["a"]} {}', "is not JSON: Extra data (line 1, column 22)"),
    ('{"scheduler": [NaN]}', "key 'scheduler': host 1 must be a string, not a number"),
    ('{"a": ["x"], "a": ["y"]}', "key 'a' appears more than once"),
    ('{"a": ["x"], "\\u0061": ["x"]}', "key 'a' appears more than once"),
    ('{"a": [{"b": 1, "b": 2}]}', "key 'b' appears more than once"),
    ("[" * 200_000, "is nested too deeply to be a ring"),
    ("1" * 5000, "holds a number that is too long to be read"),
    ("\ufeff{}", "begins with a byte order mark"),
    (b"\xef\xbb\xbf{}", "begins with a byte order mark"),
    (b'{"a": ["\xff"]}', "is not UTF-8 text (byte 9 is 0xff)"),
    ('{"a": ["x"]}'.encode("utf-16"), "is not UTF-8 text (byte 1 is 0xff)"),
    ('{"\\ud800": ["x"]}', "topic '\\ud800' contains '\\ud800'"),
    ('{"a": ["\\ud800"]}', "key 'a': host '\\ud800' contains '\\ud800'"),
    (" " * (MAX_RING_BYTES + 1), "is too big for a ring; at most 8 MiB are read"),
    (b" " * (MAX_RING_BYTES + 1), "is too big for a ring; at most 8 MiB are read"),
]


def message_of(text: str | bytes, source: str = "/etc/ring.json") -> str:
    with pytest.raises(RingError) as caught:
        parse_ring(text, source)
    return str(caught.value)


@pytest.mark.parametrize("topics", GOOD_RINGS, ids=str)
def test_a_ring_says_what_its_file_says(topics: dict[str, list[str]]) -> None:
    ring = parse_ring(json.dumps(topics), "x")
    assert {key: list(hosts) for key, hosts in ring.topics.items()} == topics
    assert ring == check_ring(topics, "x") == parse_ring(ring.to_json(), "x")
    assert ring.hosts() == {host for hosts in topics.values() for host in hosts}
    SCHEMA_VALIDATOR.validate(topics)


@pytest.mark.parametrize(("value", "fault"), BAD_RINGS, ids=lambda value: str(value)[:60])
def test_a_bad_ring_is_refused_in_one_line_that_names_file_and_fault(value: Any, fault: str) -> None:
    message = message_of(json.dumps(value))
    assert message.startswith("ring file /etc/ring.json: ")
    assert fault in message
    assert message.isprintable()
    assert not SCHEMA_VALIDATOR.is_valid(value), "the JSON Schema accepts what the runtime refuses"


@pytest.mark.parametrize(("text", "fault"), BAD_TEXTS, ids=lambda value: repr(value)[:40])
def test_a_bad_text_is_refused_in_one_line_that_names_file_and_fault(text: str | bytes, fault: str) -> None:
    message = message_of(text)
    assert message.startswith("ring file /etc/ring.json: ")
    assert fault in message
    assert message.isprintable()


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for example in SCHEMA["examples"]:
        assert check_ring(example, "example")


def test_a_key_that_is_no_string_is_refused() -> None:
    with pytest.raises(RingError, match="key 3 must be a string, not a number"):
        check_ring({3: ["a"]}, "x")
    with pytest.raises(TopicError, match="must be a string, not int"):
        check_ring_key(3)


def test_an_unprintable_source_does_not_break_the_line() -> None:
    assert message_of("", "a\nb").startswith("ring file 'a\\nb': ")


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(RingError, match="key 'a': must be an array of hosts, not set"):
        check_ring({"a": {"b"}}, "x")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["a", "host1", "..", "a*", "[a]"]),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text() | st.sampled_from(["a", "q-*", "[!a]", "a..b"]), values, max_size=3),
    max_leaves=8,
)
NAME_CHARACTERS = st.sampled_from("aZ0_.-:%@#+*?[]! /\n~")
NEARLY_NAMES = st.text(NAME_CHARACTERS, max_size=6)


@given(JSON_VALUES | st.dictionaries(NEARLY_NAMES, st.lists(NEARLY_NAMES, max_size=3), max_size=2))
def test_validator_and_schema_agree_on_anything(value: Any) -> None:
    try:
        check_ring(value, "x")
        accepted = True
    except RingError:
        accepted = False
    assert accepted == SCHEMA_VALIDATOR.is_valid(value)


@given(st.binary() | st.text())
def test_any_text_is_a_ring_or_a_ring_error(text: str | bytes) -> None:
    try:
        ring = parse_ring(text, "x")
    except RingError as error:
        said = str(error)
    else:
        said = f"ring file x: {len(ring.topics)} topics"
    assert re.fullmatch(r"ring file x: [^0].*", said)


TOPICS = st.from_regex(r"[a-z][a-z0-9-]{0,5}", fullmatch=True)
HOST = st.from_regex(r"[a-z][a-z0-9.-]{0,5}[a-z]", fullmatch=True).filter(lambda host: ".." not in host)
HOSTS = st.lists(HOST, min_size=1, max_size=4, unique=True)


@given(st.dictionaries(TOPICS, HOSTS, min_size=1))
def test_writing_and_reading_gives_the_same_ring_and_text(topics: dict[str, list[str]]) -> None:
    ring = check_ring(topics, "x")
    text = ring.to_json()
    assert parse_ring(text, "x") == ring
    assert check_ring(dict(reversed(topics.items())), "x").to_json() == text
    assert text.endswith("]\n}\n")


@given(st.dictionaries(TOPICS, HOSTS, min_size=1))
def test_each_topic_of_a_ring_has_its_own_hosts_whatever_globs_say(topics: dict[str, list[str]]) -> None:
    ring = check_ring({**topics, "*": ["any"], "?*": ["any"]}, "x")
    for topic, hosts in topics.items():
        assert ring.matching_key(topic) == topic
        assert list(ring.hosts_of(topic)) == hosts


def test_order_of_hosts_is_kept_and_matters() -> None:
    assert check_ring({"a": ["z", "b"]}, "x").hosts_of("a") == ("z", "b")
    assert check_ring({"a": ["z", "b"]}, "x") != check_ring({"a": ["b", "z"]}, "x")


def test_order_of_topics_does_not_matter() -> None:
    assert check_ring({"a": ["x"], "b": ["y"]}, "x") == check_ring({"b": ["y"], "a": ["x"]}, "x")


@pytest.mark.parametrize(
    ("topic", "key"),
    [
        ("q-agent-notifier-port-update", "q-agent-notifier-port-*"),
        ("q-agent-notifier-network-update", "q-agent-notifier-*"),
        ("q-plugin", "q-*"),
        ("q-exact", "q-exact"),
        ("x1", "[xy]?"),
        ("y2", "[xy]?"),
        ("z1", None),
        ("Q-plugin", None),
        ("compute", None),
    ],
)
def test_exact_key_first_then_longest_glob(topic: str, key: str | None) -> None:
    ring = check_ring({"q-*": ["a"], "q-exact": ["b"], "q-agent-notifier-*": ["c"], "q-agent-notifier-port-*": ["d"], "[xy]?": ["e"]}, "x")
    assert ring.matching_key(topic) == key
    assert ring.hosts_of(topic) == (ring.topics[key] if key else ())


def test_of_globs_of_one_length_the_first_of_the_alphabet_decides_in_any_order_of_the_file() -> None:
    for keys in (["ab*", "*bc"], ["*bc", "ab*"]):
        assert check_ring({key: ["h"] for key in keys}, "x").matching_key("abc") == "*bc"


def test_a_ring_can_not_be_changed() -> None:
    topics = {"a": ["x"]}
    ring = check_ring(topics, "x")
    topics["a"].append("y")
    topics["b"] = ["z"]
    assert ring == Ring({"a": ("x",)})
    with pytest.raises(TypeError):
        ring.topics["a"] = ("z",)  # type: ignore[index]


def test_reading_a_file(tmp_path: Path) -> None:
    path = tmp_path / "ring.json"
    path.write_text('{"scheduler": ["o1p409"]}', encoding="utf-8")
    assert read_ring(str(path)).hosts_of("scheduler") == ("o1p409",)
    link = tmp_path / "link"
    link.symlink_to(path)
    assert read_ring(str(link)) == read_ring(str(path))


def read_fault(path: Path | str) -> str:
    with pytest.raises(RingError) as caught:
        read_ring(str(path))
    return str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    assert read_fault(path) == f"ring file {path}: does not exist"


def test_a_directory_is_named(tmp_path: Path) -> None:
    assert read_fault(tmp_path) == f"ring file {tmp_path}: is a directory, not a file"


def test_a_path_through_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert read_fault(tmp_path / "file" / "ring.json") == f"ring file {tmp_path}/file/ring.json: can't be read: Not a directory"


def test_a_path_with_nul_is_named() -> None:
    assert "the path can't be the name of a file" in read_fault("a\0b")


def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    assert read_fault(path) == f"ring file {path}: is not a regular file"


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        assert "ring file socket: can't be read: " in read_fault("socket")


def test_a_device_is_refused() -> None:
    assert read_fault("/dev/zero") == "ring file /dev/zero: is not a regular file"


def test_a_file_that_is_too_big_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    with path.open("wb") as file:
        file.truncate(MAX_RING_BYTES + 1)
    assert read_fault(path) == f"ring file {path}: is too big for a ring; at most 8 MiB are read"


def test_the_biggest_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    text = '{"a": ["b"]}'
    path.write_text(text + " " * (MAX_RING_BYTES - len(text)), encoding="utf-8")
    assert read_ring(str(path)).hosts_of("a") == ("b",)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ring.json"
    path.write_bytes(b'{"a": []}')
    assert read_fault(path) == f"ring file {path}: key 'a': its array of hosts is empty"


READ_AS_NOBODY = """
import os, sys
from brokerless.rpc.matchmaker.ring_file import RingError, read_ring
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    descriptor = os.open("secret", os.O_RDONLY)
except PermissionError:
    pass
else:
    sys.exit("the file can be read, which makes this test worthless")
try:
    read_ring("secret")
except RingError as error:
    sys.stdout.write(str(error))
"""


def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"a": ["b"]}', encoding="utf-8")
    secret.chmod(0)
    # The working directory is entered before the privileges go, so that only the file itself is out of reach.
    result = subprocess.run(
        [sys.executable, "-c", READ_AS_NOBODY],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT / "plugins/module_utils"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.stdout, result.stderr) == ("ring file secret: can't be read, permission denied", "")


def test_a_file_that_fails_while_it_is_read_is_named() -> None:
    # /proc/self/mem is a regular file whose first page can't be read: a real I/O error.
    assert "ring file /proc/self/mem: can't be read: Input/output error" in read_fault("/proc/self/mem")


def test_no_file_stays_open(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 128), hard))
    try:
        for _attempt in range(200):
            assert re.search("is a directory", read_fault(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
