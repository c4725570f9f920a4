# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""How oslo.messaging's names become addresses of ours: namespace, exchange, topic and server each travel apart, so no two targets share one.

| oslo.messaging | address |
|---|---|
| virtual host of the transport URL | namespace; empty without one |
| exchange of the target, or else `control_exchange` | exchange |
| topic (of a notification with its priority: `notifications.info`) | topic, with its dots: topic `a.b` is not server `b` of topic `a` |
| server | server |
| fanout | fanout of the topic, in this exchange only |
| pool of notification listeners | bare topic in exchange `EXCHANGE+POOL` |

A character that our names don't have is written as `%` and two hexadecimal digits for each byte of its UTF-8, and so are `%` and `+` themselves: what
is written differently is different.
"""

from __future__ import annotations

import functools
import re

from ..topics import Address

POOL_MARK = "+"
_FOREIGN = re.compile(r"[^A-Za-z0-9_.@:#-]")
_FIRST = re.compile(r"^[.@:#-]")
_SECOND_DOT = re.compile(r"(?<=\.)\.")


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match.group().encode("utf-8", "surrogatepass"))


def written(name: str) -> str:
    """Return `name` in characters that a part of an address may have; different names give different texts."""
    text = _SECOND_DOT.sub(_escape, _FOREIGN.sub(_escape, name))
    return _FIRST.sub(_escape, text)


class Addressing:
    """The addresses in one namespace."""

    def __init__(self, virtual_host: str | None, default_exchange: str) -> None:
        """`default_exchange` is that of targets which name none. Raises `TopicError` for a virtual host that is too long."""
        self._namespace = Address("any", namespace=written(virtual_host or "")).checked().namespace
        self._default_exchange = default_exchange
        self._address = functools.lru_cache(maxsize=4096)(self._made)

    def _made(self, exchange: str, topic: str, server: str, fanout: bool, pool: str) -> Address:
        place = written(exchange) + (POOL_MARK + written(pool) if pool else "")
        return Address(written(topic), written(server), fanout, place, self._namespace).checked()

    def of_topic(self, exchange: str | None, topic: str, pool: str = "") -> Address:
        """Return the address of any one consumer of the topic, or of any one in the pool. Raises `TopicError` for a name that is too long."""
        return self._address(exchange or self._default_exchange, topic, "", False, pool)

    def of_server(self, exchange: str | None, topic: str, server: str) -> Address:
        """Return the address of a server of the topic. Raises as `of_topic`."""
        return self._address(exchange or self._default_exchange, topic, server, False, "")

    def of_fanout(self, exchange: str | None, topic: str) -> Address:
        """Return the address of all consumers of the topic. Raises as `of_topic`."""
        return self._address(exchange or self._default_exchange, topic, "", True, "")


def pools_of(address: Address, exchanges: frozenset[str]) -> list[Address]:
    """Return the addresses of the pools that listen to a topic, of all the exchanges in which it is consumed."""
    return [address._replace(exchange=exchange) for exchange in sorted(exchanges) if exchange.startswith(address.exchange + POOL_MARK)]
