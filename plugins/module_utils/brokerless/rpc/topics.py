# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Topics: how the destination of a message is named, written and checked.

A *bare topic* (`compute`) means any one host that serves it, a *directed topic* (`compute.machine1`, split at the first dot,
so that FQDNs and addresses work) one host, and a *fanout* (`fanout~compute`) all of them. On the wire the parts of an address travel apart
from each other, so that a topic with a dot in it is never mistaken for a directed one; only people write them as one text.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

FANOUT_PREFIX = "fanout~"
REPLIES_TOPIC = "zmq_replies"
MAX_NAME_LENGTH = 255
"""The most characters that a topic, a host or any other part of an address may have."""

_NAME = re.compile(r"[A-Za-z0-9_*%][A-Za-z0-9_.@:#%+*-]*")
_TOPIC = re.compile(r"[A-Za-z0-9_%][A-Za-z0-9_.@:#%+-]*")
_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]*")


class TopicError(ValueError):
    """A topic, host or other part of an address is not acceptable; the message names the part and the fault."""


def _check(kind: str, value: object, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str):
        raise TopicError(f"{kind} must be a string, not {type(value).__name__}")
    if not value:
        raise TopicError(f"{kind} is empty")
    if len(value) > MAX_NAME_LENGTH:
        raise TopicError(f"{kind} {value[:40]!r}… has {len(value)} characters; at most {MAX_NAME_LENGTH} are allowed")
    if ".." in value:
        raise TopicError(f"{kind} {value!r} contains '..'")
    if not pattern.fullmatch(value):
        bad = next((character for character in value if not pattern.fullmatch("a" + character)), None)
        if bad is None:
            raise TopicError(f"{kind} {value!r} begins with {value[0]!r}, which is not allowed there")
        raise TopicError(f"{kind} {value!r} contains {bad!r}, which is not allowed in it")
    return value


def check_topic(value: object) -> str:
    """Return `value` if it can name a topic.

    Letters, digits and `_ . @ : # % + -` are allowed, at most 255 of them, beginning with a letter, a digit, `_` or `%`; `..` is not.
    Raises `TopicError`, naming the fault.
    """
    return _check("topic", value, _TOPIC)


def check_host(value: object) -> str:
    """Return `value` if it can name a host: a hostname, an FQDN, or an IPv4 or IPv6 address. Raises `TopicError`."""
    return _check("host", value, _HOST)


def check_server(value: object) -> str:
    """Return `value` if it can name a server, the part of a directed topic behind its first dot. Raises `TopicError`."""
    return _check("server", value, _NAME)


class Address(NamedTuple):
    """Where a message goes, or what a consumer serves.

    `topic` is the base topic. `server` is empty for a bare topic; for a directed one it names the server, which is a host unless the
    MatchMaker knows better. `fanout` means every consumer of the topic. `namespace` and `exchange` keep apart what must not hear
    each other (two cells, two services that use the same topic); both are empty for Nova's own API.
    """

    topic: str
    server: str = ""
    fanout: bool = False
    exchange: str = ""
    namespace: str = ""

    def checked(self) -> Address:
        """Return the address itself if each of its parts is acceptable. Raises `TopicError`, naming the part and the fault."""
        check_topic(self.topic)
        if self.server:
            check_server(self.server)
        if self.fanout and self.server:
            raise TopicError(f"fanout of topic {self.topic!r} can't be directed to server {self.server!r}")
        if self.exchange:
            _check("exchange", self.exchange, _TOPIC)
        if self.namespace:
            _check("namespace", self.namespace, _TOPIC)
        return self

    @property
    def bare(self) -> bool:
        """Whether any one host will do."""
        return not self.server and not self.fanout

    def directed(self, server: str) -> Address:
        """Return this address directed to `server`."""
        return self._replace(server=server, fanout=False)

    def __str__(self) -> str:
        name = f"{FANOUT_PREFIX}{self.topic}" if self.fanout else self.topic
        if self.server:
            name = f"{name}.{self.server}"
        scope = "/".join(part for part in (self.namespace, self.exchange) if part)
        return f"{scope}/{name}" if scope else name


def parse_topic(text: object) -> Address:
    """Read a topic as Nova writes it: `compute`, `compute.machine1` or `fanout~compute`.

    A trailing `.None` (a host that was not known) and a trailing dot are dropped, as the driver of Nova's Essex release did, which makes
    `compute.None` and `compute.` the bare topic `compute`. Raises `TopicError`, naming the fault.
    """
    if not isinstance(text, str):
        raise TopicError(f"topic must be a string, not {type(text).__name__}")
    return _parsed(text)


def parse_address(text: object) -> Address:
    """Read an address as people write it, `[[NAMESPACE/]EXCHANGE/]TOPIC`, the topic as `parse_topic` takes it. Raises `TopicError`."""
    if not isinstance(text, str) or "/" not in text:
        return parse_topic(text)
    scope, _slash, topic = text.rpartition("/")
    namespace, slash, exchange = scope.rpartition("/")
    if slash:
        _check("namespace", namespace, _TOPIC)
    return parse_topic(topic)._replace(namespace=namespace, exchange=_check("exchange", exchange, _TOPIC))


@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> Address:
    if ".." in text:
        raise TopicError(f"topic {text[:MAX_NAME_LENGTH]!r} contains '..'")
    name = text.removesuffix(".None").removesuffix(".")
    fanout = name.startswith(FANOUT_PREFIX)
    if fanout:
        name = name.removeprefix(FANOUT_PREFIX)
    if len(name) > MAX_NAME_LENGTH:
        check_topic(name)
    topic, _dot, server = name.partition(".")
    return Address(topic, server=server, fanout=fanout).checked()
