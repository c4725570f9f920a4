# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The collection's tarball holds what it should, and works where nothing else is."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml
from brokerless.version import VERSION
from build_artifacts import Artifacts, build_tarball
from checkout_files import CHECKOUT, files_of_checkout
from empty_places import BARE_PYTHON, InstalledCollection

MODULES = sorted(Path(name).stem for name in files_of_checkout("plugins/modules/*.py"))
ROLES = sorted(path.name for path in (CHECKOUT / "roles").iterdir() if path.is_dir())
PLAYBOOKS = sorted(Path(name).stem for name in files_of_checkout("playbooks/*.yml"))

INVENTORY = f"""
all:
  vars:
    ansible_connection: local
    ansible_python_interpreter: {BARE_PYTHON}
  children:
    control:
      hosts: {{control1: {{}}}}
    computes:
      hosts: {{compute1: {{}}, compute2: {{}}}}
"""

RING_PLAYBOOK = """
- name: Write a ring
  hosts: control1
  gather_facts: false
  tasks:
    - name: Write it
      brokerless.openstack.matchmaker_ring:
        path: "{{ inventory_dir }}/ring.json"
        topics:
          scheduler: {groups: [control]}
          compute: {groups: [computes], hosts: [o3p409]}
"""

RUNTIME_PLAYBOOK = """
- name: Install the runtime
  hosts: control1
  gather_facts: false
  roles:
    - role: brokerless.openstack.runtime
"""


def names_in(tarball: Path) -> set[str]:
    """Return the names of the files in a tarball, but for the manifest that is written on building."""
    with tarfile.open(tarball) as tar:
        return {member.name for member in tar.getmembers() if member.isfile()} - {"MANIFEST.json", "FILES.json"}


def test_tarball_holds_files_of_the_checkout_and_the_wheel(artifacts: Artifacts) -> None:
    names = names_in(artifacts.tarball)
    carried = f"roles/runtime/files/{artifacts.wheel.name}"
    assert names - set(files_of_checkout()) == {carried}
    wanted = files_of_checkout(
        "plugins/*", "roles/*", "playbooks/*", "meta/*", "changelogs/*", "files/*", "LICENSE", "LICENSES/*", "README.md", "pyproject.toml"
    )
    assert set(wanted) <= names


def test_tarball_from_the_checkout_holds_nothing_that_git_ignores(tmp_path: Path) -> None:
    """galaxy.yml repeats .gitignore, as `ansible-galaxy` knows none."""
    extra = names_in(build_tarball(CHECKOUT, tmp_path)) - set(files_of_checkout())
    assert {name for name in extra if not name.endswith(".whl")} == set()


def test_manifest_says_what_it_is(collection: InstalledCollection) -> None:
    info = json.loads((collection.root / "MANIFEST.json").read_text(encoding="utf-8"))["collection_info"]
    assert (info["namespace"], info["name"], info["version"]) == ("brokerless", "openstack", VERSION)


@pytest.mark.parametrize("module", MODULES)
def test_module_is_documented(collection: InstalledCollection, module: str) -> None:
    name = f"brokerless.openstack.{module}"
    entry = json.loads(collection.ansible("ansible-doc", "--json", "--type", "module", name))[name]
    assert entry["doc"]["options"]
    assert entry["examples"].strip()
    assert entry["return"]


def test_filter_and_roles_are_documented(collection: InstalledCollection) -> None:
    assert "brokerless.openstack.ring" in json.loads(collection.ansible("ansible-doc", "--json", "--type", "filter", "brokerless.openstack.ring"))
    roles = json.loads(collection.ansible("ansible-doc", "--json", "--type", "role", "--list", "brokerless.openstack"))
    assert sorted(roles) == [f"brokerless.openstack.{role}" for role in ROLES]


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_playbook_is_found_by_its_full_name(collection: InstalledCollection, playbook: str) -> None:
    inventory = collection.folder / "inventory.yml"
    inventory.write_text(INVENTORY, encoding="utf-8")
    collection.ansible("ansible-playbook", "--inventory", inventory, "--syntax-check", f"brokerless.openstack.{playbook}")


def play(collection: InstalledCollection, folder: Path, playbook: str, *arguments: str) -> str:
    """Run a playbook on the inventory, both written into `folder`, and return the line of its recap."""
    (folder / "inventory.yml").write_text(INVENTORY, encoding="utf-8")
    (folder / "play.yml").write_text(playbook, encoding="utf-8")
    output = collection.ansible("ansible-playbook", "--inventory", folder / "inventory.yml", *arguments, folder / "play.yml")
    return output[output.index("PLAY RECAP") :]


def test_ring_is_written_from_the_inventory(collection: InstalledCollection, tmp_path: Path) -> None:
    assert "changed=1 " in play(collection, tmp_path, RING_PLAYBOOK)
    assert json.loads((tmp_path / "ring.json").read_text(encoding="utf-8")) == {
        "compute": ["compute1", "compute2", "o3p409"],
        "scheduler": ["control1"],
    }
    assert "changed=0 " in play(collection, tmp_path, RING_PLAYBOOK)


def test_runtime_installs_offline_from_the_four_folders_of_ansible(artifacts: Artifacts, wheelhouse: Path, tmp_path: Path) -> None:
    """Plugins and roles use no file outside meta, plugins, roles and playbooks; the role takes the wheel that the tarball carries."""
    place = InstalledCollection(tmp_path)
    place.ansible("ansible-galaxy", "collection", "install", "--offline", "--force", "--collections-path", "collections", artifacts.tarball)
    for entry in place.root.iterdir():
        if entry.is_dir() and entry.name not in {"meta", "plugins", "roles", "playbooks"}:
            shutil.rmtree(entry)
        elif entry.is_file() and entry.name not in {"MANIFEST.json", "FILES.json"}:
            entry.unlink()
    settings = {"runtime_prefix": str(tmp_path / "prefix"), "runtime_wheelhouse": str(wheelhouse), "runtime_python": str(BARE_PYTHON)}
    recap = play(place, tmp_path, RUNTIME_PLAYBOOK, "--extra-vars", yaml.safe_dump(settings, default_flow_style=True, width=10_000).strip())
    assert "failed=0 " in recap
    program = tmp_path / "prefix" / "current" / "bin" / "brokerless-receiver"
    assert subprocess.run([program, "--help"], check=True, capture_output=True, text=True).stdout.startswith("usage: brokerless-receiver")
