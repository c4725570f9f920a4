# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The configuration file and the flags of the rpcdaemon of 2013, on a host as that one found it.

The file's own paths are used, and RabbitMQ at 127.0.0.1:5672: the daemon runs in user, mount and network namespaces, in which /etc, /run, /var/log
and the loopback address are a test's own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cloud_double import BusAgents, CloudDouble
from rabbitmq_server import RabbitmqServer
from receiver_process import wait_until
from relay import Network
from rpcdaemon_program import RPCDAEMON, environment
from server_process import ADDRESS, system_programs

PATIENCE = 60.0
SAMPLE = (Path(__file__).parents[2] / "rpcdaemon_2013.conf").read_text(encoding="utf-8")
EVERY_KEY = (
    SAMPLE.replace("plugins = L3Agent DHCPAgent", "plugins = L3Agent DHCPAgent Dump")
    .replace("# check_interval", "check_interval")
    .replace("#timeout", "timeout")
    .replace("#queue_expire", "queue_expire")
    .replace("timeout = 20", "timeout = 5", 1)
)
INSIDE = """
import socket, sys
listeners = [socket.create_server(("127.0.0.1", int(port))) for port in sys.argv[2:]]
with socket.socket(socket.AF_UNIX) as outside:
    outside.connect(sys.argv[1])
    socket.send_fds(outside, [b"."], [listener.fileno() for listener in listeners])
print("ready", flush=True)
sys.stdin.read()
"""


