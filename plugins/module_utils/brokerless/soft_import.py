# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Import third-party libraries softly, so that a module can load the runtime on a target that has none of them.

Every file of the runtime imports a library outside the standard library this way, and uses it inside functions only:

    if TYPE_CHECKING:
        import zmq
    else:
        zmq = soft_import("zmq", "pyzmq")
"""

from __future__ import annotations

import importlib
from typing import Any, NoReturn


class MissingDependency(ImportError):
    """A library that the runtime needs is not installed; the message names it."""


class _MissingModule:
    """Stands in for a module that could not be imported; its first use raises `MissingDependency`."""

    def __init__(self, module: str, distribution: str, cause: ImportError) -> None:
        self._module = module
        self._distribution = distribution
        self._cause = cause

    def __getattr__(self, attribute: str) -> NoReturn:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise MissingDependency(
            f"the Python library {self._distribution!r} (module {self._module!r}) is needed and can't be imported: {self._cause}",
            name=self._module,
        ) from self._cause


def soft_import(module: str, distribution: str) -> Any:
    """Return the module named `module` (dotted names give the innermost one), or a stand-in for it.

    `distribution` is the name under which the library is installed, for the error message. The stand-in raises
    `MissingDependency` when an attribute of it is first used.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        return _MissingModule(module, distribution, error)


def soft_base(library: Any, name: str) -> type:
    """Return a class of a library that came by `soft_import`, to derive from.

    If the library is missing, a stand-in for it, whose instances can't be made: that raises `MissingDependency`.
    """
    if not isinstance(library, _MissingModule):
        found: type = getattr(library, name)
        return found

    def refuse(_self: object, *_arguments: object, **_keywords: object) -> None:
        getattr(library, name)

    return type(name, (), {"__init__": refuse})
