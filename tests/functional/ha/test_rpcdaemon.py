# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The process `rpcdaemon`: how it starts, what it refuses, and how it ends. There is a real RabbitMQ and no Neutron: its API is away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from rabbitmq_server import RabbitmqServer
from receiver_process import free_port, wait_until
from rpcdaemon_program import RPCDAEMON

PATIENCE = 60.0


class Place:
    """A folder with configuration files, and the daemons that were started in it."""

    def __init__(self, folder: Path, rpchost: str) -> None:
        self.folder = folder
        self.neutron = folder / "neutron.conf"
        endpoint = f"http://127.0.0.1:{free_port(['127.0.0.1'])}"
        self.neutron.write_text(f"[keystone_authtoken]\nauth_type = none\nendpoint = {endpoint}\n", encoding="utf-8")
        self.config = folder / "rpcdaemon.conf"
        self.pidfile, self.logfile = folder / "rpcdaemon.pid", folder / "rpcdaemon.log"
        self.write(
            f"[Daemon]\nplugins = L3Agent DHCPAgent\nrpchost = {rpchost}\npidfile = {self.pidfile}\nlogfile = {self.logfile}\nloglevel = INFO\n"
            f"lease = 3\nstate_dir = {folder}\n[L3Agent]\nconffile = {self.neutron}\ntimeout = 1\n[DHCPAgent]\nconffile = {self.neutron}\n"
        )

    def write(self, text: str) -> None:
        self.config.write_text(text, encoding="utf-8")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*RPCDAEMON, "-c", str(self.config), *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE, stdin=subprocess.DEVNULL
        )

    def log(self) -> str:
        return self.logfile.read_text(encoding="utf-8") if self.logfile.exists() else ""

    def pid(self) -> int:
        text = self.pidfile.read_text(encoding="ascii") if self.pidfile.exists() else ""
        return int(text) if text.strip() else 0


@pytest.fixture
def place(tmp_path: Path, broker: RabbitmqServer) -> Iterator[Place]:
    place = Place(tmp_path, broker.url)
    yield place
    if pid := place.pid():
        os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


def test_it_goes_into_the_background_and_ends_when_it_is_told_to(place: Place) -> None:
    started = place.run()
    assert (started.returncode, started.stderr) == (0, "")
    wait_until(lambda: place.pid() and "leads in term" in place.log(), "it leads", PATIENCE)
    assert "we hear the agents" in place.log() or "no exchange" in place.log()
    pid = place.pid()
    second = place.run()
    assert second.returncode == 1
    assert f"is locked: rpcdaemon runs already, as process {pid}" in second.stderr
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not alive(pid), "it ends", PATIENCE)
    assert not place.pidfile.exists()
    assert "rpcdaemon ends" in place.log()


def test_a_configuration_file_is_tried_before_it_is_used(place: Place) -> None:
    tried = place.run("--check")
    assert tried.returncode == 0
    assert not place.pidfile.exists()
    assert not place.logfile.exists()
    place.write(place.config.read_text(encoding="utf-8") + "[Policy]\nhold_off = soon\n")
    refused = place.run("--check")
    assert refused.returncode == 1
    assert "section [Policy]: hold_off is 'soon'" in refused.stderr


def test_operators_are_answered_though_neutron_is_away(place: Place) -> None:
    assert place.run("--wait", "1", "check").returncode == 3
    with subprocess.Popen([*RPCDAEMON, "-c", str(place.config), "-d"], stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: place.run("--wait", "2", "check").returncode != 3, "somebody leads", PATIENCE)
            checked = place.run("check")
            assert checked.returncode == 2
            assert checked.stdout.startswith("RPCDAEMON CRITICAL: nothing is moved: ")
            status = json.loads(place.run("status", "--json").stdout)
            assert status["leads"] is True
            assert status["hearing"]["trouble"]
            refused = place.run("drain", "net1")
            assert (refused.returncode, refused.stderr) == (1, "rpcdaemon: Neutron has no agent on host 'net1'\n")
            assert "nothing to do" in place.run("plan").stdout
            assert not place.pidfile.exists()
        finally:
            process.terminate()
            _said, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "Neutron's API gave no answer about agents" in log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("plugins = L3Agent DHCPAgent", "plugins = Weather"), "there is no plugin 'Weather'"),
        (("rpchost = amqp", "rpchost = mqtt"), "section [Daemon], rpchost: "),
        (("loglevel = INFO", "verbosity = 3"), "unknown key 'verbosity'"),
        (("/neutron.conf", "/neutron.toml"), "neutron.toml"),
        (("[Daemon]", "[daemon]"), "has no section [Daemon]"),
    ],
)
def test_what_it_can_not_work_with_is_one_line(place: Place, change: tuple[str, str], words: str) -> None:
    place.write(place.config.read_text(encoding="utf-8").replace(*change))
    refused = place.run()
    assert refused.returncode == 1
    assert words in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not place.pidfile.exists()


def test_a_configuration_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    refused = subprocess.run([*RPCDAEMON, "-c", str(tmp_path / "none")], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert refused.returncode == 1
    assert refused.stderr == f"rpcdaemon: configuration file {tmp_path}/none: [Errno 2] No such file or directory: '{tmp_path}/none'\n"
