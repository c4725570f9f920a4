# Copyright: Contributors to brokerless.openstack
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `ring`: topics and their groups in, topics and their hosts out."""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Mapping, Sequence

from ansible.errors import AnsibleError, AnsibleFilterError
from ansible_collections.brokerless.openstack.plugins.module_utils._ring_from_inventory import (
    NAME_VARIABLE,
    InventoryError,
    Naming,
    joined,
    members_of_topics,
    ring_from_inventory,
)


def ring(
    topics: Mapping[str, t.Any],
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, t.Any]] | None = None,
    names: str = "short",
    name_variable: str = NAME_VARIABLE,
) -> dict[str, list[str]]:
    """Return the hosts of each topic. Raises `AnsibleFilterError`, naming the topic, the group or the host."""
    if not isinstance(groups, Mapping):
        raise AnsibleFilterError(f"brokerless.openstack.ring: groups must be a mapping of groups to their hosts, not {type(groups).__name__}")
    if names == "variable" and hostvars is None:
        raise AnsibleFilterError("brokerless.openstack.ring: names='variable' needs hostvars=hostvars")
    try:
        naming = Naming(names=names, variable=name_variable, hostvars=hostvars or {}, evaluation_error=AnsibleError)
        result = ring_from_inventory(joined(members_of_topics(topics), {}), groups, naming)
    except InventoryError as error:
        raise AnsibleFilterError(f"brokerless.openstack.ring: {error}") from error
    return {topic: list(hosts) for topic, hosts in result.topics.items()}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        """Return the filters by name."""
        return {"ring": ring}
