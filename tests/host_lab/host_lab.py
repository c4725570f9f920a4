# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Hosts with systemd, addresses, a nameserver and a stranger, on a network that leads nowhere.

    with HostLab() as lab:
        lab.up()
        lab.run(["ansible-playbook", "brokerless.openstack.site"])
        lab.cut_power("compute1")

The hosts are those of the inventory in inventories/lab, and some that are not (yet) in it. They are containers, and the bridge between them is in a
network namespace of the lab's own: nothing in it has a way out, nothing of this machine's network changes, and the labs of two checkouts do not meet.
What they need lies below .cache/host-lab, and in a folder of /run while they are up.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ansible_versions import own_programs
from brokerless.version import VERSION
from build_artifacts import build_artifacts, build_wheel
from checkout_files import copy_files, files_of_checkout
from host_image import CHECKOUT, KEPT, LabFault, build_root, debs, digest, install_machine_packages, recipe, run, wheels

INVENTORY = CHECKOUT / "inventories" / "lab"
DOMAIN = "lab.example.com"
SUBNET, GATEWAY = "10.77.0.0/24", "10.77.0.1"
NAMESERVER = "10.77.0.10"
SPARE_HOSTS = {"compute3": "10.77.0.23"}
"""Hosts that are up and not in the inventory yet."""

STRANGERS = {"stranger1": "10.77.0.99"}
"""Machines on the same network that are no hosts of the inventory."""

CAPABILITIES = (
    "NET_ADMIN,NET_RAW,NET_BROADCAST,SYS_ADMIN,SYS_PTRACE,SYS_NICE,AUDIT_WRITE,AUDIT_CONTROL,MKNOD,IPC_LOCK,DAC_READ_SEARCH,LINUX_IMMUTABLE,LEASE"
)
"""What systemd and the roles need. Not all of them: a privileged container would be given the devices of this machine."""

