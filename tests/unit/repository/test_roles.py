# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Each role documents its variables, and documents them as they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[3]
ROLES = sorted(path for path in (CHECKOUT / "roles").glob("*") if path.is_dir())


def load_mapping(path: Path) -> dict[str, Any]:
    """Return a YAML file that holds a mapping; an empty or missing one is an empty mapping."""
    return (yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None) or {}


def documented_options(role: Path) -> dict[str, Any]:
    """Return the options of all entry points of a role, by name."""
    entry_points = load_mapping(role / "meta" / "argument_specs.yml")["argument_specs"]
    every = [(name, option) for entry in entry_points.values() for name, option in entry.get("options", {}).items()]
    # an option of several entry points may state its default at one of them only
    return dict(sorted(every, key=lambda named: "default" in named[1]))


def stated_default(value: Any) -> Any:
    """Return what a default comes to for an operator who sets nothing: of `{{ brokerless_x | default(51) }}` that is 51."""
    fallback = re.fullmatch(r"\{\{\s*\w+\s*\|\s*default\((.+)\)\s*\}\}", value) if isinstance(value, str) else None
    return yaml.safe_load(fallback[1]) if fallback else value


def default_faults(defaults: dict[str, Any], options: dict[str, Any]) -> list[str]:
    """Return where `defaults/main.yml` and the documentation disagree.

    A default that is computed may be documented in words only; one that is stated must be the same. Where a variable of the whole
    collection goes before it, its own value is documented.
    """
    faults = [f"{name} has a default and no documentation" for name in defaults if name not in options]
    for name, option in options.items():
        if "default" not in option:
            computed = name in defaults and "{{" in str(defaults[name])
            if name in defaults and not computed:
                faults.append(f"{name}: its default {defaults[name]!r} is not documented")
        elif name not in defaults:
            faults.append(f"{name}: the documented default {option['default']!r} is not in defaults/main.yml")
        elif option["default"] not in (defaults[name], stated_default(defaults[name])):
            faults.append(f"{name}: documented default {option['default']!r}, real one {defaults[name]!r}")
    return faults


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_role_is_documented(role: Path) -> None:
    assert len((role / "README.md").read_text(encoding="utf-8").splitlines()) > 5
    entry_points = load_mapping(role / "meta" / "argument_specs.yml")["argument_specs"]
    assert all(entry["short_description"] for entry in entry_points.values())


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_documented_defaults_are_the_real_ones(role: Path) -> None:
    assert default_faults(load_mapping(role / "defaults" / "main.yml"), documented_options(role)) == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_variables_carry_the_name_of_their_role(role: Path) -> None:
    names = [*load_mapping(role / "defaults" / "main.yml"), *load_mapping(role / "vars" / "main.yml"), *documented_options(role)]
    assert [name for name in names if not name.startswith(f"{role.name}_")] == []


def names_set(tasks: list[dict[str, Any]]) -> list[str]:
    """Return the variables that tasks set: their own, what they register, what they loop over."""
    names: list[str] = []
    for task in tasks:
        names += [*task.get("vars", {}), *filter(None, [task.get("register"), task.get("loop_control", {}).get("loop_var")])]
        names += names_set([inner for block in ("block", "rescue", "always") for inner in task.get(block, [])])
    return names


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_what_a_task_sets_carries_the_name_of_its_role(role: Path) -> None:
    """A variable of a task yields to one that somebody's playbook registered under the same name."""
    files = [*(role / "tasks").glob("*.yml"), *(role / "handlers").glob("*.yml")]
    named = [name for file in files for name in names_set(yaml.safe_load(file.read_text(encoding="utf-8")))]
    assert [name for name in named if not name.startswith(f"{role.name}_")] == []


def test_a_name_in_a_block_is_found() -> None:
    assert names_set([{"block": [{"register": "a", "vars": {"b": 1}}, {"loop_control": {"loop_var": "c"}}]}]) == ["b", "a", "c"]


def test_wrong_documentation_is_noticed() -> None:
    defaults = {"a": 1, "b": 2, "c": 3, "d": "{{ b }}"}
    options = {"a": {"default": 1}, "b": {"default": 3}, "c": {}, "d": {}, "e": {"default": 5}}
    assert default_faults(defaults, options) == [
        "b: documented default 3, real one 2",
        "c: its default 3 is not documented",
        "e: the documented default 5 is not in defaults/main.yml",
    ]
    shared = {"a": "{{ brokerless_a | default(51) }}"}
    assert default_faults(shared, {"a": {"default": 51}}) == []
    assert default_faults(shared, {"a": {"default": 50}}) == ["a: documented default 50, real one '{{ brokerless_a | default(51) }}'"]
    assert default_faults({"x": 1}, {}) == ["x has a default and no documentation"]
