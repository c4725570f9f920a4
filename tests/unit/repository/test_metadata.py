# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What is said in two places is the same in both."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import yaml
from brokerless.version import VERSION


def load_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def distribution_names(requirements: list[str]) -> list[str]:
    """Return the sorted names in lines of a requirements file, without versions and comments."""
    lines = (line.partition("#")[0].strip() for line in requirements)
    return sorted(re.split(r"[<>=!~ ]", line)[0] for line in lines if line)


def test_wheel_and_collection_have_one_version(galaxy: dict[str, Any]) -> None:
    assert galaxy["version"] == VERSION


def test_changelog_knows_the_version(checkout: Path) -> None:
    """Either the version is released, or its summary waits as a fragment of that name."""
    releases = load_yaml(checkout / "changelogs" / "changelog.yaml")["releases"]
    assert VERSION in releases or "release_summary" in load_yaml(checkout / "changelogs" / "fragments" / f"{VERSION}.yml")


def test_every_module_is_in_the_action_group(checkout: Path) -> None:
    modules = sorted(path.stem for path in (checkout / "plugins" / "modules").glob("*.py") if path.stem != "__init__")
    assert load_yaml(checkout / "meta" / "runtime.yml")["action_groups"]["openstack"] == modules


def test_libraries_are_the_same_everywhere(checkout: Path, pyproject: dict[str, Any]) -> None:
    names = distribution_names(pyproject["project"]["dependencies"])
    assert distribution_names((checkout / "requirements" / "runtime.in").read_text(encoding="utf-8").splitlines()) == names
    assert distribution_names((checkout / "meta" / "ee-requirements.txt").read_text(encoding="utf-8").splitlines()) == names
    assert set(names) <= set(distribution_names((checkout / "requirements" / "runtime.txt").read_text(encoding="utf-8").splitlines()))


def test_every_requirement_is_pinned(checkout: Path) -> None:
    for name in ("runtime.txt", "tools.txt", "neutron-lab.txt", "upstream.txt"):
        lines = (checkout / "requirements" / name).read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if not re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line)] == []


def test_role_installs_the_pinned_versions(checkout: Path) -> None:
    """An installed collection has no `requirements/`, so the role carries a copy."""
    assert (checkout / "roles" / "runtime" / "files" / "requirements.txt").read_text(encoding="utf-8") == (
        checkout / "requirements" / "runtime.txt"
    ).read_text(encoding="utf-8")


def test_programs_and_entry_points_exist(pyproject: dict[str, Any]) -> None:
    points = [*pyproject["project"]["scripts"].values()]
    points += [point for group in pyproject["project"]["entry-points"].values() for point in group.values()]
    for point in points:
        module, attribute = point.split(":")
        assert callable(getattr(importlib.import_module(module), attribute)), point


def test_galaxy_accepts_the_metadata(checkout: Path, galaxy: dict[str, Any]) -> None:
    assert len(galaxy["tags"]) <= 20
    assert set(galaxy["license"]) == {path.stem for path in (checkout / "LICENSES").glob("*.txt")}
    assert galaxy["dependencies"] == {}
