# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The role rpcdaemon, drain.yml and undrain.yml on a host of the embedded inventory, with a real RabbitMQ and no Neutron.

The runtime is run from the sources: how it is installed, other tests show. The tests run in the order of this file, on one deployment in a
directory of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from embedded_site import Run, Site, end
from rabbitmq_server import RabbitmqServer
from receiver_process import RUNTIME, free_port, short_directory, wait_until

pytestmark = pytest.mark.timeout(600)
"""Whichever test is first waits for the deployment."""
HOST = "control1"
PASSWORD = "sesame#open"
START = "Have rpcdaemon's process started"
RESTART = "Restart rpcdaemon's process"
CONFIGURE = "Write rpcdaemon's configuration"
CREDENTIALS = "Write rpcdaemon's credentials"


class Deployment(Site):
    """The site, of which only one host runs rpcdaemon."""

    def pid(self, host: str = HOST) -> int:
        """The pid of rpcdaemon."""
        return int(self.file(host, "rpcdaemon/rpcdaemon.pid").read_text(encoding="utf-8").splitlines()[0])

    def rpcdaemon(self, *command: str) -> subprocess.CompletedProcess[str]:
        """What a command of the program comes to."""
        program = [f"{self.variables['rpcdaemon_runtime']}/bin/rpcdaemon", "-c", str(self.file(HOST, "rpcdaemon/rpcdaemon.conf"))]
        return subprocess.run([*program, *command], capture_output=True, text=True, check=False)

    def alarms(self) -> set[str]:
        """The names of its alarms."""
        return {alarm["name"] for alarm in json.loads(self.rpcdaemon("check", "--json").stdout)["alarms"]}

    def make_runtime(self) -> str:
        """Return a directory that has the program where a runtime has it."""
        program = self.directory / "runtime" / "bin" / "rpcdaemon"
        program.parent.mkdir(parents=True)
        start = "from brokerless.cmd.rpcdaemon import main; raise SystemExit(main())"
        program.write_text(f"#!/bin/sh\nPYTHONPATH='{RUNTIME}' exec '{sys.executable}' -c '{start}' \"$@\"\n", encoding="utf-8")
        program.chmod(0o755)
        return str(program.parent.parent)

    def deploy(self, *arguments: str, **variables: Any) -> Run:
        """Run the role on the host."""
        playbook = self.directory / "role.yml"
        play = {"hosts": HOST, "gather_facts": False, "force_handlers": True, "roles": ["brokerless.openstack.rpcdaemon"]}
        playbook.write_text(json.dumps([play]), encoding="utf-8")
        return self.play(str(playbook), *arguments, **variables)


@pytest.fixture(scope="module")
def site(checkout: Any) -> Iterator[Deployment]:
    """A place for the host, and a RabbitMQ; the daemon is stopped at the end."""
    with short_directory() as directory, RabbitmqServer() as broker:
        home = directory / "h"
        home.mkdir()
        site = Deployment(checkout, directory, home)
        auth = {
            "auth_url": f"http://127.0.0.1:{free_port(['127.0.0.1'])}/v3",
            "username": "rpcdaemon",
            "password": PASSWORD,
            "project_name": "service",
        }
        site.variables |= {
            "brokerless_rpcdaemon_groups": ["control"],
            "rpcdaemon_runtime": site.make_runtime(),
            "rpcdaemon_rpchost": broker.url,
            "rpcdaemon_metrics_port": free_port(["127.0.0.1"]),
            # one of several waits for a lease before it does anything
            "rpcdaemon_options": {"Daemon": {"leader": "single"}},
            "rpcdaemon_auth": {"auth": {**auth, "user_domain_id": "default", "project_domain_id": "default"}},
        }
        try:
            yield site
        finally:
            if site.file(HOST, "rpcdaemon/rpcdaemon.pid").exists():
                end(site.pid())


@pytest.fixture(scope="module")
def deployed(site: Deployment) -> tuple[Run, Run]:
    """The forecast on a host that has nothing, and the deployment."""
    forecast = site.deploy("--check", "--diff")
    assert forecast.exit_code == 0, forecast.output
    assert HOST not in site.written(), "check mode wrote something"
    real = site.deploy("--diff")
    assert real.exit_code == 0, real.output
    return forecast, real


def test_check_mode_foretells_exactly_what_the_first_run_changes(deployed: tuple[Run, Run]) -> None:
    forecast, real = deployed
    assert forecast.changed == real.changed
    assert real.tasks_of(HOST) == {"Make rpcdaemon's directories", CREDENTIALS, CONFIGURE, START}


def test_credentials_are_shown_to_nobody(site: Deployment, deployed: tuple[Run, Run]) -> None:
    assert all(PASSWORD not in run.output and site.variables["rpcdaemon_rpchost"] not in run.output for run in deployed)
    clouds = site.file(HOST, "rpcdaemon/rpcdaemon-clouds.yaml")
    assert PASSWORD in clouds.read_text(encoding="utf-8")
    assert clouds.stat().st_mode & 0o777 == 0o400
    config = site.file(HOST, "rpcdaemon/rpcdaemon.conf")
    assert PASSWORD not in config.read_text(encoding="utf-8")
    assert config.stat().st_mode & 0o777 == 0o640