class Host:
    """A host of 2013, with an /etc of its own."""

    def __init__(self, place: Path, ports: Mapping[int, int], running: contextlib.ExitStack) -> None:
        """`ports` says which of our ports its own ones on 127.0.0.1 lead to."""
        self.run_directory, self.logs, self.etc = place / "run", place / "log", place / "etc"
        for directory in (self.run_directory, self.logs, self.etc / "neutron"):
            directory.mkdir(parents=True)
        (self.etc / "hosts").write_text("127.0.0.1 localhost\n", encoding="utf-8")
        for name in ("ld.so.cache", "ld.so.conf", "passwd", "group", "nsswitch.conf", "protocols", "services"):
            if (known := Path("/etc") / name).exists():
                shutil.copy(known, self.etc / name)
        self._path = f"{system_programs()}:{os.environ['PATH']}:/usr/sbin:/sbin"
        meeting = place / "meeting"
        prepare = (
            f"ip link set lo up && mount --bind {self.run_directory} $(readlink -f /var/run) && mount --bind {self.logs} /var/log && "
            f'mount --bind {self.etc} /etc && exec "$@"'
        )
        command = ["unshare", "--user", "--map-root-user", "--mount", "--net", "sh", "-c", prepare, "sh", sys.executable, "-c", INSIDE, str(meeting)]
        with socket.socket(socket.AF_UNIX) as meet:
            meet.bind(str(meeting))
            meet.listen()
            self._init = subprocess.Popen(
                [*command, *map(str, ports)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PATH": self._path}
            )
            running.callback(self._stop)
            assert self._init.stdout is not None
            assert self._init.stdout.readline() == "ready\n", "this needs unprivileged user namespaces (sysctl user.max_user_namespaces)"
            with meet.accept()[0] as inside:
                listeners = socket.recv_fds(inside, 1, len(ports))[1]
        for listener, target in zip(listeners, ports.values(), strict=True):
            network = Network({}, target)
            running.callback(network.close)
            network.join(("host", "server"), socket.socket(fileno=listener), ADDRESS)

    def _stop(self) -> None:
        if pid := self.pid():
            os.kill(pid, signal.SIGKILL)
        self._init.kill()
        self._init.communicate()

    def command(self, *arguments: str) -> list[str]:
        """Return how `rpcdaemon` is run there with these arguments."""
        inside = ["nsenter", "--preserve-credentials", "--user", "--net", "--mount", f"--target={self._init.pid}"]
        return [*inside, *RPCDAEMON, *arguments]

    def environment(self) -> dict[str, str]:
        return environment() | {"PATH": self._path}

    def rpcdaemon(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `rpcdaemon` to its end, which for a daemon is when it is in the background."""
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
            env=self.environment(),
        )

    def pid(self) -> int:
        """Return what its pidfile says, 0 if there is none."""
        pidfile = self.run_directory / "rpcdaemon.pid"
        text = pidfile.read_text(encoding="ascii") if pidfile.exists() else ""
        return int(text) if text.strip() else 0

    def log(self) -> str:
        logfile = self.logs / "rpcdaemon.log"
        return logfile.read_text(encoding="utf-8") if logfile.exists() else ""


@pytest.fixture
def cloud(broker: RabbitmqServer) -> Iterator[CloudDouble]:
    with CloudDouble({"net1": 1, "net2": 0}) as cloud, BusAgents(broker.url, cloud):
        yield cloud


@pytest.fixture
def host(tmp_path: Path, broker: RabbitmqServer, cloud: CloudDouble) -> Iterator[Host]:
    with contextlib.ExitStack() as running:
        host = Host(tmp_path, {5672: broker.port, cloud.port: cloud.port}, running)
        cloud.conffile(host.etc / "neutron" / "neutron.conf", agent_down_time=60, allow_automatic_dhcp_failover=False)
        yield host


def test_the_sample_starts_the_daemon(host: Host) -> None:
    (host.etc / "rpcdaemon.conf").write_text(SAMPLE, encoding="utf-8")
    started = host.rpcdaemon("-c", "/etc/rpcdaemon.conf")
    assert (started.returncode, started.stderr) == (0, "")
    wait_until(lambda: "this replica leads" in host.log(), "it leads", PATIENCE)
    wait_until(lambda: "Open vSwitch agent on net2: unknown -> alive: heard on the bus" in host.log(), "it hears agents", PATIENCE)
    log = host.log()
    assert "conffile /etc/neutron/neutron.conf: agent_down_time 60 s, report_interval 30 s" in log
    assert "credentials for Neutron's API: section [keystone_authtoken] of /etc/neutron/neutron.conf" in log
    assert "RabbitMQ: 127.0.0.1:5672" in log
    assert "/etc/rpcdaemon.conf: section [Dump] is not used: plugins does not load Dump" in log
    assert "DEBUG" not in log
    pid = host.pid()
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not (host.run_directory / "rpcdaemon.pid").exists(), "it ends", PATIENCE)
    assert "Traceback" not in host.log()


def test_every_key_is_gone_by_or_named_at_the_start(host: Host) -> None:
    """In the foreground, where the log goes to standard error, no pidfile is written, and without -c the file is looked for where packages put it."""
    (host.etc / "rpcdaemon.conf").write_text(EVERY_KEY, encoding="utf-8")
    log = host.logs / "standard-error"
    with log.open("w", encoding="utf-8") as errors, subprocess.Popen(host.command("-d"), stderr=errors, env=host.environment()) as process:
        try:
            wait_until(lambda: "report_state on neutron, routing key q-reports-plugin:" in log.read_text(encoding="utf-8"), "Dump tells", PATIENCE)
            assert not host.pid()
            assert not host.log()
        finally:
            process.terminate()
            process.wait(PATIENCE)
    assert process.returncode == 0
    told = log.read_text(encoding="utf-8")
    assert "timeout of [DHCPAgent], 20.0, is not used: both plugins go by that of [L3Agent], 5.0" in told
    assert "is not used: plugins does not load" not in told


def test_an_unknown_flag_is_refused_in_one_line(host: Host) -> None:
    refused = host.rpcdaemon("-x")
    assert refused.returncode == 2
    assert "unrecognized arguments: -x" in refused.stderr
    assert "Traceback" not in refused.stderr
