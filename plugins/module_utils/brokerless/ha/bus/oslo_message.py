# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Read what OpenStack services say on RabbitMQ: the envelope of oslo.messaging 2.0, and Neutron's `report_state` in it.

The body of a message is JSON, `{"oslo.version": "2.0", "oslo.message": "<JSON>"}`; the inner text has `method`, `args` and `version` of a call or a
cast, or `event_type` and `payload` of a notification, beside `_context_*`, `_msg_id`, `_reply_q` and others (oslo.messaging,
`_drivers/common.py`). Anybody may write to a bus: nothing here fails with anything but `NotOsloMessage`, whatever the bytes are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .base import HeardReport, Overheard

MAX_BODY_BYTES = 4 << 20
"""Longer bodies are not read: the longest of Neutron, the sync of an agent's routers, stay below."""
MAX_NAME = 255
"""Neutron's own limit for the host, the type and the binary of an agent."""
REPORT = "report_state"


class NotOsloMessage(ValueError):
    """The bytes are no message of oslo.messaging 2.0; the text says why, in words for the operator."""


def decode_oslo_message(body: bytes) -> dict[str, Any]:
    """Return what is said in a message's body: its members that do not begin with an underscore, which are contexts (tokens among them) and ids.

    Raises `NotOsloMessage`.
    """
    if len(body) > MAX_BODY_BYTES:
        raise NotOsloMessage(f"a body of {len(body)} bytes, longer than {MAX_BODY_BYTES}")
    envelope = _object(body, "the body")
    version = envelope.get("oslo.version")
    if not isinstance(version, str) or version.partition(".")[0] != "2":
        raise NotOsloMessage(f"oslo.version is {_shown(version)}, not 2.0")
    inner = envelope.get("oslo.message")
    if not isinstance(inner, str):
        raise NotOsloMessage(f"oslo.message is {_shown(inner)}, not text")
    return {key: value for key, value in _object(inner, "oslo.message").items() if not key.startswith("_")}


def may_be_report(body: bytes) -> bool:
    """Tell cheaply whether it is worth while to decode a body in search of a heartbeat: most of what passes is something else."""
    return REPORT.encode() in body


def heard(heard_at: float, exchange: str, routing_key: str, message: Mapping[str, Any]) -> Overheard:
    """Return a decoded message as an event: a `HeardReport` if it is a `report_state` that says whose, else as it is."""
    report = _report_of(message)
    if report is None:
        return Overheard(heard_at, exchange, routing_key, message)
    state, told_at = report
    host, agent_type, binary = (state.get(key) for key in ("host", "agent_type", "binary"))
    if not (_is_name(host) and _is_name(agent_type)):
        return Overheard(heard_at, exchange, routing_key, message)
    return HeardReport(
        heard_at,
        exchange,
        routing_key,
        message,
        host=str(host),
        agent_type=str(agent_type),
        binary=str(binary) if _is_name(binary) else "",
        agent_state=state,
        told_at=told_at[:MAX_NAME] if isinstance(told_at, str) else "",
    )


def _report_of(message: Mapping[str, Any]) -> tuple[Mapping[str, Any], object] | None:
    """Return what an agent says of itself, and the time it says it is."""
    args = message.get("args")
    if message.get("method") != REPORT or not isinstance(args, Mapping):
        return None
    wrapped = args.get("agent_state")
    state = wrapped.get("agent_state") if isinstance(wrapped, Mapping) else None
    return (state, args.get("time")) if isinstance(state, Mapping) else None


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


def _object(text: bytes | str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text.decode("utf-8") if isinstance(text, bytes) else text)
    except RecursionError as error:
        raise NotOsloMessage(f"{what} is nested too deeply") from error
    except ValueError as error:
        raise NotOsloMessage(f"{what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise NotOsloMessage(f"{what} is {_shown(value)}, not an object")
    return value


def _shown(value: object) -> str:
    """Return a value for an error message; its kind only where it may be long."""
    if isinstance(value, str):
        return repr(value[:40])
    return repr(value) if value is None or isinstance(value, bool | float) else f"of type {type(value).__name__}"
