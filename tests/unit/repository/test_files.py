# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Licence headers, and nothing in any file that belongs to one machine only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from checkout_files import files_of_checkout

FILES = files_of_checkout()
PYTHON_FILES = [name for name in FILES if name.endswith(".py") and name.startswith(("plugins/", "tools/", "demo/"))]
GPL_LINE = "# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)"
MACHINE_PATH = re.compile(r"(?<![\w.~}])/(?:work|root|home|Users|tmp)/[\w.]")


def expected_licence(name: str) -> str:
    """Modules and plugins that Ansible loads are GPL-3.0-or-later, as it asks; all else, the runtime above all, is Apache-2.0."""
    of_ansible = name.startswith("plugins/") and not name.startswith("plugins/module_utils/")
    return "GPL-3.0-or-later" if of_ansible else "Apache-2.0"


def licence_faults(name: str, source: str) -> list[str]:
    """Return what is wrong with the header of a Python file."""
    head = source.splitlines()[:4]
    licence = expected_licence(name)
    wanted = ["# Copyright: Contributors to brokerless.openstack", f"# SPDX-License-Identifier: {licence}"]
    if licence == "GPL-3.0-or-later":
        wanted.append(GPL_LINE)
    return [f"no line {line!r}" for line in wanted if line not in head]


@pytest.mark.parametrize("name", PYTHON_FILES)
def test_python_file_has_its_licence_header(checkout: Path, name: str) -> None:
    assert licence_faults(name, (checkout / name).read_text(encoding="utf-8")) == []


def test_wrong_licence_is_noticed() -> None:
    apache = "# Copyright: Contributors to brokerless.openstack\n# SPDX-License-Identifier: Apache-2.0\n"
    assert licence_faults("plugins/module_utils/brokerless/x.py", apache) == []
    assert licence_faults("plugins/filter/x.py", apache) == ["no line '# SPDX-License-Identifier: GPL-3.0-or-later'", f"no line {GPL_LINE!r}"]


@pytest.mark.parametrize("name", [name for name in PYTHON_FILES if name.startswith("plugins/")])
def test_plugin_file_defers_annotations(checkout: Path, name: str) -> None:
    assert "\nfrom __future__ import annotations\n" in (checkout / name).read_text(encoding="utf-8")


def test_no_file_names_a_path_of_one_machine(checkout: Path) -> None:
    found = []
    for name in FILES:
        content = (checkout / name).read_bytes()
        text = content.decode("utf-8", errors="replace")
        found += [f"{name}: {match.group(0)}" for match in MACHINE_PATH.finditer(text)]
        if str(checkout).encode() + b"/" in content:
            found.append(f"{name}: the path of this checkout")
    assert found == []


@pytest.mark.parametrize("text", ["see " + "/home/" + "me/x", "'" + "/root/" + ".cache'"])
def test_machine_path_is_noticed(text: str) -> None:
    assert MACHINE_PATH.search(text)


def test_no_sanity_test_is_ignored() -> None:
    assert [name for name in FILES if name.startswith("tests/sanity/ignore")] == []
