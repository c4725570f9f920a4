# Copyright: Contributors to brokerless.openstack
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look up groups and names of hosts on the controller, where the inventory is, and let the module of the same name write the file."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleError
from ansible.module_utils.common.validation import check_type_dict
from ansible.plugins.action import ActionBase
from ansible_collections.brokerless.openstack.plugins.module_utils._ring_from_inventory import (
    NAME_VARIABLE,
    InventoryError,
    Naming,
    joined,
    members_of_flags,
    members_of_topics,
    ring_from_inventory,
)


def _dict_argument(arguments: dict[str, t.Any], name: str) -> dict[str, t.Any]:
    try:
        return check_type_dict(arguments.pop(name, None) or {})
    except TypeError as error:
        raise InventoryError(f"{name} must be a mapping: {error}") from error


class ActionModule(ActionBase):
    """Turns `topics`, `flag_groups`, `flag_hosts` and `topic_flags` into topics that list the ring's names of their hosts."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Return the result of the module, or a failure that names the topic, the group or the host."""
        task_vars = task_vars or {}
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        try:
            members = joined(
                members_of_topics(_dict_argument(arguments, "topics")),
                members_of_flags(
                    _dict_argument(arguments, "flag_groups"), _dict_argument(arguments, "flag_hosts"), _dict_argument(arguments, "topic_flags")
                ),
            )
            naming = Naming(
                names=arguments.pop("names", None) or "short",
                variable=arguments.pop("name_variable", None) or NAME_VARIABLE,
                hostvars=task_vars["hostvars"],
                evaluation_error=AnsibleError,
            )
            ring = ring_from_inventory(members, task_vars["groups"], naming)
        except InventoryError as error:
            return {**result, "failed": True, "changed": False, "msg": str(error)}
        arguments["topics"] = {topic: {"hosts": list(hosts)} for topic, hosts in ring.topics.items()}
        result.update(
            self._execute_module(
                module_name="brokerless.openstack.matchmaker_ring", module_args=arguments, task_vars=task_vars, wrap_async=self._task.async_val
            )
        )
        return result
