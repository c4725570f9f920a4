# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The context of a request: what the caller says about itself, and the way to answer it more than once."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self


class RpcContext:
    """What a consumer's method gets as its first argument.

    The caller's values are its attributes (`context.user_id`), `to_dict()` returns them all, and it can be passed on to a nested call. A value
    never hides a method of this class: it is then in `to_dict()` only.
    """

    def __init__(self, **values: Any) -> None:
        self.values = values
        self.replies: list[Any] = []
        self.failure: BaseException | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return a context of these values."""
        context = cls()
        context.values = dict(values)
        return context

    def to_dict(self) -> dict[str, Any]:
        """Return the caller's values, as a copy."""
        return copy.deepcopy(self.values)

    def reply(self, reply: Any = None, failure: BaseException | tuple[Any, ...] | None = None, ending: bool = False) -> None:
        """Append `reply` to the values that the caller gets, instead of what the method returns.

        They travel together, when the method has returned. With `failure`, an exception or what `sys.exc_info()` gives, the caller gets that
        exception and no values. `ending` marks the end in other drivers; with no `reply` it adds nothing.
        """
        if failure is not None:
            self.failure = failure[1] if isinstance(failure, tuple) else failure
        elif not (ending and reply is None):
            self.replies.append(reply)

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("values", {})
        if name in values:
            return values[name]
        raise AttributeError(f"the request's context has no {name!r}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(sorted(map(str, self.values)))})"


def context_values(context: object) -> Mapping[str, Any]:
    """Return what is sent of a caller's context: None, a mapping, or an object with `to_dict()` as Nova's.

    Raises `TypeError` for anything else.
    """
    if context is None:
        return {}
    if isinstance(context, Mapping):
        return context
    to_dict = getattr(context, "to_dict", None)
    values = to_dict() if callable(to_dict) else None
    if not isinstance(values, Mapping):
        raise TypeError(f"context must be a mapping or have a to_dict() that returns one, not be a {type(context).__name__}")
    return values
