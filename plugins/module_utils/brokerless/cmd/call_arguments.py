# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""How a method's arguments are written on a command line: `name=value`, the value as JSON if it is JSON, as text otherwise.

`count=3` is a number, `count='"3"'` the text 3, `name=web1` the text web1, `tags='["a"]'` a list, `host=null` no value.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NoReturn


class ArgumentError(ValueError):
    """An argument is not written `name=value`, or given twice; the text says which."""


def parse_arguments(texts: Iterable[str]) -> dict[str, Any]:
    """Return the arguments by name. Raises `ArgumentError`."""
    arguments: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ArgumentError(f"argument {text!r} must be written name=value")
        if name in arguments:
            raise ArgumentError(f"argument {name!r} is given twice")
        arguments[name] = parse_value(value)
    return arguments


def parse_value(text: str) -> Any:
    """Return the value that `text` is in JSON, or the text itself if it is not JSON."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
