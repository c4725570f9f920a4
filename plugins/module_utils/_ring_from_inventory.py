# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""How an inventory becomes a ring: one pure function, which the action plugin, the module and the filter share.

This module util is private to the collection.
"""

from __future__ import annotations

import difflib
import ipaddress
import typing as t
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .brokerless.rpc.matchmaker.ring_file import Ring, check_ring_key
from .brokerless.rpc.topics import TopicError, check_host

GUIDE_TOPIC_FLAGS: Mapping[str, str] = {
    "compute_topic": "compute",
    "console_topic": "console",
    "scheduler_topic": "scheduler",
    "volume_topic": "volume",
    "network_topic": "network",
    "vsa_topic": "vsa",
}
"""Nova's topic flags and their defaults, as the deployment guide lists them. The keys of a ring are the flags' values."""

NAMES = ("short", "fqdn", "variable")
"""The ways to name a host of the inventory in the ring."""

NAME_VARIABLE = "rpc_zmq_host"
"""The host variable that says what a host calls itself, unless another one is chosen."""

_MOST_GROUPS_SHOWN = 30


class InventoryError(ValueError):
    """No ring can be made of what was asked for; the message names the topic, the group or the host, and what to do, in one line."""


@dataclass(frozen=True)
class Members:
    """Who serves a topic: inventory groups, and hosts besides."""

    groups: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Naming:
    """What the ring calls a host of the inventory.

    `names` is one of `NAMES`. `variable` is the host variable for `variable`; with the other two a host that has it must be called the
    same in it, as its receiver answers to that name alone. `hostvars` maps an inventory host to its variables; to look one up may evaluate
    a template, which raises `evaluation_error` if that fails.
    """

    names: str = "short"
    variable: str = NAME_VARIABLE
    hostvars: Mapping[str, Mapping[str, t.Any]] = field(default_factory=dict)
    evaluation_error: type[Exception] = InventoryError

    def __post_init__(self) -> None:
        if self.names not in NAMES:
            raise InventoryError(f"names must be one of {', '.join(NAMES)}, not {self.names!r}")

    def name_of(self, host: str) -> str:
        """Return the ring's name of inventory host `host`. Raises `InventoryError`, naming the host."""
        said = self._variable_of(host)
        if self.names == "variable":
            if said is None:
                raise InventoryError(f"host {host!r} does not define the variable {self.variable!r}, which names it in the ring")
            return said
        name = self._short_name_of(host) if self.names == "short" else self._fqdn_of(host)
        if said is not None and said != name:
            raise InventoryError(
                f"host {host!r} would be {name!r} in the ring (names={self.names}), but its variable {self.variable!r} says {said!r}; "
                "correct the variable or set names=variable"
            )
        return name

    def name_of_stranger(self, host: str) -> str:
        """Return the ring's name of `host`, which the inventory does not have. Raises `TopicError`, naming the fault."""
        check_host(host)
        return host.partition(".")[0] if self.names == "short" and not _is_address(host) else host

    def _variable_of(self, host: str) -> str | None:
        value = self._look_up(host, self.variable)
        if value is None:
            return None
        try:
            return check_host(value)
        except TopicError as error:
            raise InventoryError(f"host {host!r}: its variable {self.variable!r} can't name it in the ring: {error}") from error

    def _look_up(self, host: str, variable: str) -> t.Any:
        if host not in self.hostvars:
            return None
        try:
            return self.hostvars[host].get(variable)
        except self.evaluation_error as error:
            reason = " ".join(str(error).split())
            raise InventoryError(f"host {host!r}: its variable {variable!r} can't be evaluated: {reason}") from error

    def _short_name_of(self, host: str) -> str:
        if _is_address(host):
            raise InventoryError(
                f"host {host!r} has an address for its inventory name, which has no short form; "
                f"set names=variable and the variable {self.variable!r} of the host"
            )
        return _checked_name(host, host.partition(".")[0])

    def _fqdn_of(self, host: str) -> str:
        if "." in host and not _is_address(host):
            return _checked_name(host, host)
        fqdn = (self._look_up(host, "ansible_facts") or {}).get("fqdn")
        if isinstance(fqdn, str) and "." in fqdn and not _is_address(fqdn):
            return _checked_name(host, fqdn)
        raise InventoryError(
            f"host {host!r} has no domain in its inventory name and no FQDN among its facts; "
            f"gather its facts, or set names=variable and the variable {self.variable!r} of the host"
        )


def members_of_topics(topics: object) -> dict[str, Members]:
    """Read `{"scheduler": {"groups": ["control"], "hosts": ["o1p409"]}}`. A single string stands for a list of one. Raises `InventoryError`."""
    if not isinstance(topics, Mapping):
        raise InventoryError(f"topics must be a mapping of topics to their groups and hosts, not {type(topics).__name__}")
    return {_checked_topic(topic): _members(f"topic {str(topic)!r}", value) for topic, value in topics.items()}


