# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from ansible_collections.brokerless.openstack.plugins.module_utils._ring_from_inventory import (
    GUIDE_TOPIC_FLAGS,
    InventoryError,
    Members,
    Naming,
    joined,
    members_of_flags,
    members_of_topics,
    ring_from_inventory,
)
from ansible_collections.brokerless.openstack.plugins.module_utils.brokerless.rpc.matchmaker.ring_file import check_ring
from hypothesis import given
from hypothesis import strategies as st

GROUPS = {
    "all": ["o2p409", "o1p409", "o3p409", "c1", "c2"],
    "ungrouped": [],
    "control": ["o2p409", "o1p409"],
    "network": ["o3p409", "o1p409"],
    "compute": ["c1", "c2"],
    "empty": [],
}


def ring(topics: Any, groups: Mapping[str, list[str]] | None = None, **naming: Any) -> dict[str, list[str]]:
    result = ring_from_inventory(members_of_topics(topics), GROUPS if groups is None else groups, Naming(**naming))
    return {topic: list(hosts) for topic, hosts in result.topics.items()}


def fault(topics: Any, groups: Mapping[str, list[str]] | None = None, **naming: Any) -> str:
    with pytest.raises(InventoryError) as caught:
        ring(topics, groups, **naming)
    message = str(caught.value)
    assert message.isprintable()
    return message


def test_hosts_stand_in_the_order_of_the_inventory_groups_first() -> None:
    assert ring({"scheduler": {"groups": ["control"]}, "network": {"groups": ["network"], "hosts": ["o9p409"]}}) == {
        "scheduler": ["o2p409", "o1p409"],
        "network": ["o3p409", "o1p409", "o9p409"],
    }


def test_a_host_of_two_groups_or_of_a_group_and_the_list_appears_once() -> None:
    assert ring({"a": {"groups": ["control", "network"], "hosts": ["o3p409"]}}) == {"a": ["o2p409", "o1p409", "o3p409"]}


def test_one_name_may_stand_for_a_list_of_one() -> None:
    assert ring({"a": {"groups": "control", "hosts": "x"}}) == {"a": ["o2p409", "o1p409", "x"]}


def test_a_topic_may_be_a_glob() -> None:
    assert ring({"q-agent-notifier-*": {"groups": ["compute"]}}) == {"q-agent-notifier-*": ["c1", "c2"]}


