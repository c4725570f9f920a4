# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The bodies of the driver's messages: JSON, written as oslo.serialization writes it.

A request is one of format 1 (`json_bodies`), so that whoever reads those reads these; a call that is monitored says so in `monitor`:

    {"format": 1, "context": {…}, "message": {"method": "…", "args": {…}, …}, "monitor": 60}

A reply has what the method returned, or the remote exception as oslo.messaging writes it into a text:

    {"format": 1, "result": …}
    {"format": 1, "failure": "…"}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...soft_import import soft_import

if TYPE_CHECKING:
    from oslo_serialization import jsonutils
else:
    jsonutils = soft_import("oslo_serialization.jsonutils", "oslo.messaging")

FORMAT = 1


class NotOurs(ValueError):
    """Bytes that are not a body of the driver's; the text says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was sent. `monitor` is how many seconds the caller waits for a sign of life, None if it does not ask for any."""

    context: dict[str, Any]
    message: dict[str, Any]
    monitor: float | None


@dataclass(frozen=True, slots=True)
class Reply:
    """What a method returned, or the `failure` that it ended with."""

    result: Any
    failure: str | None


def encode_request(context: Any, message: Mapping[str, Any], monitor: float | None = None) -> bytes:
    """Return the body of a request. `context` is a mapping or has `to_dict()`. Raises `TypeError` or `ValueError` for what JSON can't carry."""
    told = dict(context) if isinstance(context, Mapping) else context.to_dict()
    fields = {"format": FORMAT, "context": told, "message": message}
    return _encode(fields if monitor is None else fields | {"monitor": monitor})


def decode_request(body: bytes) -> Request:
    """Read a request's body. Raises `NotOurs`, whatever the bytes are."""
    fields = _decode(body)
    context, message, monitor = fields.get("context"), fields.get("message"), fields.get("monitor")
    if not isinstance(context, dict) or not isinstance(message, dict):
        raise NotOurs("it has no context or no message")
    if monitor is not None and (isinstance(monitor, bool) or not isinstance(monitor, int | float)):
        raise NotOurs("monitor is not a number of seconds")
    return Request(context, message, monitor)


def encode_result(result: Any) -> bytes:
    """Return the body of a reply with what a method returned. Raises as `encode_request`."""
    return _encode({"format": FORMAT, "result": result})


def encode_failure(failure: str) -> bytes:
    """Return the body of a reply with a remote exception, which oslo.messaging has serialised."""
    return _encode({"format": FORMAT, "failure": failure})


def decode_reply(body: bytes) -> Reply:
    """Read a reply's body. Raises `NotOurs`, whatever the bytes are."""
    fields = _decode(body)
    failure = fields.get("failure")
    if failure is not None and not isinstance(failure, str):
        raise NotOurs("failure is not a text")
    return Reply(fields.get("result"), failure)


def _encode(fields: Mapping[str, Any]) -> bytes:
    body: bytes = jsonutils.dump_as_bytes(fields)
    return body


def _decode(body: bytes) -> dict[str, Any]:
    try:
        fields = jsonutils.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotOurs(f"it is not JSON: {error}") from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise NotOurs(f"it is not an object of format {FORMAT}")
    return fields
