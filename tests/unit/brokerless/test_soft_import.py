# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json.decoder
import sys
from pathlib import Path

import pytest
from brokerless.soft_import import MissingDependency, soft_base, soft_import


def test_an_installed_module_comes_as_it_is() -> None:
    assert soft_import("json", "json") is json


def test_a_dotted_name_gives_the_innermost_module() -> None:
    assert soft_import("json.decoder", "json") is json.decoder


def test_a_missing_module_is_named_at_its_first_use() -> None:
    missing = soft_import("no_such_module_here", "no-such-distribution")
    with pytest.raises(MissingDependency) as caught:
        missing.connect()
    assert str(caught.value) == (
        "the Python library 'no-such-distribution' (module 'no_such_module_here') is needed and can't be imported: "
        "No module named 'no_such_module_here'"
    )
    assert caught.value.name == "no_such_module_here"
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_missing_part_of_an_installed_package_is_named_too() -> None:
    with pytest.raises(MissingDependency, match=r"module 'json\.nothing'"):
        soft_import("json.nothing", "json").anything  # noqa: B018 - looking is the test


def test_a_stand_in_can_be_inspected_without_harm() -> None:
    missing = soft_import("no_such_module_here", "no-such-distribution")
    assert not hasattr(missing, "__wrapped__")
    assert repr(missing)


def test_a_module_with_a_fault_of_its_own_is_not_taken_for_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module_with_a_fault.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ZeroDivisionError):
        soft_import("module_with_a_fault", "nothing")
    assert "module_with_a_fault" not in sys.modules


def test_a_class_to_derive_from_is_the_library_s_own() -> None:
    assert soft_base(soft_import("json", "json"), "JSONDecoder") is json.JSONDecoder


def test_a_class_to_derive_from_that_is_missing_fails_when_an_instance_is_made() -> None:
    class Derived(soft_base(soft_import("no_such_module_here", "no-such-distribution"), "Base")):  # type: ignore[misc]
        """Derives from what is not there."""

    with pytest.raises(MissingDependency, match="no-such-distribution"):
        Derived("anything")
