# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The systemd units of the receiver and of rpcdaemon, as the roles' templates make them."""

from __future__ import annotations

import functools
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def unit_of(run_play: Any, inventory: dict[str, Any], tmp_path: Path, checkout: Path) -> Any:
    """A function that makes the unit of a role with variables, and returns what it says: section.key to its values in order."""
    inventory["all"]["children"] = {"one": {"hosts": {"o1p409": {}}}}

    def make(role_name: str, template: str, **variables: Any) -> dict[str, list[str]]:
        role, path = checkout / "roles" / role_name, tmp_path / template
        defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text(encoding="utf-8"))
        inventory["all"]["vars"] |= defaults | variables
        done = run_play(
            [{"ansible.builtin.template": {"src": str(role / "templates" / f"{template}.j2"), "dest": str(path), "mode": "0644"}}],
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


@pytest.fixture
def unit(unit_of: Any) -> Any:
    """A function that makes the receiver's unit."""
    return functools.partial(unit_of, "receiver", "brokerless-receiver.service")


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


def test_rpcdaemon_is_started_again_when_it_fails_and_has_no_rights(unit_of: Any) -> None:
    said = unit_of("rpcdaemon", "rpcdaemon.service")
    assert (said["Service.Type"], said["Service.Restart"]) == (["notify"], ["on-failure"])
    assert said["Service.ExecStart"] == ["/opt/brokerless/current/bin/rpcdaemon -c /etc/rpcdaemon.conf -d"]
    assert said["Service.User"] == said["Service.Group"] == ["rpcdaemon"]
    assert said["Service.CapabilityBoundingSet"] == said["Service.AmbientCapabilities"] == [""]
    assert said["Service.ReadWritePaths"] == ["/var/lib/rpcdaemon"]
    assert not {"Service.Environment", "Service.SupplementaryGroups", "Service.StandardOutput"} & said.keys()


def test_rpcdaemon_finds_its_credentials_and_writes_where_it_is_told_to(unit_of: Any) -> None:
    said = unit_of(
        "rpcdaemon",
        "rpcdaemon.service",
        rpcdaemon_auth={"auth": {"password": "sesame"}},
        rpcdaemon_supplementary_groups=["neutron"],
        rpcdaemon_log_file="/var/log/rpcdaemon/rpcdaemon.log",
        rpcdaemon_audit_file="/srv/audit/rpcdaemon.json",
    )
    assert said["Service.Environment"] == ["OS_CLIENT_CONFIG_FILE=/etc/rpcdaemon-clouds.yaml"]
    assert said["Service.SupplementaryGroups"] == ["neutron"]
    assert said["Service.StandardOutput"] == ["append:/var/log/rpcdaemon/rpcdaemon.log"]
    assert said["Service.ReadWritePaths"] == ["/var/lib/rpcdaemon", "/var/log/rpcdaemon", "/srv/audit"]
