# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The bodies of requests and replies: JSON, in format 1.

A request, UTF-8 encoded (ours keep to ASCII):

    {"format": 1, "context": {…}, "message": {"method": "echo", "args": {"value": 42}, "version": "1.0", "namespace": "…"}}

`context` is what the caller says about itself. `args`, `version` and `namespace` may be absent and are then {}, "1.0" and null. A notification's
message has no `method`; any object will do. Keys that a reader does not know are ignored, so that a later version can add some; what changes the
meaning gets another format number.

A reply has either all the values or what went wrong, never both:

    {"format": 1, "values": [1, 2, 3]}
    {"format": 1, "failure": {"class": "ValueError", "module": "builtins", "message": "…", "arguments": […], "keywords": {…}, "traceback": "…"}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from .context import context_values
from .errors import MalformedBody, UnsupportedRpcEnvelopeVersion
from .json_values import plain, plain_keys
from .remote_exceptions import Failure

FORMAT = 1
DEFAULT_VERSION = "1.0"
"""The version of the API that a message without one asks for."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as a consumer sees it. `method` is None for a notification; `message` is all that was sent."""

    context: dict[str, Any]
    message: dict[str, Any]
    method: str | None
    args: dict[str, Any]
    version: str
    namespace: str | None


def encode_request(context: object, message: Mapping[str, Any], method_needed: bool = True) -> bytes:
    """Return the body of a request.

    `context` is None, a mapping or an object with `to_dict()`; `message` is a mapping with the key `method` (unless not `method_needed`) and
    perhaps `args`, `version` and `namespace`. Raises `Unserialisable`, a `TypeError`, that names the path of a value which JSON can't carry, and
    `TypeError` or `ValueError` for a message that is not built like that.
    """
    if not isinstance(message, Mapping):
        raise TypeError(f"message must be a mapping with the key 'method', not a {type(message).__name__}")
    method = message.get("method")
    if method_needed and not (isinstance(method, str) and method):
        raise ValueError("message has no 'method' to call")
    args = message.get("args")
    if method is not None and args is not None and not isinstance(args, Mapping):
        raise TypeError(f"args of method {method!r} must be a mapping of names to values, not a {type(args).__name__}")
    told = {"format": FORMAT, "context": plain(context_values(context), "context")}
    return _encode({**told, "message": {key: plain(value, key) for key, value in plain_keys(message, "message")}})


def encode_values(values: Sequence[object]) -> bytes:
    """Return the body of a reply with all the values of a call. Raises `Unserialisable`, naming the path of the culprit."""
    return _encode({"format": FORMAT, "values": [plain(value, f"value {index}") for index, value in enumerate(values)]})


def encode_failure(failure: Failure) -> bytes:
    """Return the body of a reply that says what the method raised."""
    bounded = failure.bounded()
    told = {
        "class": bounded.class_name,
        "module": bounded.module,
        "message": bounded.message,
        "arguments": bounded.arguments,
        "keywords": bounded.keywords,
        "traceback": bounded.traceback,
    }
    return _encode({"format": FORMAT, "failure": told})


def decode_request(body: bytes) -> Request:
    """Read a request's body. Raises `MalformedBody`, or `UnsupportedRpcEnvelopeVersion` for another format, whatever the bytes are."""
    fields = _decode(body, "request")
    context = _member(fields, "context", dict, "request", {})
    message = _member(fields, "message", dict, "request")
    method = _member(message, "method", str, "message", None)
    if method is None:
        return Request(context, message, None, {}, DEFAULT_VERSION, None)
    return Request(
        context=context,
        message=message,
        method=method,
        args=_member(message, "args", dict, "message", {}),
        version=_member(message, "version", str, "message", DEFAULT_VERSION),
        namespace=_member(message, "namespace", str, "message", None),
    )


def decode_reply(body: bytes) -> list[Any] | Failure:
    """Read a reply's body: all the values, or what went wrong. Raises as `decode_request` does."""
    fields = _decode(body, "reply")
    told = _member(fields, "failure", dict, "reply", None)
    if told is None:
        values: list[Any] = _member(fields, "values", list, "reply")
        return values
    return Failure(
        class_name=_member(told, "class", str, "failure"),
        module=_member(told, "module", str, "failure", ""),
        message=_member(told, "message", str, "failure", ""),
        arguments=_member(told, "arguments", list, "failure", []),
        keywords=_member(told, "keywords", dict, "failure", {}),
        traceback=_member(told, "traceback", str, "failure", ""),
    ).bounded()


_NEEDED = object()


def _member(fields: Mapping[str, Any], name: str, kind: type, where: str, default: Any = _NEEDED) -> Any:
    """Return a member of an object, or the default if it is absent or null."""
    value = fields.get(name)
    if value is None and default is not _NEEDED:
        return default
    if not isinstance(value, kind):
        found = "missing" if value is None else f"a {type(value).__name__}"
        raise MalformedBody(f"{name!r} of the {where} is {found}; it must be a {kind.__name__}")
    return value


def _encode(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), allow_nan=False).encode("ascii")


def _decode(body: bytes, what: str) -> dict[str, Any]:
    try:
        fields = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise MalformedBody(f"the {what}'s body is nested too deeply") from error
    except ValueError as error:
        raise MalformedBody(f"the {what}'s body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise MalformedBody(f"the {what}'s body is a {type(fields).__name__}; it must be an object")
    if fields.get("format") != FORMAT:
        found = str(fields.get("format"))[:40]
        raise UnsupportedRpcEnvelopeVersion(f"the {what}'s body is of format {found!r}; this side knows format {FORMAT} only")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