ENGINE = """\
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc=30000:30000"]
pids_limit = 0
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
static_dir = "{kept}/static"
volume_path = "{kept}/volumes"
tmp_dir = "{running}/engine"
[network]
network_backend = "netavark"
network_config_dir = "{kept}/networks"
"""
STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{kept}/storage"
runroot = "{running}/storage"
"""
START_SECONDS = 60.0
NEWER_VERSION = f"{VERSION}.post1"


@dataclass(frozen=True)
class Host:
    """A host of the lab: its short name, and its address."""

    name: str
    address: str

    @property
    def hardware_address(self) -> str:
        """The same after each start, so that its neighbours find it again."""
        return "02:00:" + ":".join(f"{int(part):02x}" for part in self.address.split("."))


def inventory_hosts(inventory: Path = INVENTORY) -> list[Host]:
    """Return the hosts of an inventory file that have an `ansible_host`, in its order."""

    def below(node: Mapping[str, Any]) -> list[Host]:
        own = [Host(name.partition(".")[0], settings["ansible_host"]) for name, settings in (node.get("hosts") or {}).items() if settings]
        return own + [host for child in (node.get("children") or {}).values() for host in below(child or {})]

    groups = yaml.safe_load((inventory / "hosts.yml").read_text(encoding="utf-8"))
    return list(dict.fromkeys(host for group in groups.values() for host in below(group)))


class HostLab:
    """The lab of this checkout."""

    def __init__(self, suite: str = "bookworm", programs: Path | None = None) -> None:
        """`suite` is the Debian of the hosts, `programs` the folder with the Ansible that deploys to them, by default the checkout's own.

        The lab's name is also its network's: podman keeps the addresses that are taken of all networks with one name together, whosever they are.
        """
        self.suite = suite
        self.programs = programs or own_programs()
        self.name = f"brokerless-lab-{digest(str(CHECKOUT).encode())[:6]}"
        self.running = Path("/run") / self.name
        self.image = f"localhost/lab-host:{suite}-{recipe(suite)}"
        self._namespace = Path("/run/netns") / self.name
        self._key = KEPT / "ssh" / "key"

    @property
    def hosts(self) -> list[Host]:
        """The hosts of the inventory, and those that may be added to it."""
        return inventory_hosts() + [Host(name, address) for name, address in SPARE_HOSTS.items()]

    # what is needed before

    def prepare(self) -> None:
        """Have programs, image, wheels, key and the collection as a release; what is there already is left."""
        install_machine_packages()
        for folder in (KEPT / "engine", self.running / "ssh"):
            folder.mkdir(parents=True, exist_ok=True)
        places = {"kept": KEPT / "engine", "running": self.running, "files": 20000}
        # with no setting: one of the checkout, or of the user, must not say more than the environment
        (KEPT / "ansible.cfg").write_text("[defaults]\n", encoding="utf-8")
        (KEPT / "engine" / "containers.conf").write_text(ENGINE.format(**places), encoding="utf-8")
        (KEPT / "engine" / "storage.conf").write_text(STORAGE.format(**places), encoding="utf-8")
        self._have_image()
        wheels(self.suite)
        if not self._key.exists():
            self._key.parent.mkdir(parents=True, exist_ok=True)
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", str(self._key)], "no key to log in with")
        self.install_collection()

    def _have_image(self) -> None:
        if self._podman_says("image", "exists", self.image) and debs(self.suite).exists():
            return
        sys.stdout.write(f"host lab: building an image of {self.suite} (two minutes)\n")
        sys.stdout.flush()
        place = debs(self.suite)
        unfinished = place.with_name(f"{place.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        tarball = KEPT / f"{self.suite}.tar"
        build_root(self.suite, tarball, unfinished)
        self.podman("import", "--quiet", "--change", 'CMD ["/sbin/init"]', "--change", "STOPSIGNAL SIGRTMIN+3", str(tarball), self.image)
        tarball.unlink()
        shutil.rmtree(place, ignore_errors=True)
        unfinished.rename(place)

    def install_collection(self) -> None:
        """Install the collection as a release has it, built from this checkout."""
        built = KEPT / "release"
        shutil.rmtree(built, ignore_errors=True)
        tarball = build_artifacts(built).tarball
        command = [
            str(self.programs / "ansible-galaxy"),
            "collection",
            "install",
            "--force",
            "--offline",
            "--collections-path",
            str(KEPT / "collections"),
            str(tarball),
        ]
        run(command, "can't install the collection", self.environment())

    def newer_wheel(self) -> Path:
        """Build the wheel of a version that is newer than this checkout's, and otherwise the same."""
        source, built = KEPT / "newer" / "source", KEPT / "newer" / "dist"
        shutil.rmtree(KEPT / "newer", ignore_errors=True)
        source.mkdir(parents=True)
        built.mkdir()
        copy_files(files_of_checkout("pyproject.toml", "README.md", "LICENSE", "plugins/module_utils/brokerless"), source)
        version = source / "plugins" / "module_utils" / "brokerless" / "version.py"
        version.write_text(version.read_text(encoding="utf-8").replace(VERSION, NEWER_VERSION), encoding="utf-8")
        return build_wheel(source, built)

    # hosts

    def up(self) -> None:
        """Start what is not running, and wait until everybody can be logged in to."""
        self.prepare()
        if not self._namespace.exists():
            run(["ip", "netns", "add", self.name], "no network namespace")
            run(self.inside("ip", "link", "set", "lo", "up"), "no loopback")
        if not self._podman_says("network", "exists", self.name):
            self.podman("network", "create", "--internal", "--disable-dns", "--subnet", SUBNET, "--gateway", GATEWAY, self.name)
        running = set(self.podman("ps", "--format", "{{.Names}}").split())
        self._start_nameserver(running)
        for name, address in STRANGERS.items():
            self._start(Host(name, address), running, command=["sleep", "infinity"])
        for host in self.hosts:
            self._start(host, running)
        for host in self.hosts:
            self.wait_for_login(host)

    def _start(self, host: Host, running: set[str], options: Sequence[str] = (), command: Sequence[str] = ()) -> None:
        if host.name in running:
            return
        self.podman("rm", "--force", "--ignore", "--time", "0", host.name)
        systemd = [] if command else ["--systemd=always", f"--cap-add={CAPABILITIES}"]
        self.podman(
            *("run", "--detach", "--quiet", f"--name={host.name}", f"--hostname={host.name}.{DOMAIN}", "--dns=none", "--no-hosts", *systemd),
            f"--network={self.name}:ip={host.address},mac={host.hardware_address}",
            f"--volume={self._key}.pub:/etc/ssh/lab_authorized_keys:ro",
            f"--volume={debs(self.suite)}:/srv/mirror/debs:ro",
            f"--volume={wheels(self.suite)}:/srv/mirror/wheels:ro",
            *(*options, self.image, *command),
        )

    def _start_nameserver(self, running: set[str]) -> None:
        records = [f"--host-record={host.name}.{DOMAIN},{host.address}" for host in self.hosts]
        command = ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", f"--local=/{DOMAIN}/", *records]
        self._start(Host("dns1", NAMESERVER), running, ["--cap-add=NET_ADMIN,NET_RAW"], command)

    def wait_for_login(self, host: Host) -> None:
        """Wait until the SSH server of a host answers. Raises `LabFault` with what the host's systemd says if it does not."""
        probe = f"import socket; print(socket.create_connection(('{host.address}', 22), timeout=1).recv(8))"
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run(self.inside(sys.executable, "-c", probe), capture_output=True, check=False).stdout != b"b'SSH-2.0-'\n":
            if time.monotonic() > deadline:
                state = self.execute(host.name, "systemctl", "list-units", "--failed", "--no-pager", check=False)
                raise LabFault(f"{host.name} can't be logged in to after {START_SECONDS:.0f} seconds:\n{state}")
            time.sleep(0.2)

    def down(self) -> None:
        """End all hosts, and forget them; the image stays."""
        if (KEPT / "engine" / "containers.conf").exists() and shutil.which("podman"):
            self.podman("rm", "--all", "--force", "--time", "0")
            self.podman("network", "rm", "--force", self.name, check=False)
        if self._namespace.exists():
            run(["ip", "netns", "delete", self.name], "can't take the network namespace away")
        shutil.rmtree(self.running, ignore_errors=True)

    # what is done to them

    def execute(self, host: str, *command: str, check: bool = True) -> str:
        """Run a command as root on a host, past its network, and return what it says."""
        return self.podman("exec", host, *command, check=check)

    def cut_power(self, host: str) -> None:
        """End a host so that nobody hears of it: its link goes first, and so no connection is closed."""
        self.pull_cable(host)
        self.podman("kill", host)

    def start(self, host: str) -> None:
        """Start a host that was ended; the link that a cut of its power took away comes back with it."""
        self.podman("start", host)
        self.plug_in_cable(host)

    def pull_cable(self, host: str) -> None:
        """Take the link of a host away."""
        self._link(host, "down")

    def plug_in_cable(self, host: str) -> None:
        """Give a host its link back."""
        self._link(host, "up")

    def _link(self, host: str, state: str) -> None:
        index = int(self.execute(host, "cat", "/sys/class/net/eth0/iflink"))
        with_name = next(line for line in run(self.inside("ip", "-o", "link"), "no list of links").splitlines() if line.startswith(f"{index}: "))
        link = with_name.split(":")[1].strip().partition("@")[0]
        run(self.inside("ip", "link", "set", link, state), f"can't set the link of {host} {state}")

    # programs

    def inside(self, *command: str) -> list[str]:
        """Return the command that runs `command` in the lab's network."""
        return ["nsenter", f"--net={self._namespace}", "--", *command]

    def environment(self) -> dict[str, str]:
        """Return the environment in which Ansible deploys to the hosts."""
        own = {
            "PATH": os.pathsep.join([str(self.programs), str(own_programs()), os.environ["PATH"]]),
            "PYTHONPATH": str(CHECKOUT / "tools"),
            "CONTAINERS_CONF": str(KEPT / "engine" / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(KEPT / "engine" / "storage.conf"),
            "ANSIBLE_CONFIG": str(KEPT / "ansible.cfg"),
            "ANSIBLE_HOME": str(KEPT / "ansible"),
            "ANSIBLE_COLLECTIONS_PATH": str(KEPT / "collections"),
            "ANSIBLE_INVENTORY": str(INVENTORY),
            "ANSIBLE_REMOTE_USER": "admin",
            "ANSIBLE_PRIVATE_KEY_FILE": str(self._key),
            "ANSIBLE_HOST_KEY_CHECKING": "0",
            "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.running / "ssh"),
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_FORKS": "8",
            "ANSIBLE_NOCOWS": "1",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
            "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        }
        return {**{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "MOLECULE_"))}, **own}

    def podman(self, *arguments: str, check: bool = True) -> str:
        """Run podman for the lab's own containers; raises `LabFault` if it fails and `check` says so."""
        command = ["podman", *arguments]
        inside = self.inside(*command) if self._namespace.exists() else command
        if check:
            return run(inside, f"podman {arguments[0]}", self.environment())
        return subprocess.run(inside, env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout

    def _podman_says(self, *arguments: str) -> bool:
        command = ["podman", *arguments]
        inside = self.inside(*command) if self._namespace.exists() else command
        return subprocess.run(inside, env=self.environment(), capture_output=True, check=False).returncode == 0
