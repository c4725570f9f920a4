# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.brokerless.openstack.plugins.filter.ring import FilterModule

ring = FilterModule().filters()["ring"]
GROUPS = {"control": ["o1p409.lab", "o2p409.lab"], "empty": []}


def test_topics_and_groups_become_topics_and_hosts() -> None:
    assert ring({"scheduler": {"groups": ["control"], "hosts": ["x"]}}, GROUPS) == {"scheduler": ["o1p409", "o2p409", "x"]}


def test_names_can_be_chosen() -> None:
    topics = {"scheduler": {"groups": ["control"]}}
    assert ring(topics, GROUPS, names="fqdn") == {"scheduler": ["o1p409.lab", "o2p409.lab"]}
    hostvars = {"o1p409.lab": {"me": "a"}, "o2p409.lab": {"me": "b"}}
    assert ring(topics, GROUPS, hostvars=hostvars, names="variable", name_variable="me") == {"scheduler": ["a", "b"]}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (({"scheduler": {"groups": ["empty"]}}, GROUPS), "topic 'scheduler': group 'empty' of the inventory has no hosts"),
        (({}, GROUPS), "no topic is given"),
        ((["scheduler"], GROUPS), "topics must be a mapping of topics to their groups and hosts, not list"),
        (({"scheduler": {"hosts": ["a"]}}, ["control"]), "groups must be a mapping of groups to their hosts, not list"),
        (({"scheduler": {"hosts": ["a"]}}, GROUPS, None, "variable"), "names='variable' needs hostvars=hostvars"),
        (({"scheduler": {"hosts": ["a"]}}, GROUPS, None, "long"), "names must be one of short, fqdn, variable, not 'long'"),
    ],
)
def test_errors_name_the_filter_and_the_fault(arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        ring(*arguments)
    assert "brokerless.openstack.ring: " in str(caught.value)
    assert said in str(caught.value)
