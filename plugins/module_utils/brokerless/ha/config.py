# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""rpcdaemon's configuration file: an INI file with a section for the daemon, one for each plugin, and one for the policy.

The tables of keys are the dataclasses below: a field's name is the key, its annotation how the value is read, its metadata what it means. The keys
that are marked as the seed's have the meaning that they had in the daemon of this name that Rackspace wrote in 2013.
"""

from __future__ import annotations

import configparser
import dataclasses
import logging
import socket
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from .policy import PolicyError, PolicySettings
from .probes import tcp_port

DEFAULT_CONFIG_FILE = "/etc/rpcdaemon.conf"
FIRST_CONFIG_FILE = "/usr/local/etc/rpcdaemon.conf"
"""Where the seed looked when it was told nothing; it still goes first if it is there."""
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class ConfigError(ValueError):
    """The configuration file can't be read, or something in it is not acceptable; the message names file, section and key."""


def _key(default: Any, meaning: str, *, seed: bool = False, unit: str = "") -> Any:
    # pylint: disable-next=invalid-field-call # what a dataclass' field says is said in one place
    return field(default=default, metadata={"help": meaning, "seed": seed, "unit": unit})


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSettings:
    """Section `[Daemon]`."""

    plugins: tuple[str, ...] = _key((), "The plugins to load, between blanks or commas: L3Agent, DHCPAgent, Dump, or an entry point.", seed=True)
    rpchost: str = _key(
        "", "RabbitMQ: a host, several between commas, or a URL; without it, transport_url of the first conffile, else 127.0.0.1.", seed=True
    )
    pidfile: str = _key("/var/run/rpcdaemon.pid", "Where the process id is kept, and locked, unless in the foreground.", seed=True)
    logfile: str = _key("/var/log/rpcdaemon.log", "Where the log goes, unless in the foreground.", seed=True)
    loglevel: str = _key("INFO", "DEBUG, INFO, WARNING, ERROR or CRITICAL.", seed=True)
    check_interval: float = _key(1.0, "How often it is looked at whether there is something to do.", seed=True, unit="s")
    bus: str = _key(
        "rabbit", "Where heartbeats are heard: rabbit; tap, this host's receiver by /etc/brokerless/brokerless.conf, or tap:FILE, by that file."
    )
    tap_topic: str = _key("q-reports-plugin", "With bus = tap: the topic that agents report to; for agents on `zmq://`, neutron/q-reports-plugin.")
    exchange: str = _key("neutron", "The exchange that Neutron's agents report to: its control_exchange.")
    instance: str = _key("", "This replica's name in logs, journal and metrics; the host's name if empty.")
    cloud: str = _key("", "The entry of clouds.yaml with the credentials for Neutron's API.")
    region: str = _key("", "The region of the cloud, if it has several.")
    dry_run: bool = _key(False, "Whether to watch, judge and plan, and change nothing.")
    state_dir: str = _key("/var/lib/rpcdaemon", "Where the journal of a lone daemon is kept, and what survives a restart.")
    leader: str = _key("rabbit", "Who acts of several replicas: rabbit, the one that holds a token of RabbitMQ's; single, this one; tooz.")
    lease: float = _key(0.0, "How long a leader that is not heard of leads on; 0 for timeout + 10 s. All replicas must agree on it.", unit="s")
    leader_queue_type: str = _key("quorum", "With leader = rabbit: quorum, or classic for a RabbitMQ without quorum queues.")
    coordination_url: str = _key("", "With leader = tooz: tooz's URL, such as redis://192.0.2.1:6379.")
    fence_command: str = _key("", "What makes sure that RPCDAEMON_HOST forwards nothing any more; it ends with 0 if that is so.")
    probe: str = _key(
        "",
        "What tells whether RPCDAEMON_HOST is up, if its agents are in doubt: tcp:PORT, or a command that ends with 0 (up), 1 or 2 (surely off).",
    )
    probe_timeout: float = _key(5.0, "How long a host is given to answer that.", unit="s")
    before_move: str = _key("", "A command that is run before each move; the move is not made unless it ends with 0.")
    after_move: str = _key("", "A command that is run after each move.")
    command_timeout: float = _key(60.0, "How long such a command may take before it is killed.", unit="s")
    pause: float = _key(0.0, "How long at least after the begin of a move the next one begins.", unit="s")
    audit_file: str = _key("", "Where each decision and each change is written as a line of JSON; nowhere if empty.")
    metrics_address: str = _key("127.0.0.1", "The address at which Prometheus is answered.")
    metrics_port: int = _key(0, "The port at which Prometheus is answered; not at all with 0.")

    def __post_init__(self) -> None:
        if self.loglevel.upper() not in LEVELS:
            raise ConfigError(f"loglevel is {self.loglevel!r}; it may be {', '.join(LEVELS)}")
        if self.bus not in {"rabbit", "tap"} and not self.bus.removeprefix("tap:").startswith("/"):
            raise ConfigError(f"bus is {self.bus!r}; it may be rabbit, tap, or tap: and the path of a receiver's configuration file")
        if self.leader not in {"rabbit", "single", "tooz"}:
            raise ConfigError(f"leader is {self.leader!r}; it may be rabbit, single or tooz")
        if self.leader == "tooz" and not self.coordination_url:
            raise ConfigError("leader is tooz, and coordination_url is not set")
        if not self.probe_timeout > 0:
            raise ConfigError(f"probe_timeout is {self.probe_timeout:g}; it must be more than 0")
        try:
            tcp_port(self.probe)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        if not self.check_interval > 0:
            raise ConfigError(f"check_interval is {self.check_interval:g}; it must be more than 0")
        if not 0 <= self.metrics_port < 65536:
            raise ConfigError(f"metrics_port is {self.metrics_port}; it must be from 0 to 65535")

    @property
    def taps(self) -> bool:
        """Whether heartbeats are heard at a receiver."""
        return self.bus != "rabbit"

    @property
    def name(self) -> str:
        """Return this replica's name."""
        return self.instance or socket.gethostname()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPluginSettings:
    """Sections `[L3Agent]` and `[DHCPAgent]`."""

    conffile: str = _key("", "A Neutron configuration file: agent_down_time, credentials and the bus are read from it.", seed=True)
    loglevel: str = _key("INFO", "As in [Daemon], for what is told of this plugin's agents and what they host.", seed=True)
    timeout: float = _key(20.0, "How long a call of Neutron's API may take.", seed=True, unit="s")
    queue_expire: float = _key(60.0, "How long RabbitMQ keeps our queue when we are gone.", seed=True, unit="s")

    def __post_init__(self) -> None:
        for name in ("timeout", "queue_expire"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is {getattr(self, name):g}; it must be more than 0")
        if self.loglevel.upper() not in LEVELS:
            raise ConfigError(f"loglevel is {self.loglevel!r}; it may be {', '.join(LEVELS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpSettings:
    """Section `[Dump]`."""

    loglevel: str = _key("DEBUG", "Messages are told at DEBUG.", seed=True)
    queue: str = _key("neutron", "The exchange to listen to: the seed called it so.", seed=True)
    filter: str = _key("", "A JMESPath expression; messages for which it is true are told, all without one. It can run no code.", seed=True)
    routing_keys: tuple[str, ...] = _key(("q-plugin", "q-reports-plugin"), "What is listened for; # is all that goes over the exchange.")
    record: str = _key("", "A file in which what is told, and all that is judged by, is recorded for `rpcdaemon replay`; nowhere if empty.")
    record_size: int = _key(200, "How large the recording may become; then what is oldest is deleted.", unit="MiB")

    def __post_init__(self) -> None:
        if self.loglevel.upper() not in LEVELS:
            raise ConfigError(f"loglevel is {self.loglevel!r}; it may be {', '.join(LEVELS)}")
        if self.record_size < 1:
            raise ConfigError(f"record_size is {self.record_size}; it must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All sections. `others` are those of plugins that are not ours, as text; `chosen` the keys of `[Policy]` that the file has,
    `unloaded` the sections of our plugins that the file has and does not load."""

    source: str
    daemon: DaemonSettings
    l3_agent: AgentPluginSettings | None
    dhcp_agent: AgentPluginSettings | None
    dump: DumpSettings | None
    chosen: Mapping[str, Any]
    others: Mapping[str, Mapping[str, str]]
    unloaded: tuple[str, ...] = ()

    def policy(self, agent_down_time: float, report_interval: float) -> PolicySettings:
        """Return the policy, for Neutron's intervals (seconds) unless the file has others. Raises `ConfigError`."""
        chosen = dict(self.chosen)
        down = chosen.pop("agent_down_time", agent_down_time)
        interval = chosen.pop("report_interval", min(report_interval, down / 2))
        try:
            policy = PolicySettings.for_intervals(down, interval, **chosen)
        except PolicyError as error:
            raise ConfigError(f"{self.source}, section [Policy]: {error}") from error
        if policy.tick_gap <= self.daemon.check_interval:
            raise ConfigError(
                f"{self.source}: check_interval is {self.daemon.check_interval:g} s, but must be less than tick_gap ({policy.tick_gap:g} s): each "
                "pause would look as if the daemon had stood still"
            )
        return policy

    @property
    def plugin_settings(self) -> AgentPluginSettings:
        """Return the section that says how to get at Neutron: that of the first plugin that has one."""
        return self.l3_agent or self.dhcp_agent or AgentPluginSettings()

    def left_aside(self) -> list[str]:
        """Return what the file says and is not gone by, each with the reason, for the log."""
        found = [f"section [{name}] is not used: plugins does not load {name}" for name in self.unloaded]
        if self.l3_agent and self.dhcp_agent:
            for name in ("conffile", "timeout", "queue_expire"):
                ours, theirs = getattr(self.l3_agent, name), getattr(self.dhcp_agent, name)
                if ours != theirs:
                    found.append(f"{name} of [DHCPAgent], {theirs}, is not used: both plugins go by that of [L3Agent], {ours}")
        if self.daemon.taps and self.dump:
            found.append("queue and routing_keys of [Dump] are not used: the topic that is tapped is, " + self.daemon.tap_topic)
        elif self.dump and (self.l3_agent or self.dhcp_agent) and self.dump.queue != self.daemon.exchange:
            found.append(f"queue of [Dump], {self.dump.queue}, is not used: the exchange that the other plugins listen to is, {self.daemon.exchange}")
        return found


SECTIONS: Mapping[str, type] = {
    "Daemon": DaemonSettings,
    "L3Agent": AgentPluginSettings,
    "DHCPAgent": AgentPluginSettings,
    "Dump": DumpSettings,
    "Policy": PolicySettings,
}
_SHORT = {"l3agent": "L3Agent", "dhcpagent": "DHCPAgent", "dump": "Dump"}


def read_settings(path: str) -> Settings:
    """Read the file. Raises `ConfigError`."""
    parser = configparser.RawConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # keys are told as they are written
    try:
        with Path(path).open(encoding="utf-8") as file:
            parser.read_file(file, path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path}: {error}") from error
    except configparser.Error as error:
        raise ConfigError(f"configuration file {' '.join(str(error).split())}") from error
    if not parser.has_section("Daemon"):
        raise ConfigError(f"{path} has no section [Daemon]")
    sections = {name: dict(parser.items(name)) for name in parser.sections()}
    return _settings_from(path, sections, parser.defaults())


def _settings_from(path: str, sections: Mapping[str, Mapping[str, str]], defaults: Mapping[str, str]) -> Settings:
    daemon = _read_section(DaemonSettings, "Daemon", sections["Daemon"], path, defaults)
    plugins = tuple(dict.fromkeys(_SHORT.get(name.lower(), name) for name in daemon.plugins))
    if not plugins:
        raise ConfigError(f"{path}, section [Daemon]: plugins is empty; there are {', '.join(_SHORT.values())}, and those of entry points")
    daemon = dataclasses.replace(daemon, plugins=plugins)
    strangers = [name for name in sections if name not in SECTIONS and name not in plugins]
    if strangers:
        raise ConfigError(f"{path}: unknown section [{strangers[0]}]; there are {_enumerated(SECTIONS)}, and those of the plugins that are loaded")

    def section(kind: type[S], name: str) -> S | None:
        found = _read_section(kind, name, sections.get(name, defaults), path, defaults)
        return found if name in plugins else None

    return Settings(
        source=path,
        daemon=daemon,
        l3_agent=section(AgentPluginSettings, "L3Agent"),
        dhcp_agent=section(AgentPluginSettings, "DHCPAgent"),
        dump=section(DumpSettings, "Dump"),
        chosen=_values_of(PolicySettings, "Policy", sections.get("Policy", defaults), path, defaults),
        others={name: values for name, values in sections.items() if name not in SECTIONS},
        unloaded=tuple(name for name in _SHORT.values() if name in sections and name not in plugins),
    )


S = TypeVar("S")


def _read_section(kind: type[S], name: str, values: Mapping[str, str], path: str, defaults: Mapping[str, str]) -> S:
    try:
        return kind(**_values_of(kind, name, values, path, defaults))
    except ConfigError as error:
        raise ConfigError(str(error) if str(error).startswith(path) else f"{path}, section [{name}]: {error}") from error


def _values_of(kind: type, name: str, values: Mapping[str, str], path: str, defaults: Mapping[str, str]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    known = {key.name: hints[key.name] for key in dataclasses.fields(kind)}
    unknown = [key for key in values if key not in known and key not in defaults]
    if unknown:
        raise ConfigError(f"{path}, section [{name}]: unknown key {unknown[0]!r}; there are {_enumerated(known)}")
    found: dict[str, Any] = {}
    for key, hint in known.items():
        if key in values:
            try:
                found[key] = _value(hint, values[key].strip())
            except ValueError as error:
                raise ConfigError(f"{path}, section [{name}]: {key} is {values[key]!r}: {error}") from error
    return found


def _enumerated(names: typing.Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _value(kind: Any, text: str) -> Any:
    origin = typing.get_origin(kind)
    if kind is bool:
        states = configparser.RawConfigParser.BOOLEAN_STATES
        if text.lower() not in states:
            raise ValueError("it must be true or false")
        return states[text.lower()]
    if kind in {int, float}:
        return _number(kind, text)
    if origin is tuple:
        return tuple(text.replace(",", " ").split())
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _member(kind, text)
    if origin is not None and issubclass(origin, typing.cast("type", Mapping)):
        return dict(_pairs(typing.get_args(kind)[1], text))
    return text


def _number(kind: type, text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ValueError("it must be a whole number" if kind is int else "it must be a number") from None


def _member(kind: type[Enum], text: str) -> Enum:
    try:
        return kind(text.lower())
    except ValueError:
        raise ValueError(f"it may be {', '.join(str(member.value) for member in kind)}") from None


def _pairs(kind: type, text: str) -> Iterator[tuple[str, Any]]:
    for pair in text.replace(",", " ").split():
        name, colon, value = pair.rpartition(":")
        if not colon or not name:
            raise ValueError("it must be pairs of a name and a value, with a colon between them")
        yield name, _value(kind, value)


def level_of(name: str) -> int:
    """Return the number of a log level."""
    number: int = getattr(logging, name.upper())
    return number
