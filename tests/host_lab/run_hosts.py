# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The host lab on the command line: `python tests/host_lab/run_hosts.py up|down|shell|cut-power HOST|start HOST`. `make lab` and its kin call it."""

from __future__ import annotations

import argparse
import os
import sys

from host_image import PYTHONS, LabFault
from host_lab import DOMAIN, GATEWAY, NAMESERVER, STRANGERS, HostLab

UP = """
{hosts}
  dns1       {nameserver}   serves {domain}
{strangers}
All are on a network that leads nowhere; this machine is {gateway} in it. Enter it with

  make lab-shell

and there, for example,

  ansible-playbook -i inventories/lab brokerless.openstack.site
  ansible compute -b -a "brokerless status"
  podman exec -it compute1 bash

`make lab-down` ends all of it.
"""


def say(text: str) -> None:
    """Print for the operator."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def show(lab: HostLab) -> None:
    """Say what is there, and how to reach it."""
    hosts = "\n".join(f"  {host.name:10} {host.address}   Debian {lab.suite}, systemd" for host in lab.hosts)
    strangers = "\n".join(f"  {name:10} {address}   on the same network, and no host of the inventory" for name, address in STRANGERS.items())
    say(UP.format(hosts=hosts, strangers=strangers, domain=DOMAIN, nameserver=NAMESERVER, gateway=GATEWAY))


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--suite", choices=sorted(PYTHONS), default="bookworm", help="the Debian of the hosts (default: bookworm)")
    parser.add_argument("what", choices=["prepare", "up", "down", "shell", "cut-power", "start"])
    parser.add_argument("rest", nargs="*", metavar="HOST|COMMAND")
    arguments = parser.parse_args()
    lab = HostLab(arguments.suite)
    try:
        match arguments.what:
            case "prepare":
                lab.prepare()
            case "up":
                lab.up()
                show(lab)
            case "down":
                lab.down()
            case "cut-power":
                lab.cut_power(*arguments.rest)
            case "start":
                lab.start(*arguments.rest)
            case "shell":
                command = lab.inside(*(arguments.rest or [os.environ.get("SHELL", "/bin/sh")]))
                os.execvpe(command[0], command, lab.environment())
    except LabFault as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
