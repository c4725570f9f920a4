# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""MatchMakers, and how one is found by its name."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect

from .base import MatchMaker, MatchMakerError, Settings
from .broker import MatchMakerBroker, MatchMakerTopicScheduler
from .localhost import MatchMakerLocalhost
from .mesh import MatchMakerMesh
from .redis import MatchMakerRedis
from .ring import MatchMakerFanoutRing, MatchMakerRing
from .stub import MatchMakerStub

ENTRY_POINTS = "brokerless.matchmakers"
"""The entry-point group in which a distribution offers MatchMakers by short names."""

_BUILT_IN: dict[str, type[MatchMaker]] = {
    matchmaker.name: matchmaker
    for matchmaker in (
        MatchMakerBroker,
        MatchMakerFanoutRing,
        MatchMakerLocalhost,
        MatchMakerMesh,
        MatchMakerRedis,
        MatchMakerRing,
        MatchMakerStub,
        MatchMakerTopicScheduler,
    )
}
_BY_CLASS_NAME = {matchmaker.__name__: matchmaker for matchmaker in _BUILT_IN.values()} | {"MatchMakerPassthrough": MatchMakerStub}


def load_matchmaker(name: str, settings: Settings) -> MatchMaker:
    """Return the MatchMaker that `rpc_zmq_matchmaker` names.

    `name` is a short name (`ring`, or one that an installed distribution offers as an entry point in `brokerless.matchmakers`), a class
    name of the deployment guide, alone or behind the path of the module in which Nova had it, or `package.module.Class` for one of the user's own.
    Raises `MatchMakerError` or another `ValueError` that names the MatchMaker or its source, and the fault.
    """
    found = _find_class(name)
    try:
        return found(settings)
    except ValueError:
        raise
    except Exception as error:
        raise MatchMakerError(f"rpc_zmq_matchmaker {name!r} can't be made: {type(error).__name__}: {error}") from error


def _find_class(name: str) -> type[MatchMaker]:
    module_path, _dot, last = name.rpartition(".")
    if not module_path or _is_nova_path(module_path):
        built_in = _BY_CLASS_NAME.get(last) or (None if module_path else _BUILT_IN.get(last))
        if built_in is not None:
            return built_in
    if not module_path:
        for entry_point in importlib.metadata.entry_points(group=ENTRY_POINTS, name=last):
            try:
                found = entry_point.load()
            except Exception as error:
                raise MatchMakerError(
                    f"rpc_zmq_matchmaker {name!r}: its entry point {entry_point.value} can't be loaded: {type(error).__name__}: {error}"
                ) from error
            return _checked(name, found)
        raise MatchMakerError(
            f"rpc_zmq_matchmaker {name!r} is not known; there are {', '.join(known_names())}, and package.module.Class for one of your own"
        )
    try:
        found = getattr(importlib.import_module(module_path), last)
    except Exception as error:
        raise MatchMakerError(f"rpc_zmq_matchmaker {name!r} can't be loaded: {type(error).__name__}: {error}") from error
    return _checked(name, found)


def _is_nova_path(module_path: str) -> bool:
    parts = module_path.split(".")
    return parts[-1] in ("matchmaker", "matchmaker_redis", "matchmaker_ring", "impl_zmq") and "rpc" in parts and parts[0] != "brokerless"


def _checked(name: str, found: object) -> type[MatchMaker]:
    if not isinstance(found, type) or not issubclass(found, MatchMaker):
        raise MatchMakerError(f"rpc_zmq_matchmaker {name!r} is not a class that derives from brokerless.rpc.matchmaker.base.MatchMaker")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise MatchMakerError(f"rpc_zmq_matchmaker {name!r} is not complete; it lacks {missing}")
    if not isinstance(getattr(found, "name", None), str):
        raise MatchMakerError(f"rpc_zmq_matchmaker {name!r} is not complete; it lacks a name")
    return found


def known_names() -> list[str]:
    """Return the short names that `rpc_zmq_matchmaker` accepts here."""
    return sorted({*_BUILT_IN, *importlib.metadata.entry_points(group=ENTRY_POINTS).names})
