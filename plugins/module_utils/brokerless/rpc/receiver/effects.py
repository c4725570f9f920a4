# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What the receiver's core wants done, in the order in which it is to be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ..protocol import Message


@dataclass(frozen=True, slots=True)
class ToClient:
    """Send to a service on this host. `client` is the key under which it was heard."""

    client: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class ToLink:
    """Answer another host's receiver on the connection that it made. `link` is the key under which it was heard."""

    link: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class ToPeer:
    """Send to another host's receiver on the connection that we made to `host`."""

    host: str
    message: Message


@dataclass(frozen=True, slots=True)
class Dial:
    """Look up `host` and connect to its receiver. One attempt, which ends with the core's `peer_connected` or `peer_lost`."""

    host: str


@dataclass(frozen=True, slots=True)
class HangUp:
    """Close the connection to `host`, and drop what it has not sent yet. Nothing more is heard from it."""

    host: str


@dataclass(frozen=True, slots=True)
class Say:
    """Write a line to the log; `level` is one of the standard library's."""

    level: int
    text: str


Effect: TypeAlias = ToClient | ToLink | ToPeer | Dial | HangUp | Say
