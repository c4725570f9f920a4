# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""`make neutron-lab` and `make neutron-lab-down`: a lab that stays up; `make neutron-lab-figures`: what Neutron does without help."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from cloud_contents import Contents
from failover_figures import api_ceiling, native_failover, table
from lab import Lab, end_process
from lab_programs import KEPT
from neutron_services import LabSettings
from receiver_process import wait_until
from simulated_nodes import NodeSpec

UP = KEPT / "up.json"
"""What is known of the lab that stays up."""

LOG = KEPT / "up.log"
START_SECONDS = 900.0
"""How long a lab may take that has to be downloaded and to be filled with routers first."""

TEXT = """\
The lab is up: Neutron 29 with simulated network nodes {nodes}.
  Neutron's API   {api}   (no authentication)
  RabbitMQ        {bus}
  MariaDB         {database}
  logs            {directory}

What to type:
  curl -s {api}/v2.0/agents | python3 -m json.tool
  kill -9 PID         a node fails: {pids}
  kill -STOP PID      it stands still; -CONT lets it go on
  make neutron-lab-down
"""


def running() -> dict[str, Any] | None:
    """Return what is known of the lab that is up, or `None`."""
    if not UP.exists():
        return None
    known: dict[str, Any] = json.loads(UP.read_text(encoding="utf-8"))
    # ids of processes are used again: it is ours only if it was started when ours was
    return known if _started(known["pid"]) == known["started"] else None


def _started(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19]
    except FileNotFoundError:
        return ""


def serve(nodes: int, settings: LabSettings, contents: Contents | None) -> None:
    """Hold a lab until SIGTERM or SIGINT."""
    over = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        over.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    with Lab(settings, contents) as lab:
        lab.add_nodes(*(NodeSpec(f"net{number}") for number in range(1, nodes + 1)))
        if contents:
            hosts = list(lab.nodes)
            routers = [router["id"] for router in lab.api.list("routers")]
            lab.bind_routers({host: routers[number :: len(hosts)] for number, host in enumerate(hosts)})
        known = {
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "nodes": ", ".join(lab.nodes),
            "api": f"http://127.0.0.1:{lab.neutron_api.port}",
            "bus": lab.rabbitmq.url,
            "database": lab.mariadb.url,
            "directory": str(lab.directory),
            "pids": ", ".join(f"{node.host} is {node.pid}" for node in lab.nodes.values()),
        }
        unfinished = UP.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(known), encoding="utf-8")
        unfinished.rename(UP)
        try:
            over.wait()
        finally:
            UP.unlink()


def up(arguments: list[str]) -> int:
    """Start a process that serves, unless one is there, and say how to use it."""
    if not running():
        KEPT.mkdir(parents=True, exist_ok=True)
        UP.unlink(missing_ok=True)
        _say("neutron-lab: starting; half a minute, and some minutes the first time")
        with LOG.open("wb") as log:
            command = [sys.executable, __file__, "serve", *arguments]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        wait_until(lambda: process.poll() is not None or running(), "the lab is up", START_SECONDS)
    known = running()
    if known is None:
        _say(f"neutron-lab: it did not start; it said:\n{LOG.read_text(encoding='utf-8')[-3000:]}")
        return 1
    _say(TEXT.format(**known))
    return 0


def down() -> int:
    """End the lab that is up."""
    known = running()
    if known:
        end_process(known["pid"])
    UP.unlink(missing_ok=True)
    _say("neutron-lab: down" if known else "neutron-lab: nothing was up")
    return 0


def figures(settings: LabSettings, routers: int) -> None:
    """Print how fast Neutron's own failover moves the routers of one of three nodes, and what the API takes."""
    with Lab(settings, Contents(legacy_routers=routers)) as lab:
        lab.add_nodes(*(NodeSpec(host, fetch_routers=False) for host in ("net1", "net2", "net3")))
        lab.bind_routers({"net1": [router["id"] for router in lab.api.list("routers")]})
        ceilings = [api_ceiling(lab, "net1", ["net2", "net3"], callers) for callers in (1, 2, 4)]
        _say(table([("Neutron's own failover", native_failover(lab, "net1"))], ceilings))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def main() -> int:
    """Do what the Makefile says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=["up", "serve", "down", "figures"])
    parser.add_argument("--nodes", type=int, default=3, help="how many network nodes, net1 and so on")
    parser.add_argument("--routers", type=int, default=0, help="how many legacy routers, spread over the nodes")
    parser.add_argument("--agent-down-time", type=int, default=LabSettings.agent_down_time, help="Neutron's option, in seconds")
    options = parser.parse_args()
    if options.verb == "up":
        return up(sys.argv[2:])
    if options.verb == "down":
        return down()
    settings = LabSettings(agent_down_time=options.agent_down_time, report_interval=options.agent_down_time / 3)
    if options.verb == "figures":
        figures(settings, options.routers or 60)
        return 0
    serve(options.nodes, settings, Contents(legacy_routers=options.routers) if options.routers else None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
