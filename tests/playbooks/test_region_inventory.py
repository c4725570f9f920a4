# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""ring.yml runs for the example inventory of a region, of which three hosts are deployed here, each in a directory of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
DEPLOYED = ("control1", "network1", "compute01")


def test_the_ring_of_the_region_lists_all_of_its_hosts(checkout: Path, tmp_path: Path) -> None:
    here = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "ansible_remote_tmp": str(tmp_path / "remote_tmp"),
        "brokerless_become": False,
        "receiver_service_manager": "process",
        "receiver_state": "stopped",
        "receiver_runtime": str(BIN.parent),
        "receiver_config_dir": str(tmp_path) + "/{{ inventory_hostname_short }}",
    }
    for host in DEPLOYED:
        (tmp_path / host / "curve_hosts").mkdir(parents=True)
    done = subprocess.run(
        [
            *(str(BIN / "ansible-playbook"), "--inventory=files/inventory/region", f"--extra-vars={json.dumps(here)}"),
            *(f"--limit={','.join(f'{host}.*' for host in DEPLOYED)}", "playbooks/ring.yml"),
        ],
        cwd=checkout,
        env={**os.environ, "ANSIBLE_CONFIG": str(checkout / "ansible.cfg"), "ANSIBLE_HOME": str(tmp_path / "home"), "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    rings = [json.loads((tmp_path / host / "matchmaker_ring.json").read_text(encoding="utf-8")) for host in DEPLOYED]
    assert rings[0] == rings[1] == rings[2]
    assert rings[0]["scheduler"] == ["control1", "control2", "control3"]
    assert rings[0]["l3_agent"] == ["network1", "network2", "network3"]
    assert rings[0]["compute"] == [f"compute{number:02}" for number in range(1, 41)]
    assert len(rings[0]["q-agent-notifier-*"]) == 43
    assert {path.stem for path in (tmp_path / "compute01" / "curve_hosts").iterdir()} == set(DEPLOYED)


def test_the_addresses_of_the_region_follow_from_the_names(checkout: Path, tmp_path: Path) -> None:
    hosts = "control3.region1.example.com,network1.region1.example.com,compute40.region1.example.com"
    done = subprocess.run(
        [
            *(str(BIN / "ansible"), "--inventory=files/inventory/region", "--connection=local", hosts),
            *("--module-name=ansible.builtin.debug", "--args=var=brokerless_address", "--one-line"),
        ],
        cwd=checkout,
        env={**os.environ, "ANSIBLE_CONFIG": str(checkout / "ansible.cfg"), "ANSIBLE_HOME": str(tmp_path / "home"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for host, address in (("control3", "10.20.1.3"), ("network1", "10.20.2.1"), ("compute40", "10.20.3.40")):
        assert any(line.startswith(f"{host}.") and address in line for line in done.stdout.splitlines()), done.stdout
