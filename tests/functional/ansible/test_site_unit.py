# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The receiver's systemd unit, as the role's template makes it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def unit(run_play: Any, inventory: dict[str, Any], tmp_path: Path, checkout: Path) -> Any:
    """A function that makes the unit with variables of the role, and returns what it says: section.key to its values in order."""
    inventory["all"]["children"] = {"one": {"hosts": {"o1p409": {}}}}
    role = checkout / "roles" / "receiver"
    path = tmp_path / "brokerless-receiver.service"

    def make(**variables: Any) -> dict[str, list[str]]:
        defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text(encoding="utf-8"))
        inventory["all"]["vars"] |= defaults | variables
        done = run_play(
            [{"ansible.builtin.template": {"src": str(role / "templates" / "brokerless-receiver.service.j2"), "dest": str(path), "mode": "0644"}}],
            vars_files=[str(role / "vars" / "main.yml")],
        )
        assert done.exit_code == 0, done.output
        said: dict[str, list[str]] = defaultdict(list)
        section = ""
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("["):
                section = line.strip("[]")
            elif line and not line.startswith("#"):
                key, _equals, value = line.partition("=")
                said[f"{section}.{key}"].append(value)
        return said

    return make


def test_systemd_knows_when_it_is_ready_and_when_it_hangs(unit: Any) -> None:
    said = unit()
    assert said["Service.Type"] == ["notify"]
    assert int(said["Service.WatchdogSec"][0]) > 0
    assert said["Service.Restart"] == ["always"]
    assert said["Service.ExecStart"] == ["/opt/brokerless/current/bin/brokerless-receiver --config-file /etc/brokerless/brokerless.conf"]
    assert said["Service.ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert said["Install.WantedBy"] == ["multi-user.target"]


def test_it_has_a_user_and_no_rights(unit: Any) -> None:
    said = unit()
    assert said["Service.User"] == said["Service.Group"] == ["brokerless"]
    assert said["Service.CapabilityBoundingSet"] == said["Service.AmbientCapabilities"] == [""]
    assert said["Service.ProtectSystem"] == ["strict"]
    assert "Service.ReadWritePaths" not in said
    # without netlink the receiver could not tell the addresses of an adapter
    assert set(said["Service.RestrictAddressFamilies"][0].split()) == {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"}


@pytest.mark.parametrize("directory", ["/run/nova/rpc", "/var/run/nova/rpc"])
def test_the_directory_of_its_socket_is_made_at_boot(unit: Any, directory: str) -> None:
    said = unit(receiver_ipc_dir=directory)
    assert said["Service.RuntimeDirectory"] == ["nova/rpc"]
    assert said["Service.RuntimeDirectoryMode"] == ["0750"]
    assert "Service.ReadWritePaths" not in said


def test_it_may_write_where_it_is_told_to(unit: Any) -> None:
    said = unit(receiver_ipc_dir="/srv/rpc", receiver_log_file="/var/log/rpc/receiver.log")
    assert "Service.RuntimeDirectory" not in said
    assert said["Service.ReadWritePaths"] == ["/srv/rpc", "/var/log/rpc"]
    assert said["Service.ExecStart"][0].endswith(" --log-file /var/log/rpc/receiver.log")