@pytest.mark.usefixtures("deployed")
def test_the_second_run_changes_nothing(site: Deployment) -> None:
    before = site.pid()
    again = site.deploy()
    assert (again.exit_code, again.changed) == (0, frozenset()), again.output
    assert site.pid() == before


@pytest.mark.usefixtures("deployed")
def test_a_changed_configuration_restarts_it_once(site: Deployment) -> None:
    before = site.pid()
    site.variables["rpcdaemon_policy"] = {"hold_off": 20, "fencing_by_host": {"net1": "try"}}
    forecast = site.deploy("--check")
    real = site.deploy()
    assert real.exit_code == 0, real.output
    assert real.changed == forecast.changed == {(HOST, CONFIGURE), (HOST, RESTART)}
    assert site.pid() != before


@pytest.mark.usefixtures("deployed")
def test_a_configuration_that_rpcdaemon_refuses_replaces_nothing(site: Deployment) -> None:
    before, config = site.pid(), site.file(HOST, "rpcdaemon/rpcdaemon.conf")
    old = config.read_text(encoding="utf-8")
    contradictions = {
        "rpcdaemon_options": {"Daemon": {"plugins": "L3Agent"}},
        "rpcdaemon_auth": {},
        "rpcdaemon_audit_file": "/var/log/audit.json",
    }
    for variables, complaints in (
        ({"rpcdaemon_policy": {"hold_off": "soon"}}, ["hold_off is 'soon'"]),
        (
            contradictions,
            [
                "rpcdaemon_options sets [Daemon] plugins, which this role writes itself",
                "rpcdaemon can't get at Neutron's API",
                "/var/log would become rpcdaemon's own",
            ],
        ),
    ):
        refused = site.deploy(**variables)
        assert refused.exit_code != 0
        said = " ".join(refused.output.split()).replace("\\", "")
        assert [complaint for complaint in complaints if complaint not in said] == []
    assert config.read_text(encoding="utf-8") == old
    assert site.pid() == before


@pytest.mark.usefixtures("deployed")
def test_it_leads_and_tells_what_it_misses(site: Deployment) -> None:
    wait_until(lambda: site.rpcdaemon("check").returncode == 2, "the daemon leads, and alarms")
    wait_until(lambda: site.alarms() == {"deaf", "api"}, "it misses the agents and Neutron")
    assert json.loads(site.rpcdaemon("status", "--json").stdout)["leads"] is True


@pytest.mark.usefixtures("deployed")
def test_prometheus_sees_what_it_is_doing(site: Deployment) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{site.variables['rpcdaemon_metrics_port']}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    assert {"rpcdaemon_leader 1.0", "rpcdaemon_deaf 1.0", 'rpcdaemon_alarms{level="critical",name="deaf"} 1.0'} <= set(lines)
    assert any(line.startswith('rpcdaemon_api_calls_total{call="GET agents"}') for line in lines)


@pytest.mark.usefixtures("deployed")
def test_drains_are_brought_before_the_leader(site: Deployment) -> None:
    """As Neutron is not there, it knows no host. What it does with hosts that it knows is tried with real agents."""
    for playbook, *arguments in (["drain.yml"], ["undrain.yml", "--check"]):
        refused = site.play(playbook, *arguments, drain_hosts="net1", rpcdaemon_config_file=str(site.file(HOST, "rpcdaemon/rpcdaemon.conf")))
        assert refused.exit_code != 0
        assert "Neutron has no agent on host 'net1'" in " ".join(refused.output.split())
        assert refused.changed == frozenset()
    assert "name the hosts, as Neutron calls them, in drain_hosts" in " ".join(site.play("drain.yml").output.split())


@pytest.mark.usefixtures("deployed")
def test_credentials_that_are_not_wanted_any_more_are_removed(site: Deployment) -> None:
    conf = site.directory / "neutron.conf"
    auth = site.variables["rpcdaemon_auth"]["auth"]
    conf.write_text("[keystone_authtoken]\nauth_type = password\n" + "".join(f"{name} = {value}\n" for name, value in auth.items()), encoding="utf-8")
    variables = {"rpcdaemon_auth": {}, "rpcdaemon_neutron_conf": str(conf)}
    forecast = site.deploy("--check", **variables)
    real = site.deploy(**variables)
    assert real.exit_code == 0, real.output
    # another environment is another process
    assert real.changed == forecast.changed == {(HOST, CONFIGURE), (HOST, "Have no credentials of rpcdaemon left"), (HOST, START)}
    assert not site.file(HOST, "rpcdaemon/rpcdaemon-clouds.yaml").exists()


@pytest.mark.parametrize("playbook", ["rpcdaemon.yml", "site.yml"])
def test_playbooks_reach_the_hosts_of_the_groups_that_are_named(site: Deployment, playbook: str) -> None:
    groups = {"brokerless_receiver_groups": [], "brokerless_rpcdaemon_groups": ["compute"]}
    forecast = site.play(playbook, "--check", "--limit=control1,compute1", **groups)
    assert forecast.exit_code == 0, forecast.output
    assert {"Install the wheel", START} <= forecast.tasks_of("compute1")
    assert forecast.tasks_of(HOST) == set()
