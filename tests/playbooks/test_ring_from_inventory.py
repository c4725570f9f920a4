# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""`matchmaker_ring`, `matchmaker_ring_info` and the filter `ring` in real plays, with the inventory of the fixture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

WRITE = "brokerless.openstack.matchmaker_ring"
TOPICS = {
    "scheduler": {"groups": ["control"]},
    "network": {"groups": ["control", "network"], "hosts": ["o9p409"]},
    "compute": {"groups": ["compute"]},
}
RING = {
    "scheduler": ["o2p409", "o1p409"],
    "network": ["o2p409", "o1p409", "o3p409", "o9p409"],
    "compute": ["c1", "c2"],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the ring file, which does not exist yet."""
    return tmp_path / "ring.json"


def task(path: Path, **arguments: Any) -> list[dict[str, Any]]:
    return [{WRITE: {"path": str(path), "mode": "0644", **arguments}}]


def ring_in(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_ring_of_an_inventory(run_play: Any, path: Path) -> None:
    predicted = run_play(task(path, topics=TOPICS), "--check", "--diff", hosts="c1.lab")
    assert not path.exists()
    done = run_play(task(path, topics=TOPICS), "--diff", hosts="c1.lab")
    assert done.exit_code == predicted.exit_code == 0
    assert ring_in(path) == done.only().result["ring"] == RING
    assert predicted.only().result["changed"] is done.only().result["changed"] is True
    assert predicted.only().result["diff"] == done.only().result["diff"]
    assert '+    "o9p409"' in done.output
    again = run_play(task(path, topics=TOPICS), hosts="c1.lab")
    assert again.only().result["changed"] is False


def test_limit_does_not_shrink_the_ring(run_play: Any, path: Path) -> None:
    assert run_play(task(path, topics=TOPICS), "--limit", "c2.lab").exit_code == 0
    assert ring_in(path) == RING


def test_hosts_that_are_down_stay_in_the_ring(run_play: Any, inventory: dict[str, Any], path: Path) -> None:
    inventory["all"]["children"]["control"]["hosts"]["o1p409.lab"] = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    done = run_play([{"ansible.builtin.ping": {}}, *task(path, topics=TOPICS)])
    assert {result.host for result in done.tasks if result.outcome == "unreachable"} == {"o1p409.lab"}
    assert ring_in(path) == RING


def test_every_host_of_a_play_makes_the_same_ring(run_play: Any, path: Path) -> None:
    arguments = {"path": f"{path}.{{{{ inventory_hostname }}}}", "mode": "0644", "topics": TOPICS}
    done = run_play([{WRITE: arguments}])
    assert [result.outcome for result in done.tasks] == ["ok"] * 5
    assert len({Path(result.result["path"]).read_text(encoding="utf-8") for result in done.tasks}) == 1


def test_flags(run_play: Any, path: Path) -> None:
    done = run_play(
        task(
            path,
            topic_flags={"compute_topic": "cell1", "cert_topic": "cert"},
            flag_groups={"compute_topic": ["compute"], "scheduler_topic": ["control"], "cert_topic": ["control"]},
            flag_hosts={"compute_topic": ["c9.lab"]},
        ),
        hosts="c1.lab",
    )
    assert done.only().result["ring"] == {"cell1": ["c1", "c2", "c9"], "scheduler": ["o2p409", "o1p409"], "cert": ["o2p409", "o1p409"]}


def test_names_from_a_host_variable_which_may_be_a_template(run_play: Any, inventory: dict[str, Any], path: Path) -> None:
    inventory["all"]["children"]["control"]["vars"] = {"rpc_zmq_host": "rpc-{{ number }}"}
    for number, host in enumerate(["o2p409.lab", "o1p409.lab"]):
        inventory["all"]["children"]["control"]["hosts"][host] = {"number": number}
    done = run_play(task(path, topics={"scheduler": {"groups": ["control"]}}, names="variable"), hosts="c1.lab")
    assert done.only().result["ring"] == {"scheduler": ["rpc-0", "rpc-1"]}


def test_fqdns(run_play: Any, inventory: dict[str, Any], path: Path) -> None:
    inventory["all"]["children"]["compute"]["hosts"] = {"c1.lab": {}, "c2.lab": {}, "c3": {}}
    inventory["all"]["children"]["bare"] = {"hosts": {"c3": {}}}
    inventory["all"]["children"]["full"] = {"hosts": {"o1p409.lab": {}, "c1.lab": {}}}
    tasks = [{WRITE: {"path": str(path), "mode": "0644", "names": "fqdn", "topics": {"compute": {"groups": [group]}}}} for group in ("full", "bare")]
    full, bare = run_play([{**task, "ignore_errors": True} for task in tasks], hosts="c1.lab").tasks
    assert full.result["ring"] == {"compute": ["o1p409.lab", "c1.lab"]}
    assert "host 'c3' has no domain in its inventory name and no FQDN among its facts" in bare.result["msg"]
    assert ring_in(path) == full.result["ring"]


NOT_A_RING: list[tuple[dict[str, Any], str]] = [
    ({"topics": {"scheduler": {"groups": ["contrl"]}}}, "topic 'scheduler': the inventory has no group 'contrl'; did you mean 'control'? it has all"),
    ({"topics": {"scheduler": {"groups": ["empty"]}}}, "topic 'scheduler': group 'empty' of the inventory has no hosts"),
    ({"topics": {"a/b": {"groups": ["control"]}}}, "topic 'a/b' contains '/'"),
    ({"topics": {"a\\b": {"groups": ["control"]}}}, "topic 'a\\\\b' contains '\\\\'"),
    ({"topics": {"..": {"groups": ["control"]}}}, "topic '..' contains '..'"),
    ({"topics": {"a\0b": {"groups": ["control"]}}}, "topic 'a\\x00b' contains '\\x00'"),
    ({"topics": {"a b": {"groups": ["control"]}}}, "topic 'a b' contains ' '"),
    ({"topics": {"a" * 300: {"groups": ["control"]}}}, "has 300 characters; at most 255 are allowed"),
    ({"topics": {"scheduler": ["control"]}}, "topic 'scheduler' must be a mapping with groups, hosts or both"),
    ({"topics": "scheduler"}, "topics must be a mapping"),
    ({"topics": {}}, "no topic is given"),
    ({"flag_groups": {"cert_topic": ["control"]}}, "topic flag 'cert_topic' has groups or hosts but no value"),
    ({"topics": TOPICS, "names": "long"}, "names must be one of short, fqdn, variable, not 'long'"),
    ({"topics": TOPICS, "colour": "blue"}, "Unsupported parameters"),
    ({"topics": TOPICS, "names": "variable"}, "does not define the variable 'rpc_zmq_host'"),
    ({"topics": TOPICS, "names": "variable", "name_variable": "broken"}, "'broken' can't be evaluated: 'nowhere' is undefined"),
    ({"topics": TOPICS, "names": "variable", "name_variable": "same"}, "hosts 'o2p409.lab' and 'o1p409.lab' would both be 'one' in the ring"),
    (
        {"topics": TOPICS, "name_variable": "same"},
        "host 'o2p409.lab' would be 'o2p409' in the ring (names=short), but its variable 'same' says",
    ),
]


@pytest.mark.parametrize("mode", [[], ["--check"]], ids=str)
def test_what_can_not_be_a_ring_is_named_and_the_old_one_stays(run_play: Any, inventory: dict[str, Any], path: Path, mode: list[str]) -> None:
    path.write_text('{"old": ["a"]}', encoding="utf-8")
    inventory["all"]["vars"].update({"broken": "{{ nowhere }}", "same": "one"})
    tasks = [{**task(path, **arguments)[0], "ignore_errors": True} for arguments, _said in NOT_A_RING]
    done = run_play(tasks, *mode, hosts="c1.lab")
    assert done.exit_code == 0
    assert "Traceback" not in done.output
    assert [result.outcome for result in done.tasks] == ["failed"] * len(NOT_A_RING)
    for result, (_arguments, said) in zip(done.tasks, NOT_A_RING, strict=True):
        assert said in result.result["msg"]
    assert path.read_text(encoding="utf-8") == '{"old": ["a"]}'


def test_two_hosts_that_shorten_to_one_name_are_both_named(run_play: Any, inventory: dict[str, Any], path: Path) -> None:
    inventory["all"]["children"]["compute"]["hosts"] = {"c1.lab": {}, "c1.office": {}}
    done = run_play(task(path, topics=TOPICS), hosts="c1.lab")
    assert "hosts 'c1.lab' and 'c1.office' would both be 'c1' in the ring" in done.only().result["msg"]
    assert not path.exists()


def test_a_broken_ring_is_replaced_with_a_warning_and_a_copy(run_play: Any, path: Path) -> None:
    path.write_text('{"scheduler": "o1p409"}', encoding="utf-8")
    done = run_play(task(path, topics=TOPICS, backup=True), "--diff", hosts="c1.lab")
    result = done.only().result
    fault = f"ring file {path}: key 'scheduler': must be an array of hosts, not a string"
    assert result["previous_error"] == fault
    assert f"{fault}; it is replaced" in " ".join(done.output.split())
    assert '-{"scheduler": "o1p409"}' in done.output
    assert Path(result["backup_file"]).read_text(encoding="utf-8") == '{"scheduler": "o1p409"}'
    assert ring_in(path) == RING


def test_reading_it_back(run_play: Any, path: Path) -> None:
    read = {"brokerless.openstack.matchmaker_ring_info": {"path": str(path), "topic": "network"}}
    done = run_play([read, *task(path, topics=TOPICS), read], hosts="c1.lab")
    before, _written, after = (result.result for result in done.tasks)
    assert (before["exists"], before["valid"]) == (False, False)
    assert (after["exists"], after["valid"], after["ring"], after["topic_hosts"]) == (True, True, RING, RING["network"])


def test_module_defaults_of_the_action_group(run_play: Any, path: Path) -> None:
    defaults = {"group/brokerless.openstack.openstack": {"path": str(path)}}
    tasks = [{WRITE: {"topics": TOPICS, "mode": "0644"}}, {"brokerless.openstack.matchmaker_ring_info": {}}]
    done = run_play(tasks, hosts="c1.lab", module_defaults=defaults)
    assert [result.outcome for result in done.tasks] == ["ok", "ok"]
    assert ring_in(path) == RING


def test_as_an_asynchronous_task(run_play: Any, path: Path) -> None:
    done = run_play([{**task(path, topics=TOPICS)[0], "async": 60, "poll": 1}], hosts="c1.lab")
    assert done.exit_code == 0, done.output
    assert ring_in(path) == RING


def test_the_filter_makes_the_same_ring(run_play: Any, inventory: dict[str, Any]) -> None:
    inventory["all"]["children"]["control"]["vars"] = {"me": "ctl-{{ inventory_hostname_short }}"}
    show = [
        {"ansible.builtin.debug": {"msg": "{{ topics | brokerless.openstack.ring(groups) }}"}},
        {
            "ansible.builtin.debug": {
                "msg": "{{ named | brokerless.openstack.ring(groups, hostvars=hostvars, names='variable', name_variable='me') }}"
            }
        },
        {"ansible.builtin.debug": {"msg": "{{ named | brokerless.openstack.ring(groups, names='fqdn') }}"}},
    ]
    done = run_play(show, hosts="c1.lab", vars={"topics": TOPICS, "named": {"scheduler": {"groups": ["control"]}}})
    assert [result.result["msg"] for result in done.tasks] == [
        RING,
        {"scheduler": ["ctl-o2p409", "ctl-o1p409"]},
        {"scheduler": ["o2p409.lab", "o1p409.lab"]},
    ]


def test_errors_of_the_filter_are_named(run_play: Any, inventory: dict[str, Any]) -> None:
    inventory["all"]["vars"]["broken"] = "{{ nowhere }}"
    named = "{'a': {'groups': ['control']}} | brokerless.openstack.ring(groups, hostvars=hostvars, names='variable'"
    cases = [
        (
            "{'a': {'groups': ['none']}} | brokerless.openstack.ring(groups)",
            "ring: topic 'a': the inventory has no group 'none'",
        ),
        (f"{named})", "host 'o2p409.lab' does not define the variable 'rpc_zmq_host'"),
        (f"{named}, name_variable='broken')", "host 'o2p409.lab': its variable 'broken' can't"),
    ]
    done = run_play(
        [{"ansible.builtin.debug": {"msg": f"{{{{ {expression} }}}}"}, "ignore_errors": True} for expression, _said in cases], hosts="c1.lab"
    )
    for result, (_expression, said) in zip(done.tasks, cases, strict=True):
        assert result.outcome == "failed"
        assert said in result.result["msg"]


def test_a_directory_that_is_a_file_is_named_and_nothing_half_written(run_play: Any, path: Path) -> None:
    folder = path.parent / "file"
    folder.touch()
    done = run_play(task(folder / "ring.json", topics=TOPICS), hosts="c1.lab")
    assert done.only().outcome == "failed"
    assert f"{folder}" in done.only().result["msg"]
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["file", "play"]
