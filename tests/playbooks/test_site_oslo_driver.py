# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The role oslo_driver on a host of the embedded inventory, for a virtual environment with a real oslo.messaging.

The tests run in the order of this file, on one deployment in a directory of its own. The receiver and the runtime's wheel are there already: how they
come, other tests show. Users and units are for hosts with systemd.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from embedded_site import Run, Site
from receiver_process import hosts, short_directory
from upstream_suite import LOCK_FILE, pip_install, wheel

pytestmark = pytest.mark.timeout(600)
"""Whichever test is first waits for the deployment."""
HOST = "control1"
INSTALL = "Install the driver for nova"
FILE = "Write the transport of nova"
CALL = """
import sys
import oslo_messaging
from oslo_config import cfg

conf = cfg.CONF
conf([], project="nova", default_config_files=[], default_config_dirs=[sys.argv[1]])
transport = oslo_messaging.get_rpc_transport(conf)


class Endpoint:
    def twice(self, context, number):
        return 2 * number


server = oslo_messaging.get_rpc_server(transport, oslo_messaging.Target(topic="doubling", server="one"), [Endpoint()])
server.start()
client = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic="doubling"), timeout=20)
print(conf.transport_url, client.call({}, "twice", number=21))
server.stop()
server.wait()
"""


class Deployment(Site):
    """The site, with a service called nova on one host."""

    @property
    def venv(self) -> Path:
        """The service's virtual environment."""
        return self.directory / "nova"

    @property
    def config_dir(self) -> Path:
        """The directory of the service's configuration."""
        return self.directory / "nova.conf.d"

    def service(self, **more: Any) -> dict[str, Any]:
        """The service, as the role is told of it."""
        return {"name": "nova", "venv": str(self.venv), "config_dir": str(self.config_dir), **more}

    def play_roles(self, *roles: str, arguments: tuple[str, ...] = (), **variables: Any) -> Run:
        """Run roles on the host."""
        playbook = self.directory / "roles.yml"
        names = [f"brokerless.openstack.{role}" for role in roles]
        playbook.write_text(json.dumps([{"hosts": HOST, "gather_facts": False, "force_handlers": True, "roles": names}]), encoding="utf-8")
        return self.play(str(playbook), *arguments, **{"oslo_driver_services": [self.service()]} | variables)

    def has(self) -> dict[str, str]:
        """The libraries of the virtual environment, and their versions."""
        command = [str(self.venv / "bin" / "python"), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
        return {found["name"]: found["version"] for found in json.loads(subprocess.run(command, capture_output=True, check=True).stdout)}

    def python(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a script with the service's own Python."""
        return subprocess.run([str(self.venv / "bin" / "python"), "-c", script, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(checkout: Path) -> Iterator[Deployment]:
    """A host with a receiver, the runtime's wheel, and a service's virtual environment."""
    with short_directory() as directory, hosts([HOST], ring={"any": [HOST]}, rpc_zmq_matchmaker="mesh") as (receiver,):
        home = directory / "h"
        home.mkdir()
        site = Deployment(checkout, directory, home)
        subprocess.run([sys.executable, "-m", "venv", site.venv], check=True)
        pip_install(site.venv, "--no-deps", "--requirement", str(LOCK_FILE))
        wheels = site.file(HOST, "runtime/wheels")
        wheels.mkdir(parents=True)
        shutil.copy(wheel(), wheels)
        site.variables |= {"runtime_wheel": str(wheel()), "oslo_driver_ipc_dir": str(receiver.ipc_directory)}
        yield site


@pytest.fixture(scope="module")
def deployed(site: Deployment) -> tuple[dict[str, str], Run, Run]:
    """What the service had, the forecast on a host that has nothing else, and the deployment."""
    before = site.has()
    forecast = site.play_roles("oslo_driver", arguments=("--check", "--diff"))
    assert forecast.exit_code == 0, forecast.output
    assert (site.has(), site.config_dir.exists()) == (before, False), "check mode wrote something"
    real = site.play_roles("oslo_driver", arguments=("--diff",))
    assert real.exit_code == 0, real.output
    return before, forecast, real


def test_check_mode_foretells_exactly_what_the_first_run_changes(deployed: tuple[dict[str, str], Run, Run]) -> None:
    _before, forecast, real = deployed
    assert forecast.changed == real.changed
    assert real.tasks_of(HOST) >= {INSTALL, FILE, "Note which wheel is in the venv of nova", "Make the directory for the configuration of nova"}


def test_no_library_of_the_service_is_another_than_before(site: Deployment, deployed: tuple[dict[str, str], Run, Run]) -> None:
    before, _forecast, _real = deployed
    after = site.has()
    assert "brokerless-openstack" in after.keys() - before.keys()
    assert {name: after.get(name) for name in before} == before


@pytest.mark.usefixtures("deployed")
def test_the_second_run_changes_nothing(site: Deployment) -> None:
    again = site.play_roles("oslo_driver")
    assert (again.exit_code, again.changed) == (0, frozenset()), again.output


@pytest.mark.usefixtures("deployed")
def test_a_service_with_this_configuration_calls_by_the_receiver(site: Deployment) -> None:
    done = site.python(CALL, str(site.config_dir))
    assert done.stdout == "zmq:// 42\n", done.stderr


@pytest.mark.usefixtures("deployed")
def test_what_is_asked_for_is_what_the_file_says(site: Deployment) -> None:
    cell = site.service(virtual_host="cell1", options={"rpc_cast_timeout": 60})
    forecast = site.play_roles("oslo_driver", arguments=("--check",), oslo_driver_services=[cell])
    real = site.play_roles("oslo_driver", oslo_driver_services=[cell], oslo_driver_options={"rpc_cast_timeout": 30, "rpc_thread_pool_size": 64})
    assert real.exit_code == 0, real.output
    assert forecast.changed == real.changed
    assert {task for task in real.tasks_of(HOST) if task != "Remember the change for nova"} == {FILE}
    text = (site.config_dir / "90-brokerless.conf").read_text(encoding="utf-8")
    assert "transport_url = zmq:///cell1\n\n[oslo_messaging_zmq]\nrpc_cast_timeout = 60\nrpc_thread_pool_size = 64\nrpc_zmq_host = control1\n" in text
    old = site.service(rpc_backend="nova.rpc.impl_zmq")
    assert site.play_roles("oslo_driver", oslo_driver_services=[old]).exit_code == 0
    text = (site.config_dir / "90-brokerless.conf").read_text(encoding="utf-8")
    assert "[DEFAULT]\nrpc_backend = nova.rpc.impl_zmq\nrpc_zmq_host = control1\nrpc_zmq_ipc_dir = " in text
    assert "transport_url" not in text


@pytest.mark.usefixtures("deployed")
def test_absent_takes_the_driver_and_the_file_away(site: Deployment) -> None:
    forecast = site.play_roles("oslo_driver", arguments=("--check",), oslo_driver_state="absent")
    real = site.play_roles("oslo_driver", oslo_driver_state="absent")
    assert real.exit_code == 0, real.output
    assert forecast.changed == real.changed != frozenset()
    assert list(site.config_dir.iterdir()) == []
    assert "brokerless-openstack" not in site.has()
    assert list(site.venv.glob("brokerless*")) == []
    again = site.play_roles("oslo_driver", oslo_driver_state="absent")
    assert (again.exit_code, again.changed) == (0, frozenset()), again.output


@pytest.mark.usefixtures("deployed")
def test_a_library_that_would_be_replaced_is_named_and_nothing_changes(site: Deployment) -> None:
    (packages,) = site.venv.glob("lib/python*/site-packages")
    (found,) = packages.glob("msgpack-*.dist-info")
    metadata = found / "METADATA"
    metadata.write_text(metadata.read_text(encoding="utf-8").replace(f"Version: {site.has()['msgpack']}", "Version: 0.6.2"), encoding="utf-8")
    old = found.rename(packages / "msgpack-0.6.2.dist-info")
    before = site.has()
    refused = site.play_roles("oslo_driver")
    assert refused.exit_code != 0
    assert "which this role does not replace: msgpack 0.6.2 by" in " ".join(refused.output.split())
    assert (refused.changed, site.has()) == (frozenset(), before)
    assert old.exists()


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"venv": "/nowhere/nova"}, "has no virtual environment at /nowhere/nova"),
        ({"config_dir": "etc"}, "etc is not an absolute path"),
        ({"options": {"rpc_zmq_host": "other"}}, "rpc_zmq_host is written by this role itself"),
    ],
)
def test_contradictions_are_named(site: Deployment, variables: dict[str, Any], fault: str) -> None:
    refused = site.play_roles("oslo_driver", oslo_driver_services=[site.service(**variables)])
    assert refused.exit_code != 0
    assert fault in " ".join(refused.output.split())
    assert refused.changed == frozenset()
