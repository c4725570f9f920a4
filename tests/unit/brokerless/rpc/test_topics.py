# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from brokerless.rpc.topics import Address, TopicError, check_host, check_server, check_topic, parse_address, parse_topic
from hypothesis import given
from hypothesis import strategies as st

LONGEST = "a" * 255


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("compute", Address("compute")),
        ("compute.machine1", Address("compute", server="machine1")),
        ("compute.machine1.lab.example.com", Address("compute", server="machine1.lab.example.com")),
        ("compute.192.168.2.1", Address("compute", server="192.168.2.1")),
        ("compute.fe80::1%eth0", Address("compute", server="fe80::1%eth0")),
        ("compute.host@backend#pool", Address("compute", server="host@backend#pool")),
        ("fanout~compute", Address("compute", fanout=True)),
        ("compute.None", Address("compute")),
        ("compute.", Address("compute")),
        ("fanout~compute.None", Address("compute", fanout=True)),
        ("compute.none", Address("compute", server="none")),
        ("None", Address("None")),
        ("q-agent-notifier-port-update", Address("q-agent-notifier-port-update")),
        (LONGEST, Address(LONGEST)),
    ],
)
def test_what_a_text_means(text: str, address: Address) -> None:
    assert parse_topic(text) == address


BAD_TOPICS = [
    ("", "topic is empty"),
    (".", "topic is empty"),
    (".None", "topic is empty"),
    (".machine1", "topic is empty"),
    ("fanout~", "topic is empty"),
    ("a/b", "topic 'a/b' contains '/'"),
    ("/", "topic '/' contains '/'"),
    ("a\\b", "topic 'a\\\\b' contains '\\\\'"),
    ("a..b", "topic 'a..b' contains '..'"),
    ("..", "topic '..' contains '..'"),
    ("a..", "topic 'a..' contains '..'"),
    ("a..None", "topic 'a..None' contains '..'"),
    ("a.b..", "topic 'a.b..' contains '..'"),
    ("../../etc/passwd", "contains '..'"),
    ("a\0b", "topic 'a\\x00b' contains '\\x00'"),
    ("a b", "topic 'a b' contains ' '"),
    (" a", "topic ' a' contains ' '"),
    ("a\n", "topic 'a\\n' contains '\\n'"),
    ("a\tb", "topic 'a\\tb' contains '\\t'"),
    ("tøpic", "topic 'tøpic' contains 'ø'"),
    ("a~b", "topic 'a~b' contains '~'"),
    ("fanout~fanout~a", "topic 'fanout~a' contains '~'"),
    ("-a", "topic '-a' begins with '-', which is not allowed there"),
    ("a*", "topic 'a*' contains '*'"),
    ("a" * 300, "topic 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'… has 300 characters; at most 255 are allowed"),
    ("compute.a b", "server 'a b' contains ' '"),
    ("compute.a/b", "server 'a/b' contains '/'"),
    ("compute.-a", "server '-a' begins with '-'"),
    ("compute." + "a" * 300, "characters; at most 255 are allowed"),
    ("fanout~compute.machine1", "fanout of topic 'compute' can't be directed to server 'machine1'"),
]


@pytest.mark.parametrize(("text", "fault"), BAD_TOPICS, ids=lambda value: repr(value)[:40])
def test_a_bad_topic_is_refused_in_one_line(text: str, fault: str) -> None:
    with pytest.raises(TopicError) as caught:
        parse_topic(text)
    assert fault in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", [None, 7, b"compute", ["compute"], {}])
@pytest.mark.parametrize(("check", "kind"), [(parse_topic, "topic"), (check_topic, "topic"), (check_host, "host"), (check_server, "server")])
def test_what_is_no_text_is_refused(check: Any, kind: str, value: Any) -> None:
    with pytest.raises(TopicError, match=f"{kind} must be a string, not {type(value).__name__}"):
        check(value)


@pytest.mark.parametrize("host", ["o1p409", "o1p409.lab.example.com", "192.168.2.1", "::1", "fe80::1%eth0", "my_host", "a" * 255])
def test_names_of_hosts(host: str) -> None:
    assert check_host(host) == host


@pytest.mark.parametrize("host", ["", ".a", "-a", "a b", "a/b", "a\n", "*", "a@b", "a..b", "[::1]", "a" * 256, "höst", "%a"])
def test_what_can_not_name_a_host(host: str) -> None:
    with pytest.raises(TopicError, match=r"^host "):
        check_host(host)


@pytest.mark.parametrize("server", ["*", "a*", "host@backend", "host:7", "1"])
def test_names_of_servers(server: str) -> None:
    assert check_server(server) == server


@pytest.mark.parametrize(
    ("address", "text", "bare"),
    [
        (Address("compute"), "compute", True),
        (Address("compute", server="machine1"), "compute.machine1", False),
        (Address("compute", fanout=True), "fanout~compute", False),
        (Address("compute", exchange="nova"), "nova/compute", True),
        (Address("compute", server="m1", exchange="nova", namespace="cell1"), "cell1/nova/compute.m1", False),
        (Address("compute", fanout=True, namespace="cell1"), "cell1/fanout~compute", False),
    ],
)
def test_how_an_address_is_shown(address: Address, text: str, bare: bool) -> None:
    assert address.checked() is address
    assert str(address) == text
    assert address.bare == bare


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        (Address(""), "topic is empty"),
        (Address("a", server="b c"), "server 'b c' contains ' '"),
        (Address("a", server="b", fanout=True), "fanout of topic 'a' can't be directed to server 'b'"),
        (Address("a", exchange="b/c"), "exchange 'b/c' contains '/'"),
        (Address("a", namespace=".b"), "namespace '.b' begins with '.'"),
    ],
)
def test_each_part_of_an_address_is_checked(address: Address, fault: str) -> None:
    with pytest.raises(TopicError) as caught:
        address.checked()
    assert fault in str(caught.value)


def test_directing_an_address_keeps_its_scope() -> None:
    address = Address("compute", fanout=True, exchange="nova", namespace="cell1")
    assert address.directed("m1") == Address("compute", server="m1", exchange="nova", namespace="cell1")


@given(st.text())
def test_any_text_is_an_address_or_a_topic_error(text: str) -> None:
    try:
        address = parse_topic(text)
    except TopicError:
        return
    assert address.checked() == Address(address.topic, server=address.server, fanout=address.fanout)


NAME = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_@:#%+-]{0,10}", fullmatch=True)
SERVER = (
    st.lists(st.from_regex(r"[A-Za-z0-9_-]{1,5}", fullmatch=True), min_size=1, max_size=3)
    .map(".".join)
    .filter(lambda server: server[0] != "-" and not server.endswith(".None") and server != "None")
)


@given(NAME.map(Address) | st.tuples(NAME, SERVER).map(lambda parts: Address(*parts)) | NAME.map(lambda topic: Address(topic, fanout=True)))
def test_what_is_shown_is_read_back(address: Address) -> None:
    assert parse_topic(str(address)) == address


@given(NAME.map(Address), NAME | st.just(""), NAME)
def test_what_is_shown_is_read_back_with_its_scope(address: Address, namespace: str, exchange: str) -> None:
    scoped = address._replace(namespace=namespace, exchange=exchange)
    assert parse_address(str(scoped)) == scoped
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("/compute", "exchange is empty"),
        ("a//compute", "exchange is empty"),
        ("/a/compute", "namespace is empty"),
        ("a/b/c/compute", "namespace 'a/b'"),
    ],
)
def test_a_bad_scope_is_refused(text: str, fault: str) -> None:
    with pytest.raises(TopicError, match=fault):
        parse_address(text)
