# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""rpcdaemon's plugins: ours, and others' by the entry-point group `rpcdaemon.plugins`.

A plugin says which types of agents it wants to be cared for, and may listen to all that passes on the bus. A class of one's own is registered under
the name that `plugins` in section [Daemon] has, and its section of the configuration file has the same name:

    [project.entry-points."rpcdaemon.plugins"]
    Weather = "my_package.weather:Weather"
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol

from ..soft_import import soft_import
from .bus.base import HeardReport, Overheard
from .bus.recording import Recorder
from .config import ConfigError, Settings, level_of
from .snapshot import DHCP, L3

if TYPE_CHECKING:
    import jmespath
    from jmespath import exceptions as jmespath_exceptions
else:
    jmespath = soft_import("jmespath", "jmespath")
    jmespath_exceptions = soft_import("jmespath.exceptions", "jmespath")

GROUP = "rpcdaemon.plugins"


class Plugin(Protocol):
    """What a plugin has. It is made with its section of the configuration file, a mapping of texts."""

    manages: frozenset[str]
    """The types of agents, as Neutron calls them, whose routers or networks are moved when one dies."""
    overhears: bool
    """Whether `overheard` wants every message, not heartbeats only."""

    def overheard(self, event: Overheard) -> None:
        """A message passed on the bus."""


class AgentPlugin:
    """L3Agent or DHCPAgent: what they do is the daemon's own work."""

    overhears = False

    def __init__(self, agent_type: str) -> None:
        """Care for agents of the type."""
        self.manages = frozenset({agent_type})

    def overheard(self, event: Overheard) -> None:
        """Nothing is done with it: the daemon hears it by itself."""


class Dump:
    """Tells what passes on the bus, as JSON, at log level DEBUG, and records it."""

    manages: frozenset[str] = frozenset()
    overhears = True

    def __init__(self, expression: str, level: str, recorder: Recorder | None = None) -> None:
        """Tell those messages for which `expression`, in JMESPath, is true. Raises `ConfigError` for one that is none."""
        self._recorder = recorder
        self._log = logging.getLogger("rpcdaemon.dump")
        self._log.setLevel(level_of(level))
        try:
            self._expression = jmespath.compile(expression) if expression else None
            if self._expression is not None:
                with contextlib.suppress(jmespath_exceptions.JMESPathTypeError):  # an empty message lacks what it asks for
                    self._expression.search({})
        except jmespath_exceptions.JMESPathError as error:
            raise ConfigError(f"section [Dump]: filter {expression!r} is no JMESPath expression: {' '.join(str(error).split())}") from error

    def overheard(self, event: Overheard) -> None:
        """Tell the message if it is wanted. Heartbeats are in the recording already: they are judged by."""
        records = self._recorder is not None and not isinstance(event, HeardReport)
        tells = self._log.isEnabledFor(logging.DEBUG)
        if not (records or tells):
            return
        told = {"exchange": event.exchange, "routing_key": event.routing_key, **event.message}
        try:
            if self._expression is not None and not self._expression.search(told):
                return
        except jmespath_exceptions.JMESPathError:
            return  # the filter asks for something that this message does not have
        if records and self._recorder is not None:
            self._recorder.record(event)
        if tells:
            self._log.debug("%s on %s, routing key %s:\n%s", event.method or "a message", event.exchange, event.routing_key, pretty(told))


def pretty(message: Mapping[str, object]) -> str:
    """Return a message as people read it."""
    return json.dumps(message, indent=2, sort_keys=True, default=str)


def load_plugins(settings: Settings, recorder: Recorder | None = None) -> list[Plugin]:
    """Return the plugins that the configuration file asks for. Raises `ConfigError` that names the one that is unknown or can't be made.

    Dump puts into the recording what it tells.
    """
    found: list[Plugin] = []
    for name in settings.daemon.plugins:
        if name == "L3Agent":
            found.append(AgentPlugin(L3))
        elif name == "DHCPAgent":
            found.append(AgentPlugin(DHCP))
        elif name == "Dump" and settings.dump is not None:
            found.append(Dump(settings.dump.filter, settings.dump.loglevel, recorder))
        else:
            found.append(_others(name, settings.others.get(name, {}), settings.source))
    return found


def _others(name: str, section: Mapping[str, str], source: str) -> Plugin:
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        known = ", ".join(["L3Agent", "DHCPAgent", "Dump", *sorted(points)])
        raise ConfigError(f"{source}, section [Daemon]: there is no plugin {name!r}; there are {known}, and entry points of {GROUP}")
    try:
        plugin: Plugin = points[name].load()(section)
    except Exception as error:
        raise ConfigError(f"{source}: plugin {name} ({points[name].value}) can't be made: {type(error).__name__}: {error}") from error
    return plugin