def members_of_flags(
    flag_groups: Mapping[str, t.Any] | None,
    flag_hosts: Mapping[str, t.Any] | None,
    topic_flags: Mapping[str, t.Any] | None = None,
) -> dict[str, Members]:
    """Return who serves the topics that are the values of Nova's topic flags.

    `topic_flags` holds the flags whose values differ from `GUIDE_TOPIC_FLAGS`, or that the guide does not list. Flags without groups and hosts are
    left out. Raises `InventoryError` for a flag without a value, and for two flags with the same value.
    """
    flag_groups, flag_hosts = flag_groups or {}, flag_hosts or {}
    values = {**GUIDE_TOPIC_FLAGS, **(topic_flags or {})}
    flag_of_topic: dict[str, str] = {}
    result: dict[str, Members] = {}
    for flag in dict.fromkeys([*flag_groups, *flag_hosts]):
        if flag not in values:
            raise InventoryError(
                f"topic flag {flag!r} has groups or hosts but no value; give it one in topic_flags (known: {', '.join(sorted(values))})"
            )
        try:
            topic = check_ring_key(values[flag])
        except TopicError as error:
            raise InventoryError(f"the value of topic flag {flag!r} can't be a key of a ring: {error}") from error
        if topic in flag_of_topic:
            raise InventoryError(f"topic flags {flag_of_topic[topic]!r} and {flag!r} have the same value {topic!r}; list the hosts of both under one")
        flag_of_topic[topic] = flag
        subject = f"topic flag {flag!r}"
        result[topic] = _members(subject, {"groups": flag_groups.get(flag, ()), "hosts": flag_hosts.get(flag, ())})
    return result


def joined(by_topic: Mapping[str, Members], by_flag: Mapping[str, Members]) -> dict[str, Members]:
    """Return both. Raises `InventoryError` if there is nothing, or if a topic is in both."""
    for topic in by_topic:
        if topic in by_flag:
            raise InventoryError(f"topic {topic!r} is listed under topics and is the value of a topic flag too; list it once")
    result = {**by_topic, **by_flag}
    if not result:
        raise InventoryError("no topic is given; a ring needs one at least")
    return result


def ring_from_inventory(members: Mapping[str, Members], groups: Mapping[str, Sequence[str]], naming: Naming) -> Ring:
    """Return the ring in which the hosts of each topic stand in the order of the inventory: those of its groups, then its other hosts.

    `groups` maps each group of the inventory to its hosts. A host in two groups of one topic appears once. A host that is listed by name and that
    the inventory does not have is called what the list says, shortened if `naming` says so. Raises `InventoryError` for groups that don't
    exist or are empty, and for two hosts of one name.
    """
    inventory = {host for hosts in groups.values() for host in hosts}
    first_of_name: dict[str, tuple[str, str]] = {}

    def name(topic: str, host: str) -> str:
        try:
            result = naming.name_of(host) if host in inventory else naming.name_of_stranger(host)
        except (InventoryError, TopicError) as error:
            raise InventoryError(f"topic {topic!r}: {error}") from error
        same, other = first_of_name.setdefault(result.lower(), (result, host))
        # A stranger that is listed under a name of the ring means the host of that name, and is no second host.
        one_is_a_name = same == result and ((host == result and host not in inventory) or (other == result and other not in inventory))
        if other != host and not one_is_a_name:
            raise InventoryError(
                f"hosts {other!r} and {host!r} would both be {result!r} in the ring; rename one, set names=fqdn, "
                f"or set names=variable and the variable {naming.variable!r} of each"
            )
        return result

    return Ring(
        {
            topic: tuple(dict.fromkeys(name(topic, host) for host in [*_hosts_of_groups(topic, who.groups, groups), *who.hosts]))
            for topic, who in members.items()
        }
    )


def _hosts_of_groups(topic: str, wanted: Iterable[str], groups: Mapping[str, Sequence[str]]) -> list[str]:
    hosts: list[str] = []
    for group in wanted:
        if group not in groups:
            raise InventoryError(f"topic {topic!r}: the inventory has no group {group!r}; {_groups_there(group, groups)}")
        if not groups[group]:
            raise InventoryError(f"topic {topic!r}: group {group!r} of the inventory has no hosts")
        hosts += groups[group]
    return hosts


def _groups_there(wanted: str, groups: Mapping[str, Sequence[str]]) -> str:
    names = sorted(groups)
    if not names:
        return "it has no groups at all"
    similar = difflib.get_close_matches(wanted, names, n=1)
    hint = f"did you mean {similar[0]!r}? " if similar else ""
    more = f" and {len(names) - _MOST_GROUPS_SHOWN} more" if len(names) > _MOST_GROUPS_SHOWN else ""
    return f"{hint}it has {', '.join(names[:_MOST_GROUPS_SHOWN])}{more}"


def _members(subject: str, value: object) -> Members:
    if not isinstance(value, Mapping):
        raise InventoryError(f"{subject} must be a mapping with groups, hosts or both, not {type(value).__name__}")
    unknown = [str(key) for key in value if key not in ("groups", "hosts")]
    if unknown:
        raise InventoryError(f"{subject} has {unknown[0]!r}, but may have groups and hosts only")
    members = Members(groups=_names(f"groups of {subject}", value.get("groups")), hosts=_names(f"hosts of {subject}", value.get("hosts")))
    if not members.groups and not members.hosts:
        raise InventoryError(f"{subject} has neither groups nor hosts")
    return members


def _names(subject: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        raise InventoryError(f"{subject} must be a list of names, not {type(value).__name__}")
    for name in value:
        if not isinstance(name, str) or not name:
            raise InventoryError(f"{subject} must be a list of names, but hold {name!r}")
        if value.count(name) > 1:
            raise InventoryError(f"{subject} hold {name!r} more than once")
    return tuple(str(name) for name in value)


def _checked_topic(topic: object) -> str:
    try:
        return check_ring_key(topic)
    except TopicError as error:
        raise InventoryError(str(error)) from error


def _checked_name(host: str, name: str) -> str:
    try:
        return check_host(name)
    except TopicError as error:
        raise InventoryError(f"host {host!r} of the inventory can't be in a ring: {error}") from error


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
