# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What the lab's hosts are made of, brought once and kept below .cache/host-lab: an image of Debian with systemd, a mirror of packages and wheels.

The image is what an installer leaves: systemd, Python, sudo, an SSH server. What roles install they find in the mirror, which each host sees at
/srv/mirror and nowhere else: no host of the lab can reach the network of this machine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
KEPT = CHECKOUT / ".cache" / "host-lab"
"""Everything below is made again when it is missing."""

FILES = Path(__file__).parent / "image"
MACHINE_PACKAGES = ("podman", "netavark", "runc", "mmdebstrap", "nftables", "iptables", "iproute2", "util-linux", "openssh-client", "dpkg-dev")
"""What this machine needs to run hosts."""

PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
"""The suites of Debian that there are images of, and the Python of each."""

ONLY_THERE = {"bookworm": (), "trixie": ("legacy-cgi",)}
"""What services' libraries need with that Python only: pip, which downloads them, goes by its own Python when it reads `python_version`."""

BASE = (
    "systemd,systemd-sysv,dbus,udev,kmod,python3,python3-apt,iproute2,iputils-ping,procps,ca-certificates,openssh-server,sudo,netbase,logrotate,"
    "dnsmasq-base,iptables"
)
"""Installed on every host. dnsmasq-base is for the lab's nameserver, which is no host of the inventory."""

MIRRORED = (
    *("python3-venv", "python3-packaging", "nftables", "ufw", "firewalld", "dnsmasq", "systemd-resolved", "network-manager"),
    "rabbitmq-server",
)
"""What roles may install, with all that it depends on."""

RUNTIME_LOCK, SERVICES_LOCK = CHECKOUT / "requirements" / "runtime.txt", CHECKOUT / "requirements" / "upstream.txt"
"""The versions of the runtime's libraries, and of those that OpenStack's services have."""

PLATFORMS = (
    "manylinux_2_34_x86_64",
    "manylinux_2_28_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
    "manylinux_2_5_x86_64",
    "manylinux1_x86_64",
)
IN_IMAGE = {"lab-boot": "usr/local/sbin/lab-boot", "lab-boot.service": "etc/systemd/system/lab-boot.service"}
TEXTS = {
    "etc/apt/sources.list": "deb [trusted=yes] file:/srv/mirror/debs ./\n",
    "etc/apt/apt.conf.d/80lab": 'Acquire::Languages "none";\nAPT::Install-Recommends "false";\n',
    "etc/dpkg/dpkg.cfg.d/unsafe-io": "force-unsafe-io\n",
    "etc/pip.conf": "[global]\nno-index = true\nfind-links = /srv/mirror/wheels\ndisable-pip-version-check = true\n",
    "etc/ssh/sshd_config.d/lab.conf": "UseDNS no\nAuthorizedKeysFile /etc/ssh/lab_authorized_keys\n",
    "etc/systemd/system/ssh.service.d/keys.conf": ("[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\nExecStartPre=/usr/sbin/sshd -t\n"),
    "etc/sudoers.d/admin": "admin ALL=(ALL) NOPASSWD: ALL\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost\n",
    "etc/machine-id": "",
}
"""Files of the image. Host keys are made at the first start, so that no two hosts have the same."""

MASKED = (
    "systemd-udevd.service",
    "systemd-modules-load.service",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "dev-hugepages.mount",
    "sys-fs-fuse-connections.mount",
    "systemd-firstboot.service",
    "getty@tty1.service",
)
"""Units that look after a machine's kernel and console, which a container does not have."""


class LabFault(Exception):
    """The lab can't do what was asked of it; the message says why, and what to do."""


