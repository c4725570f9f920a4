# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""How an operator may write where the brokers are."""

from __future__ import annotations

import pytest
from brokerless.ha.broker_urls import broker_urls, shown
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils.url import parse_url


@pytest.mark.parametrize(
    ("written", "urls"),
    [
        ("127.0.0.1", ["amqp://guest:guest@127.0.0.1:5672/%2F"]),
        ("rabbit1:5673", ["amqp://guest:guest@rabbit1:5673/%2F"]),
        ("[::1]:5672, [::2]", ["amqp://guest:guest@[::1]:5672/%2F", "amqp://guest:guest@[::2]:5672/%2F"]),
        ("rabbit1 rabbit2;rabbit1", ["amqp://guest:guest@rabbit1:5672/%2F", "amqp://guest:guest@rabbit2:5672/%2F"]),
        ("amqp://u:p@h//", ["amqp://u:p@h:5672/%2F"]),
        ("amqp://u:p@h/%2F,amqps://u:p@i/cloud", ["amqp://u:p@h:5672/%2F", "amqps://u:p@i:5671/cloud"]),
        ("rabbit://u:p%40%2F@h1:5672,v:w@h2:5673/cloud", ["amqp://u:p%40%2F@h1:5672/cloud", "amqp://v:w@h2:5673/cloud"]),
        ("rabbit://u:p@h1,h2:1/", ["amqp://u:p@h1:5672/%2F", "amqp://u:p@h2:1/%2F"]),
        ("amqps://u:p@h/?ssl_ca_certs=/etc/ca.pem", ["amqps://u:p@h:5671/%2F?ssl_ca_certs=/etc/ca.pem"]),
        ("u:p:q@h", ["amqp://u:p%3Aq@h:5672/%2F"]),
    ],
)
def test_what_is_written_is_understood(written: str, urls: list[str]) -> None:
    assert list(broker_urls(written)) == urls


def test_kombu_reads_the_same() -> None:
    parts = parse_url(broker_urls("amqps://u%3A:p%40%2F@[::1]/a%2Fb?ssl_ca_certs=/etc/ca.pem&ssl_check_hostname=false")[0])
    assert parts == {
        "transport": "amqps",
        "hostname": "::1",
        "port": 5671,
        "userid": "u:",
        "password": "p@/",
        "virtual_host": "a/b",
        "ssl": {"ssl_ca_certs": "/etc/ca.pem", "ssl_check_hostname": False},
    }


@pytest.mark.parametrize("written", ["", " ,; ", "redis://secret@h", "amqp://u:secret@", "amqp://u:secret@h:port", "a b!secret@", "h:123456"])
def test_what_is_not_understood_is_named_without_its_password(written: str) -> None:
    with pytest.raises(ValueError, match="RabbitMQ") as raised:
        broker_urls(written)
    assert "secret" not in str(raised.value)


def test_no_password_is_shown() -> None:
    (url,) = broker_urls("amqp://user:secret@host:1234/vhost")
    assert shown(url) == "host:1234"
    assert shown("?") == "an unknown host"


@given(st.text(max_size=60))
def test_any_text_gives_urls_or_a_value_error(written: str) -> None:
    try:
        urls = broker_urls(written)
    except ValueError:
        return
    assert all(parse_url(url)["hostname"] and shown(url) for url in urls)
