# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""rpcdaemon's pages name every key with its default, every metric, every state and every alarm, and none that there is not."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from brokerless.ha import watch
from brokerless.ha.config import SECTIONS
from brokerless.ha.liveness import State
from brokerless.ha.metrics import Deaths, metric_families
from brokerless.ha.policy import Fencing

CHECKOUT = Path(__file__).resolve().parents[3]
PAGE = (CHECKOUT / "docs" / "rpcdaemon.md").read_text(encoding="utf-8")
ALARMS = (CHECKOUT / "docs" / "rpcdaemon-alarms.md").read_text(encoding="utf-8")


class AnyNumber(dict[Any, Any]):
    """Figures of a daemon of which none matters."""

    def __missing__(self, key: str) -> Any:
        return {} if key in {"agents", "alarms", "outcomes", "calls"} else 0


def part(page: str, heading: str) -> str:
    """Return what stands below a heading, up to the next of its level."""
    level = heading.partition(" ")[0]
    return page.split(f"\n{heading}\n")[1].split(f"\n{level} ", maxsplit=1)[0]


def shown(value: Any) -> str:
    """Return a default as the table has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return " ".join(value)
    if isinstance(value, Mapping):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def row(option: dataclasses.Field[Any]) -> str:
    """Return the line of the table for a key."""
    value = option.default_factory() if option.default is dataclasses.MISSING and callable(option.default_factory) else option.default
    unit = option.metadata.get("unit", "")
    default = f"`{shown(value)}`" + (f" {unit}" if unit else "") if shown(value) else ""
    return f"| `{option.name}`{'*' if option.metadata.get('seed') else ''} | {default} | {option.metadata['help']} |"


def alarm_names() -> set[str]:
    """Return the names of all alarms in the code: the second argument wherever one is told."""
    tree = ast.parse(Path(watch.__file__).read_text(encoding="utf-8"))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "alarm")
    names = {ast.literal_eval(call.args[1]) for call in calls}
    assert {"deaf", "guard"} < names
    return names


@pytest.mark.parametrize(
    ("heading", "section"),
    [("### `[Daemon]`", "Daemon"), ("### `[L3Agent]`, `[DHCPAgent]`", "L3Agent"), ("### `[Dump]`", "Dump"), ("### `[Policy]`", "Policy")],
)
def test_the_tables_of_keys_are_those_of_the_code(heading: str, section: str) -> None:
    lines = [line for line in part(PAGE, heading).splitlines() if line.startswith("| `")]
    assert lines == [row(option) for option in dataclasses.fields(SECTIONS[section])]


def test_there_is_a_table_for_each_section() -> None:
    assert {name for heading in re.findall(r"^### (.*)$", PAGE, re.MULTILINE) for name in re.findall(r"\[(\w+)\]", heading)} == set(SECTIONS)


def test_each_metric_has_its_row() -> None:
    told = {name.removesuffix("_total").removesuffix("_info") for line in part(PAGE, "## Metrics").splitlines() for name in first_cell(line)}
    figures = AnyNumber(Deaths().figures())
    assert told == {family.name.removeprefix("rpcdaemon_").removesuffix("_info") for family in metric_families(figures, 0.0)}


def first_cell(line: str) -> list[str]:
    """Return the names in the first cell of a table's row."""
    return re.findall(r"`(\w+)`", line.split("|")[1]) if line.startswith("| `") else []


def test_each_state_is_in_the_picture() -> None:
    picture = part(PAGE, "## The states of an agent").split("```")[1]
    assert [state for state in State if f"│ {state} " not in picture and f"  {state} " not in picture] == []


def test_each_policy_of_fencing_is_explained() -> None:
    assert [name for line in part(PAGE, "## Fencing").splitlines() for name in first_cell(line)] == ["fencing", *Fencing]


def test_each_alarm_has_its_section_and_says_what_to_type() -> None:
    sections = set(re.findall(r"^## ([a-z-]+)$", ALARMS, re.MULTILINE))
    assert sections == alarm_names()
    for name in sections:
        assert re.match(r"\s*\*(critical|warning)\*?[. ]", part(ALARMS, f"## {name}")), name
        assert f"[{name}](#{name})" in ALARMS
    assert [name for name in sections - {"failed"} if "```console\n$ " not in part(ALARMS, f"## {name}")] == []