def run(command: Sequence[str], what: str, environment: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return its standard output. Raises `LabFault` with `what` and the end of what it said."""
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise LabFault(f"{what}: {command[0]} ended with exit code {done.returncode}\n{(done.stderr + done.stdout)[-3000:].strip()}")
    return done.stdout


def install_machine_packages() -> None:
    """Have the programs that run hosts on this machine, from its own distribution. Raises `LabFault` where that needs rights that we do not have."""
    states = subprocess.run(
        ["dpkg-query", "-W", "-f=${binary:Package} ${db:Status-Status}\n", *MACHINE_PACKAGES], stdout=subprocess.PIPE, text=True, check=False
    ).stdout
    installed = {line.split()[0].partition(":")[0] for line in states.splitlines() if line.endswith(" installed")}
    missing = [name for name in MACHINE_PACKAGES if name not in installed]
    if os.geteuid() != 0:
        raise LabFault("the lab's hosts are containers with systemd and networks of their own, which only root can make; run this as root")
    if missing:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-qq"], "no package lists", environment)
        run(["apt-get", "install", "--yes", "-qq", "--no-install-recommends", *missing], f"can't install {' '.join(missing)}", environment)


def digest(*parts: bytes) -> str:
    """Return a short name for these contents."""
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def recipe(suite: str) -> str:
    """Return the name of the image of `suite` as it is described in this file and in the folder `image`."""
    return digest(suite.encode(), *(file.read_bytes() for file in (Path(__file__), *(FILES / name for name in IN_IMAGE))))


def write_below(root: Path) -> None:
    """Write what is the lab's own into a root filesystem."""
    for name, text in TEXTS.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    (root / "etc/sudoers.d/admin").chmod(0o440)
    for name, place in IN_IMAGE.items():
        shutil.copy(FILES / name, root / place)
    (root / IN_IMAGE["lab-boot"]).chmod(0o755)
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    for made in (*(root / "etc/ssh").glob("ssh_host_*"), root / "etc/resolv.conf", *(root / "etc/apt/sources.list.d").glob("*")):
        made.unlink(missing_ok=True)


def build_root(suite: str, tarball: Path, debs: Path) -> None:
    """Write the root filesystem of a host of `suite` to `tarball`, and the mirrored packages into `debs`."""
    ours = f'"{sys.executable}" "{Path(__file__)}" "$1"'
    take = f'cp --no-preserve=ownership "$1"/var/cache/apt/archives/*.deb "{debs}/" && rm "$1"/var/cache/apt/archives/*.deb'
    hooks = [
        f'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --yes -qq --download-only install {" ".join(MIRRORED)}',
        take,
        'chroot "$1" useradd --create-home --shell /bin/bash admin',
        ours,
        'chroot "$1" systemctl enable lab-boot.service',
    ]
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("man", "doc", "locale")]
    run(
        [
            *("mmdebstrap", "--quiet", "--format=tar", "--variant=minbase", "--components=main", f"--include={BASE}", *excluded),
            *('--aptopt=Acquire::Languages "none"', '--aptopt=APT::Install-Recommends "false"'),
            *(f"--customize-hook={hook}" for hook in hooks),
            *(suite, str(tarball)),
        ],
        f"no image of {suite}",
    )
    index = run(["dpkg-scanpackages", "--multiversion", str(debs)], f"no index of the packages for {suite}")
    (debs / "Packages").write_text(index.replace(f"Filename: {debs}/", "Filename: ./"), encoding="utf-8")


def fill_wheels(suite: str, place: Path) -> None:
    """Download the runtime's pinned libraries, and oslo.messaging with its own, as wheels for the Python of `suite`."""
    platforms = [f"--platform={name}" for name in PLATFORMS]
    download = [*(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--only-binary=:all:", f"--dest={place}")]
    download += [f"--python-version={PYTHONS[suite]}", "--implementation=cp", *platforms]
    environment = {"PIP_CACHE_DIR": str(CHECKOUT / ".cache" / "pip"), **os.environ}
    run([*download, "--no-deps", "--requirement", str(RUNTIME_LOCK)], f"no wheels for {suite}", environment)
    run([*download, "oslo.messaging", *ONLY_THERE[suite], "--constraint", str(SERVICES_LOCK)], f"no oslo.messaging for {suite}", environment)


def wheels(suite: str) -> Path:
    """Return the folder with the libraries for `suite`, filling it when it is missing or the versions are others."""
    place = KEPT / "wheels" / f"{suite}-{digest(*(file.read_bytes() for file in (RUNTIME_LOCK, SERVICES_LOCK, Path(__file__))))}"
    if not place.exists():
        unfinished = place.with_name(f"{place.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        fill_wheels(suite, unfinished)
        unfinished.rename(place)
    return place


def debs(suite: str) -> Path:
    """Return the folder with the mirrored packages of the image of `suite`."""
    return KEPT / "debs" / f"{suite}-{recipe(suite)}"


if __name__ == "__main__":
    write_below(Path(sys.argv[1]))
