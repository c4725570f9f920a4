# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The runtime knows nothing of Ansible, stays inside itself, and loads on a machine that has none of its libraries."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
MODULE_UTILS = CHECKOUT / "plugins" / "module_utils"
RUNTIME = MODULE_UTILS / "brokerless"
RUNTIME_FILES = sorted(RUNTIME.rglob("*.py"))
ANSIBLE_FILES = sorted(file for file in (CHECKOUT / "plugins").rglob("*.py") if RUNTIME not in file.parents)
RUNTIME_TESTS = sorted((CHECKOUT / "tests" / "unit" / "brokerless").rglob("*.py"))


def name_of(path: Path) -> str:
    """Name a file in a test's id."""
    return str(path.relative_to(CHECKOUT))


def only_for_types(tree: ast.AST) -> set[ast.AST]:
    """Return the nodes that only a type checker runs: those below `if TYPE_CHECKING:`."""
    blocks = (node for node in ast.walk(tree) if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING")
    return {inner for block in blocks for statement in block.body for inner in ast.walk(statement)}


def imported_names(node: ast.AST) -> Iterator[str]:
    """Yield the absolute names that an import statement names, and those that are imported by a string."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        yield node.module
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"importlib.import_module", "import_module", "__import__"}:
        yield from (argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant) and isinstance(argument.value, str))


def soft_imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield module and distribution of every `soft_import` call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "soft_import":
            module, distribution = (ast.literal_eval(argument) for argument in node.args)
            yield module, distribution


def faults_of_runtime_file(source: str, depth: int) -> list[str]:
    """Return what breaks the layer's rules in the source of a file `depth` folders below the runtime's root."""
    tree = ast.parse(source)
    typing_only = only_for_types(tree)
    faults = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level > depth + 1:
            faults.append(f"line {node.lineno} climbs out of the runtime")
        for name in imported_names(node):
            package = name.partition(".")[0]
            if package in {"ansible", "ansible_collections"}:
                faults.append(f"{name} is Ansible's")
            elif package == "brokerless":
                faults.append(f"{name} must be a relative import: inside the collection the package has another name")
            elif package not in sys.stdlib_module_names and node not in typing_only:
                faults.append(f"{name} must come by soft_import")
    faults += [
        f"{module} is Ansible's" for module, _distribution in soft_imports(tree) if module.partition(".")[0] in {"ansible", "ansible_collections"}
    ]
    return faults


def faults_of_ansible_file(source: str) -> list[str]:
    """Return the imports of a module or plugin that come from other collections, or that take the runtime by its wheel's name."""
    names = [name for node in ast.walk(ast.parse(source)) for name in imported_names(node)]
    other = re.compile(r"(ansible_collections(?!\.brokerless\.openstack\.)|brokerless)(\.|$)")
    return [f"{name} is not of this collection" for name in names if other.match(name)]


@pytest.mark.parametrize("path", RUNTIME_FILES, ids=name_of)
def test_runtime_file_keeps_to_its_layer(path: Path) -> None:
    assert faults_of_runtime_file(path.read_text(encoding="utf-8"), len(path.relative_to(RUNTIME).parts) - 1) == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("import ansible.errors", "ansible.errors is Ansible's"),
        ("def f():\n    from ansible_collections.a.b import c", "ansible_collections.a.b is Ansible's"),
        ("import zmq", "zmq must come by soft_import"),
        ("import importlib\nimportlib.import_module('zmq')", "zmq must come by soft_import"),
        (
            "from brokerless.version import VERSION",
            "brokerless.version must be a relative import: inside the collection the package has another name",
        ),
        ("from ...version import VERSION", "line 1 climbs out of the runtime"),
        ("x = soft_import('ansible.errors', 'ansible-core')", "ansible.errors is Ansible's"),
    ],
)
def test_breaking_the_layer_is_noticed(source: str, fault: str) -> None:
    assert faults_of_runtime_file(source, depth=1) == [fault]


def test_what_the_layer_allows() -> None:
    source = "import json\nfrom ..version import VERSION\nif TYPE_CHECKING:\n    import zmq\nelse:\n    zmq = soft_import('zmq', 'pyzmq')\n"
    assert faults_of_runtime_file(source, depth=1) == []


@pytest.mark.parametrize("path", ANSIBLE_FILES, ids=name_of)
def test_plugin_imports_this_collection_by_its_full_name(path: Path) -> None:
    assert faults_of_ansible_file(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", ["ansible_collections.community.general.plugins", "brokerless", "brokerless.rpc.topics"])
def test_import_of_something_else_is_noticed(name: str) -> None:
    assert faults_of_ansible_file(f"import {name}") == [f"{name} is not of this collection"]
    assert faults_of_ansible_file("import ansible_collections.brokerless.openstack.plugins.module_utils.brokerless.rpc") == []


@pytest.mark.parametrize("path", RUNTIME_TESTS, ids=name_of)
def test_runtime_test_uses_one_name_of_the_runtime(path: Path) -> None:
    """Under two names in one process every exception class exists twice."""
    names = [name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) for name in imported_names(node)]
    assert [name for name in names if name.startswith("ansible_collections")] == []


def test_every_library_of_the_runtime_is_declared(pyproject: dict[str, Any]) -> None:
    optional = [requirement for extra in pyproject["project"]["optional-dependencies"].values() for requirement in extra]
    declared = {re.split(r"[<>=!~ ]", requirement)[0] for requirement in [*pyproject["project"]["dependencies"], *optional]}
    used = {distribution for path in RUNTIME_FILES for _module, distribution in soft_imports(ast.parse(path.read_text(encoding="utf-8")))}
    assert used <= declared
