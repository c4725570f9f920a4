# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What the driver's session wants done, in the order in which it is to be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ..protocol import Copy, Message, Parcel


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send to the receiver."""

    message: Message


@dataclass(frozen=True, slots=True)
class HandOver:
    """Give the message to a consumer of this process; it counts as handed over. Its time is over at `deadline`."""

    parcel: Parcel
    deadline: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to the call of that number."""

    number: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Settled:
    """The message of that number has come to its end: handed over, or not, for the reason in `failure`."""

    number: int
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """What is known of the message of that number, which has not come to its end."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class ConsumptionKnown:
    """The receiver has taken in what is consumed, as of that revision."""

    revision: int


@dataclass(frozen=True, slots=True)
class Reported:
    """The receiver's answer to the question of that token, a JSON object."""

    token: int
    answer: str


@dataclass(frozen=True, slots=True)
class Overheard:
    """A copy of a message that this process listens to came in."""

    copy: Copy


@dataclass(frozen=True, slots=True)
class Say:
    """Write a line to the log; `level` is one of the standard library's."""

    level: int
    text: str


Effect: TypeAlias = Transmit | HandOver | Answer | Settled | Note | ConsumptionKnown | Reported | Overheard | Say
