# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Exceptions that travel: what is told about one that a method raised, and how the caller gets it back.

At the caller it is an instance of a class named `<Class>_Remote` that derives from the original, if the option
`allowed_rpc_exception_modules` lists the module that defines it, and a `RemoteError` otherwise. No other module is ever imported, only subclasses
of `Exception` are ever built, and what is told has a bounded size.
"""

from __future__ import annotations

import importlib
import logging
import traceback
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import errors
from .errors import RemoteError
from .json_values import cut, plain_or_text

log = logging.getLogger(__name__)

REMOTE_SUFFIX = "_Remote"
OWN_ERRORS = "brokerless.rpc.errors"
"""How the module of our own errors is named in messages, under whatever name it was imported."""

MAX_NAME = 255
MAX_MESSAGE = 8 * 1024
MAX_TRACEBACK = 32 * 1024
MAX_ARGUMENT = 4 * 1024
MAX_ARGUMENTS = 32
"""How many arguments of an exception are told; all of the MAX_ values except this one are in characters."""

_ORIGINAL = "_brokerless_original_class"

_remote_classes: dict[type[Exception], type[Exception]] = {}


@dataclass(frozen=True, slots=True)
class Failure:
    """What is told about an exception: its class and the module of it, its text, the arguments it was made with, and its traceback."""

    class_name: str
    module: str
    message: str
    arguments: list[Any] = field(default_factory=list)
    keywords: dict[str, Any] = field(default_factory=dict)
    traceback: str = ""

    def bounded(self) -> Failure:
        """Return the failure with each part cut to its limit."""
        return Failure(
            class_name=cut(self.class_name, MAX_NAME),
            module=cut(self.module, MAX_NAME),
            message=cut(self.message, MAX_MESSAGE),
            arguments=plain_or_text(self.arguments[:MAX_ARGUMENTS], MAX_ARGUMENT),
            keywords=_bounded_keywords(self.keywords),
            traceback=cut(self.traceback, MAX_TRACEBACK),
        )


def _bounded_keywords(keywords: Mapping[Any, Any]) -> dict[str, Any]:
    named = [(name, value) for name, value in keywords.items() if isinstance(name, str) and len(name) <= MAX_NAME][:MAX_ARGUMENTS]
    values = plain_or_text((value for _name, value in named), MAX_ARGUMENT)
    return {name: value for (name, _value), value in zip(named, values, strict=True)}


def failure_of(error: BaseException) -> Failure:
    """Return what is told to the caller about `error`.

    An exception that came from further away keeps the class that it had there. Keyword arguments are told if the exception keeps them in a
    dictionary `kwargs`, as Nova's do.
    """
    keywords = getattr(error, "kwargs", None)
    return Failure(
        class_name=_class_name(error),
        module=_module(error),
        message=_text_of(error),
        arguments=list(error.args),
        keywords=dict(keywords) if isinstance(keywords, Mapping) else {},
        traceback="".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-100)),
    ).bounded()


def _original_class(error: BaseException) -> type[BaseException]:
    original: type[BaseException] = vars(type(error)).get(_ORIGINAL, type(error))
    return original


def _class_name(error: BaseException) -> str:
    return error.exc_type or "" if isinstance(error, RemoteError) else _original_class(error).__name__


def _module(error: BaseException) -> str:
    if isinstance(error, RemoteError):
        return ""
    module = _original_class(error).__module__
    return OWN_ERRORS if module == errors.__name__ else module


def _text_of(error: BaseException) -> str:
    if isinstance(error, RemoteError):
        return error.value or ""
    remote_message = getattr(error, "remote_message", None)
    if isinstance(remote_message, str):
        return remote_message
    try:
        return str(error)
    except Exception:  # noqa: BLE001 (a class of the service's own: the caller must get an answer whatever its __str__ does)
        return f"<{type(error).__name__} whose text can't be made>"


def exception_of(failure: Failure, allowed_modules: Collection[str]) -> Exception:
    """Return the exception to raise at the caller.

    It has the attributes `remote_message` and `remote_traceback` if it is built from its own class; its text is both. It is a `RemoteError` if
    the module is not in `allowed_modules`, can't be imported, has no such exception, or the class can't be built from the arguments.
    """
    failure = failure.bounded()
    kind = _exception_class(failure, allowed_modules)
    if kind is not None and issubclass(kind, RemoteError):
        kind = None
    if kind is not None:
        try:
            return _build(kind, failure)
        except Exception as error:  # noqa: BLE001 (the class's own code runs here; whatever it does, the caller must learn of the failure)
            log.debug("Could not build %s.%s from its arguments: %r", failure.module, failure.class_name, error)
    return RemoteError(failure.class_name, failure.message, failure.traceback)


def _exception_class(failure: Failure, allowed_modules: Collection[str]) -> type[Exception] | None:
    if failure.module not in allowed_modules:
        return None
    try:
        module = errors if failure.module == OWN_ERRORS else importlib.import_module(failure.module)
    except Exception as error:  # noqa: BLE001 (an allowed module may not be installed here, or break while it is imported)
        log.debug("Could not import %s, which is in allowed_rpc_exception_modules: %r", failure.module, error)
        return None
    kind = vars(module).get(failure.class_name)
    return kind if isinstance(kind, type) and issubclass(kind, Exception) else None


def _build(kind: type[Exception], failure: Failure) -> Exception:
    remote_class = _remote_classes.get(kind)
    if remote_class is None:
        remote_class = _remote_classes.setdefault(kind, _derive(kind))
    error = remote_class(*failure.arguments, **failure.keywords)
    vars(error)["remote_message"] = failure.message
    vars(error)["remote_traceback"] = failure.traceback
    return error


def _derive(kind: type[Exception]) -> type[Exception]:
    return type(kind.__name__ + REMOTE_SUFFIX, (kind,), {"__str__": _remote_text, "__module__": kind.__module__, _ORIGINAL: kind})


def _remote_text(error: Exception) -> str:
    return f"{vars(error).get('remote_message', '')}\n{vars(error).get('remote_traceback', '')}".rstrip()
