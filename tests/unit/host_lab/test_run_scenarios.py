# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from host_image import LabFault
from host_lab import INVENTORY, SPARE_HOSTS, STRANGERS, Host, inventory_hosts
from run_scenarios import Step, all_scenarios, differences, fault_of, read_results, steps_of, table


def result(host: str, outcome: str = "ok") -> dict[str, Any]:
    return {"host": host, "task": "t", "outcome": outcome, "result": {}}


@pytest.mark.parametrize("name", ["check", "converge", "idempotence", "side_effect", "verify"])
def test_a_step_that_matches_no_host_has_failed(name: str) -> None:
    assert fault_of(name, 0, []) == "no task ran on any host"
    assert fault_of(name, 0, [result("control1", "skipped")]) == "no task ran on any host"
    assert fault_of(name, 0, [result("control1")]) is None
    assert fault_of(name, 2, [result("control1")]) == "molecule ended with exit code 2"


def test_tasks_on_this_machine_are_none_on_hosts(tmp_path: Path) -> None:
    file = tmp_path / "results"
    file.write_text("".join(json.dumps(result(host)) + "\n" for host in ("localhost", "control1")))
    assert [each["host"] for each in read_results(file)] == ["control1"]
    assert read_results(tmp_path / "none") == []


def test_starting_and_ending_hosts_needs_no_tasks_on_them() -> None:
    assert fault_of("create", 0, []) is None


def test_a_forecast_that_is_wrong_either_way_is_noticed() -> None:
    assert differences([("a", "x"), ("b", "x")], [("a", "x"), ("b", "x")]) == []
    assert differences([("a", "x")], [("a", "y")]) == ["a: --check foretold 'x'", "a: --check did not foretell 'y'"]


def test_the_table_counts_what_was_verified_in_scenarios_that_passed() -> None:
    steps = [
        Step("one", "converge", 30.2, 50, frozenset({("a", "x")}), None),
        Step("one", "verify", 10.0, 20, frozenset(), None),
        Step("two", "verify", 1.0, 3, frozenset(), "molecule ended with exit code 2"),
    ]
    lines = table(steps)
    assert lines[1].split() == ["one", "converge", "50", "1", "30", "ok"]
    assert lines[-1] == "1 scenarios passed, 1 failed, 20 tasks verified"


def test_every_scenario_deploys_and_verifies_and_each_but_one_twice() -> None:
    assert all_scenarios()[0] == "default"
    for scenario in all_scenarios():
        again = set() if scenario == "rotate-keys" else {"check", "idempotence"}
        assert {"create", "converge", "verify", "destroy"} | again <= set(steps_of(scenario)), scenario


def test_an_unknown_scenario_is_refused() -> None:
    with pytest.raises(LabFault, match="there are default"):
        steps_of("nothing")


def test_the_hosts_are_those_of_the_inventory() -> None:
    hosts = inventory_hosts()
    assert Host("compute1", "10.77.0.21") in hosts
    addresses = [host.address for host in hosts] + [*SPARE_HOSTS.values(), *STRANGERS.values()]
    assert len(set(addresses)) == len(addresses) == len(hosts) + 2
    assert Host("compute1", "10.77.0.21").hardware_address == "02:00:0a:4d:00:15"


def test_the_readme_shows_the_inventory_of_the_scenario_and_its_command(checkout: Path) -> None:
    readme = (checkout / "README.md").read_text(encoding="utf-8")
    for file in (INVENTORY / "hosts.yml", INVENTORY / "group_vars" / "all.yml"):
        assert file.read_text(encoding="utf-8").removeprefix("---\n") in readme
    command = re.search(r"^\$ ansible-playbook -i (\S+) (\S+)$", readme, re.MULTILINE)
    assert command
    assert (checkout / command[1]).resolve() == INVENTORY.resolve()
    scenario = checkout / "extensions" / "molecule"
    assert f"${{MOLECULE_PROJECT_DIRECTORY}}/{command[1]}" in (scenario / "config.yml").read_text(encoding="utf-8")
    assert f"import_playbook: {command[2]}" in (scenario / "default" / "converge.yml").read_text(encoding="utf-8")
