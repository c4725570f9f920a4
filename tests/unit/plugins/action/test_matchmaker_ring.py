# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What the action plugin hands to the module. tests/playbooks runs both in real plays."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleUndefinedVariable
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible_collections.brokerless.openstack.plugins.action.matchmaker_ring import ActionModule

GROUPS = {"all": ["c1.lab", "o1p409.lab"], "control": ["o1p409.lab"], "compute": ["c1.lab"], "empty": []}


class ActionWithoutTarget(ActionModule):
    """Notes the arguments of the module instead of running it."""

    def _execute_module(self, **arguments: Any) -> dict[str, Any]:
        assert arguments["module_name"] == "brokerless.openstack.matchmaker_ring"
        return {"changed": True, "arguments": arguments["module_args"]}


class Undefined(dict[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise AnsibleUndefinedVariable(f"{key} is undefined")

    get = __getitem__


def run(hostvars: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
    task = Task()
    task.args = arguments
    no_connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
    action = ActionWithoutTarget(task, connection=no_connection, play_context=PlayContext(), loader=None, templar=None, shared_loader_obj=None)
    return action.run(task_vars={"groups": GROUPS, "hostvars": hostvars or {}})


def test_groups_become_names_of_hosts_and_the_rest_is_handed_on() -> None:
    result = run(
        path="/x", mode="0644", topics={"scheduler": {"groups": ["control"], "hosts": ["x.lab"]}}, flag_groups={"compute_topic": ["compute"]}
    )
    assert result["arguments"] == {
        "path": "/x",
        "mode": "0644",
        "topics": {"scheduler": {"hosts": ["o1p409", "x"]}, "compute": {"hosts": ["c1"]}},
    }
    assert result["changed"] is True


def test_names_are_chosen_on_the_controller() -> None:
    topics = {"compute": {"groups": ["compute"]}}
    assert run(path="/x", topics=topics, names="fqdn")["arguments"] == {"path": "/x", "topics": {"compute": {"hosts": ["c1.lab"]}}}
    variables = {"c1.lab": {"me": "node1"}}
    result = run(variables, path="/x", topics=topics, names="variable", name_variable="me")
    assert result["arguments"] == {"path": "/x", "topics": {"compute": {"hosts": ["node1"]}}}


def test_mappings_may_be_given_as_text() -> None:
    result = run(path="/x", topics='{"compute": {"groups": ["compute"]}}')
    assert result["arguments"]["topics"] == {"compute": {"hosts": ["c1"]}}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "no topic is given"),
        ({"topics": "compute"}, "topics must be a mapping"),
        ({"flag_hosts": ["compute"]}, "flag_hosts must be a mapping"),
        ({"topics": {"compute": {"groups": ["computes"]}}}, "the inventory has no group 'computes'; did you mean 'compute'?"),
        ({"topics": {"compute": {"groups": ["empty"]}}}, "group 'empty' of the inventory has no hosts"),
        ({"topics": {"compute": {"groups": ["compute"]}}, "names": "long"}, "names must be one of short, fqdn, variable"),
        (
            {"topics": {"compute": {"groups": ["compute"]}}, "names": "variable"},
            "host 'c1.lab': its variable 'rpc_zmq_host' can't be evaluated: rpc_zmq_host is",
        ),
    ],
)
def test_faults_never_reach_the_target(arguments: dict[str, Any], said: str) -> None:
    result = run({"c1.lab": Undefined()}, path="/x", **arguments)
    assert result["failed"] is True
    assert result["changed"] is False
    assert said in result["msg"]
    assert "arguments" not in result