@pytest.mark.parametrize(
    ("topics", "said"),
    [
        ([], "topics must be a mapping of topics to their groups and hosts, not list"),
        ("scheduler", "topics must be a mapping of topics to their groups and hosts, not str"),
        ({"scheduler": ["o1p409"]}, "topic 'scheduler' must be a mapping with groups, hosts or both, not list"),
        ({"scheduler": None}, "topic 'scheduler' must be a mapping with groups, hosts or both, not NoneType"),
        ({"scheduler": "control"}, "topic 'scheduler' must be a mapping with groups, hosts or both, not str"),
        ({"scheduler": {}}, "topic 'scheduler' has neither groups nor hosts"),
        ({"scheduler": {"groups": [], "hosts": None}}, "topic 'scheduler' has neither groups nor hosts"),
        ({"scheduler": {"group": ["control"]}}, "topic 'scheduler' has 'group', but may have groups and hosts only"),
        ({"scheduler": {"groups": {"control": 1}}}, "groups of topic 'scheduler' must be a list of names, not dict"),
        ({"scheduler": {"hosts": [7]}}, "hosts of topic 'scheduler' must be a list of names, but hold 7"),
        ({"scheduler": {"hosts": [""]}}, "hosts of topic 'scheduler' must be a list of names, but hold ''"),
        ({"scheduler": {"hosts": ["a", "a"]}}, "hosts of topic 'scheduler' hold 'a' more than once"),
        ({"scheduler": {"groups": ["control", "control"]}}, "groups of topic 'scheduler' hold 'control' more than once"),
        ({"scheduler": {"hosts": ["a b"]}}, "topic 'scheduler': host 'a b' contains ' '"),
        ({"a/b": {"hosts": ["a"]}}, "topic 'a/b' contains '/'"),
        ({"a\\b": {"hosts": ["a"]}}, "topic 'a\\\\b' contains '\\\\'"),
        ({"..": {"hosts": ["a"]}}, "topic '..' contains '..'"),
        ({"a\0": {"hosts": ["a"]}}, "topic 'a\\x00' contains '\\x00'"),
        ({"a b": {"hosts": ["a"]}}, "topic 'a b' contains ' '"),
        ({"a" * 300: {"hosts": ["a"]}}, "has 300 characters; at most 255 are allowed"),
        ({7: {"hosts": ["a"]}}, "topic must be a string, not int"),
        ({"scheduler": {"groups": ["empty"]}}, "topic 'scheduler': group 'empty' of the inventory has no hosts"),
        (
            {"scheduler": {"groups": ["contrl"]}},
            "topic 'scheduler': the inventory has no group 'contrl'; did you mean 'control'? it has all, compute, control, empty, network, ungrouped",
        ),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_can_not_be_a_ring_is_refused_by_name(topics: Any, said: str) -> None:
    assert said in fault(topics)


def test_a_long_list_of_groups_is_cut() -> None:
    groups = {f"g{number:02}": ["a"] for number in range(40)}
    message = fault({"a": {"groups": ["zzz"]}}, groups)
    assert "it has g00, g01," in message
    assert message.endswith("g29 and 10 more")


def test_an_inventory_without_groups_says_so() -> None:
    assert fault({"a": {"groups": ["zzz"]}}, {}).endswith("it has no groups at all")


def test_no_topic_at_all_is_refused() -> None:
    with pytest.raises(InventoryError, match="no topic is given"):
        joined({}, {})


def test_short_names_end_at_the_first_dot() -> None:
    groups = {"g": ["a.lab.example.com", "b"]}
    assert ring({"t": {"groups": ["g"], "hosts": ["c.lab.example.com", "192.168.2.1", "fe80::1"]}}, groups) == {
        "t": ["a", "b", "c", "192.168.2.1", "fe80::1"],
    }


@pytest.mark.parametrize("address", ["192.168.2.1", "fe80::1"])
def test_an_address_has_no_short_name(address: str) -> None:
    assert f"host '{address}' has an address for its inventory name, which has no short form" in fault({"t": {"groups": ["g"]}}, {"g": [address]})


def test_two_hosts_that_shorten_to_one_name_are_both_named() -> None:
    groups = {"g": ["a.lab", "a.office"]}
    assert "hosts 'a.lab' and 'a.office' would both be 'a' in the ring" in fault({"t": {"groups": ["g"]}}, groups)


def test_two_hosts_of_one_name_are_an_error_even_under_different_topics() -> None:
    topics = {"t": {"groups": ["g"]}, "u": {"groups": ["h"]}}
    assert "hosts 'a.lab' and 'a.office' would both be 'a'" in fault(topics, {"g": ["a.lab"], "h": ["a.office"]})


def test_two_hosts_whose_names_differ_in_case_only_are_one_name_to_a_nameserver() -> None:
    assert "hosts 'a.lab' and 'A.office' would both be 'A'" in fault({"t": {"groups": ["g"]}}, {"g": ["a.lab", "A.office"]})


def test_two_listed_hosts_that_shorten_to_one_name_are_an_error() -> None:
    assert "hosts 'a.lab' and 'a.office' would both be 'a'" in fault({"t": {"hosts": ["a.lab", "a.office"]}})
    assert "hosts 'a.lab' and 'a.office' would both be 'a'" in fault({"t": {"groups": ["g"], "hosts": ["a.office"]}}, {"g": ["a.lab"]})


@pytest.mark.parametrize("topics", [{"t": {"groups": ["g"], "hosts": ["a"]}}, {"t": {"hosts": ["a"]}, "u": {"groups": ["g"]}}])
def test_a_listed_name_of_the_ring_is_the_host_of_that_name(topics: Any) -> None:
    assert ring(topics, {"g": ["a.lab"]}) == {topic: ["a"] for topic in topics}


def test_fqdn_is_the_inventory_name_or_the_fact() -> None:
    hostvars = {"b": {"ansible_facts": {"fqdn": "b.office"}}}
    groups = {"g": ["a.lab", "b"]}
    assert ring({"t": {"groups": ["g"], "hosts": ["c"]}}, groups, names="fqdn", hostvars=hostvars) == {"t": ["a.lab", "b.office", "c"]}


@pytest.mark.parametrize("facts", [{}, {"fqdn": "b"}, {"fqdn": "10.0.0.1"}, {"fqdn": None}, None])
def test_a_host_without_domain_and_facts_has_no_fqdn(facts: dict[str, Any] | None) -> None:
    message = fault({"t": {"groups": ["g"]}}, {"g": ["b"]}, names="fqdn", hostvars={"b": {"ansible_facts": facts}})
    assert "host 'b' has no domain in its inventory name and no FQDN" in message


def test_a_host_without_any_variables_has_no_fqdn() -> None:
    assert "host 'b' has no domain in its inventory name and no FQDN" in fault({"t": {"groups": ["g"]}}, {"g": ["b"]}, names="fqdn")


def test_a_host_that_is_an_address_has_its_fact_for_fqdn() -> None:
    hostvars = {"10.0.0.1": {"ansible_facts": {"fqdn": "b.office"}}}
    assert ring({"t": {"groups": ["g"]}}, {"g": ["10.0.0.1"]}, names="fqdn", hostvars=hostvars) == {"t": ["b.office"]}


def test_names_from_a_host_variable() -> None:
    hostvars = {"o2p409": {"me": "ctl2"}, "o1p409": {"me": "192.168.2.1"}}
    assert ring({"t": {"groups": ["control"], "hosts": ["x.lab"]}}, names="variable", variable="me", hostvars=hostvars) == {
        "t": ["ctl2", "192.168.2.1", "x.lab"],
    }


@pytest.mark.parametrize("variables", [{}, {"o1p409": {}}, {"o1p409": {"rpc_zmq_host": None}}])
def test_an_undefined_host_variable_names_the_host(variables: dict[str, Any]) -> None:
    message = fault({"t": {"groups": ["control"]}}, names="variable", hostvars={"o2p409": {"rpc_zmq_host": "ctl2"}, **variables})
    assert message == "topic 't': host 'o1p409' does not define the variable 'rpc_zmq_host', which names it in the ring"


@pytest.mark.parametrize(("value", "said"), [(7, "host must be a string, not int"), ("", "host is empty"), ("a b", "host 'a b' contains ' '")])
def test_a_host_variable_that_names_no_host_names_the_host(value: Any, said: str) -> None:
    message = fault({"t": {"groups": ["control"]}}, names="variable", hostvars={"o2p409": {"rpc_zmq_host": value}})
    assert "host 'o2p409': its variable 'rpc_zmq_host' can't name it in the ring" in message
    assert said in message


class Template(Exception):
    """Stands for what Ansible raises when a variable's template can't be evaluated."""


class Unevaluable(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise Template("'nowhere'\nis undefined")

    def __iter__(self) -> Iterator[str]:
        return iter(["rpc_zmq_host"])

    def __len__(self) -> int:
        return 1


def test_a_host_variable_that_can_not_be_evaluated_names_the_host() -> None:
    naming = Naming(names="variable", hostvars={"c1": Unevaluable()}, evaluation_error=Template)
    with pytest.raises(InventoryError) as caught:
        naming.name_of("c1")
    assert str(caught.value) == "host 'c1': its variable 'rpc_zmq_host' can't be evaluated: 'nowhere' is undefined"


def test_two_hosts_with_one_value_of_the_variable_are_both_named() -> None:
    hostvars = {host: {"rpc_zmq_host": "same"} for host in GROUPS["control"]}
    assert "hosts 'o2p409' and 'o1p409' would both be 'same'" in fault({"t": {"groups": ["control"]}}, names="variable", hostvars=hostvars)


def test_a_variable_that_disagrees_with_the_name_names_the_host() -> None:
    hostvars = {"c1": {"rpc_zmq_host": "c1"}, "c2": {"rpc_zmq_host": "node2"}}
    message = fault({"t": {"groups": ["compute"]}}, hostvars=hostvars)
    assert "host 'c2' would be 'c2' in the ring (names=short), but its variable 'rpc_zmq_host' says 'node2'" in message


def test_an_unknown_way_of_naming_is_refused() -> None:
    with pytest.raises(InventoryError, match="names must be one of short, fqdn, variable, not 'long'"):
        Naming(names="long")


@pytest.mark.parametrize("host", ["a b.lab", "[1].lab", "a/b"])
@pytest.mark.parametrize("names", ["short", "fqdn"])
def test_an_inventory_name_that_is_no_hostname_is_named(host: str, names: str) -> None:
    facts = {host: {"ansible_facts": {"fqdn": f"{host}.lab"}}}
    assert f"host {host!r} of the inventory can't be in a ring" in fault({"t": {"groups": ["g"]}}, {"g": [host]}, names=names, hostvars=facts)


def test_values_of_flags_are_the_topics() -> None:
    members = members_of_flags({"compute_topic": ["compute"], "scheduler_topic": ["control"]}, {"compute_topic": ["x"]}, {"compute_topic": "cell1"})
    assert members == {"cell1": Members(("compute",), ("x",)), "scheduler": Members(("control",))}


def test_the_flags_of_the_guide_have_their_defaults() -> None:
    assert dict(GUIDE_TOPIC_FLAGS) == {
        "compute_topic": "compute",
        "console_topic": "console",
        "scheduler_topic": "scheduler",
        "volume_topic": "volume",
        "network_topic": "network",
        "vsa_topic": "vsa",
    }
    assert set(members_of_flags({flag: ["all"] for flag in GUIDE_TOPIC_FLAGS}, None)) == set(GUIDE_TOPIC_FLAGS.values())


def test_other_flags_can_be_added_and_unused_ones_are_left_out() -> None:
    assert members_of_flags({"cert_topic": ["control"]}, {}, {"cert_topic": "cert", "compute_topic": "compute"}) == {"cert": Members(("control",))}


@pytest.mark.parametrize(
    ("groups", "flags", "said"),
    [
        ({"cert_topic": ["a"]}, {}, "topic flag 'cert_topic' has groups or hosts but no value; give it one in topic_flags (known: compute_topic, "),
        ({"vsa_topic": ["a"]}, {"vsa_topic": "a/b"}, "the value of topic flag 'vsa_topic' can't be a key of a ring: topic 'a/b' contains '/'"),
        ({"vsa_topic": ["a"]}, {"vsa_topic": None}, "the value of topic flag 'vsa_topic' can't be a key of a ring: topic must be a string"),
        (
            {"compute_topic": ["a"], "volume_topic": ["b"]},
            {"volume_topic": "compute"},
            "topic flags 'compute_topic' and 'volume_topic' have the same value 'compute'; list the hosts of both under one",
        ),
        ({"compute_topic": []}, {}, "topic flag 'compute_topic' has neither groups nor hosts"),
        ({"compute_topic": {"groups": ["a"]}}, {}, "groups of topic flag 'compute_topic' must be a list of names, not dict"),
    ],
)
def test_bad_flags_are_refused_by_name(groups: Any, flags: Any, said: str) -> None:
    with pytest.raises(InventoryError) as caught:
        members_of_flags(groups, {}, flags)
    assert said in str(caught.value)


def test_a_topic_that_a_flag_names_too_is_refused() -> None:
    with pytest.raises(InventoryError, match="topic 'compute' is listed under topics and is the value of a topic flag too"):
        joined(members_of_topics({"compute": {"hosts": ["a"]}}), members_of_flags({"compute_topic": ["b"]}, {}))


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,3}(\.lab)?", fullmatch=True)


@given(st.dictionaries(NAMES, st.lists(NAMES, min_size=1, max_size=5, unique=True), min_size=1, max_size=4), st.data())
def test_whatever_comes_out_is_a_ring_with_every_host_of_its_groups(groups: dict[str, list[str]], data: st.DataObject) -> None:
    chosen = data.draw(st.dictionaries(NAMES, st.lists(st.sampled_from(sorted(groups)), min_size=1, unique=True), min_size=1, max_size=3))
    short_names = {topic: {host: host.partition(".")[0] for group in wanted for host in groups[group]} for topic, wanted in chosen.items()}
    topics = {topic: {"groups": wanted} for topic, wanted in chosen.items()}
    hosts = {host: name for names in short_names.values() for host, name in names.items()}
    if len(set(hosts.values())) < len(hosts):
        assert "would both be" in fault(topics, groups)
        return
    result = ring(topics, groups)
    assert check_ring(result, "x").topics
    assert {topic: set(hosts) for topic, hosts in result.items()} == {topic: set(names.values()) for topic, names in short_names.items()}
