# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What a daemon recorded is decided again offline, alike; and an hour of a large cloud is replayed fast, in memory that does not grow."""

from __future__ import annotations

import gc
import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokerless.ha.bus.base import Event
from brokerless.ha.bus.recording import Recorder, recordings_of
from brokerless.ha.liveness import Transition
from brokerless.ha.plan import Plan
from brokerless.ha.policy import PolicySettings
from brokerless.ha.recorded_watch import RecordedWatch
from brokerless.ha.replay import Decision, replay
from brokerless.ha.snapshot import L3, Snapshot
from cloud_double import BusAgents, CloudDouble
from clouds import Cloud
from rabbitmq_server import RabbitmqServer
from receiver_process import wait_until
from rpcdaemon_program import RPCDAEMON, environment
from watched_cloud import WatchedCloud

PATIENCE = 60.0
DECISIONS = ("transition", "plan", "alarm")
HOUR = 3600


def without_time(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name != "at"} for line in lines if line["event"] in DECISIONS]


def test_a_recorded_run_is_decided_again_as_it_was(tmp_path: Path, broker: RabbitmqServer) -> None:
    audit, recording, config = tmp_path / "audit", tmp_path / "heard.jsonl", tmp_path / "rpcdaemon.conf"
    with CloudDouble({"net1": 6, "net2": 0, "net3": 1}) as cloud, BusAgents(broker.url, cloud):
        conffile = cloud.conffile(tmp_path / "neutron.conf", agent_down_time=4, report_interval=1)
        config.write_text(
            f"[Daemon]\nplugins = L3Agent Dump\nrpchost = {broker.url}\nleader = single\nstate_dir = {tmp_path}\naudit_file = {audit}\n"
            f"check_interval = 0.5\n[L3Agent]\nconffile = {conffile}\n[Dump]\nloglevel = INFO\nrecord = {recording}\n"
            "[Policy]\nmass_failure_share = 0.9\nfailback_per_hour = 2\n",
            encoding="utf-8",
        )
        log = tmp_path / "log"
        with log.open("wb") as errors, subprocess.Popen([*RPCDAEMON, "-c", str(config), "-d"], stderr=errors, env=environment()) as process:
            try:
                wait_until(lambda: log.read_text(encoding="utf-8").count("-> alive") >= 3, "all L3 agents are alive", PATIENCE)
                cloud.silent.add("net1")
                wait_until(lambda: not cloud.hosting["l3-net1"], "what was on the dead agent is on others", PATIENCE)
                cloud.silent.clear()
                wait_until(lambda: cloud.hosting["l3-net1"], "some of it is back", PATIENCE)
            finally:
                process.terminate()
                process.wait(PATIENCE)
    assert process.returncode == 0, log.read_text(encoding="utf-8")
    decided = without_time([json.loads(line) for line in audit.read_text(encoding="utf-8").splitlines()])
    assert {line["event"] for line in decided} == set(DECISIONS)

    command = [*RPCDAEMON, "-c", str(config), "replay", str(recording)]
    replayed = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, env=environment())
    found = json.loads(replayed.stdout)
    assert without_time(found["decisions"]) == decided
    assert (found["damaged"], found["others"]) == (0, {})
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=environment() | {"COLUMNS": "200"}).stdout
    assert "thresholds as then" in shown
    assert "suspect -> dead" in shown
    assert "move router" in shown

    config.write_text(config.read_text(encoding="utf-8") + "agent_down_time = 60\n", encoding="utf-8")
    patient = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, env=environment()).stdout)
    assert patient["others"]["agent_down_time"] == [4.0, 60.0]
    assert not [line for line in patient["decisions"] if line["event"] == "transition" and line["after"] == "dead"]


class Scribe(RecordedWatch):
    """Records what it is told, and thinks nothing of it."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(PolicySettings(), [L3], recorder)
        self._record = recorder.record

    def hear(self, event: Event, wall: float) -> None:
        self._record(event)

    def listed(self, agents: Any, now: float, asked_at: float) -> None:
        """Nothing is judged."""

    def tick(self, now: float, wall: float) -> list[Transition]:
        return []

    def looked(self, snapshot: Snapshot, now: float, under_way: Any = ()) -> tuple[Plan, list[str]]:
        return Plan(""), []


def write_an_hour(place: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A hundred agents on fifty hosts that report every 30 seconds, and 2,000 routers; one host dies and comes back every quarter of an hour."""
    cloud = Cloud()
    cloud.network("lan")
    for number in range(50):
        cloud.node(f"net{number}")
        del cloud.agents[f"dhcp-net{number}"]
        for router in range(40):
            cloud.router(f"r{number}-{router}", on=f"net{number}", networks=("lan",))
    recorder = Recorder(place / "heard", max_bytes=3 << 18, files=1000)
    story = WatchedCloud(cloud, Scribe(recorder), PolicySettings().report_interval, listed_every=19)
    monkeypatch.setattr("brokerless.ha.recorded_watch.time.monotonic", lambda: story.now)
    monkeypatch.setattr("brokerless.ha.bus.recording.time.monotonic", lambda: story.now)
    monkeypatch.setattr("brokerless.ha.bus.recording.time.time", lambda: story.now + story.wall_ahead)
    for _quarter in range(4):
        story.passes(600)
        story.silent = {"net7"}
        story.passes(150)
        story.looks()
        story.silent = set()
        story.passes(150)
    recorder.close()
    assert recorder.lost == 0
    return recordings_of(place / "heard")


def test_an_hour_of_a_large_cloud_is_replayed_in_memory_that_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_an_hour(tmp_path, monkeypatch)
    objects: list[int] = []
    pages: list[int] = []

    def measured() -> Iterator[Path]:
        """The files, one after the other; what is held is measured where one begins."""
        for file in files:
            gc.collect()
            objects.append(len(gc.get_objects()))
            pages.append(int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]))
            yield file

    found: Counter[str] = Counter()

    def decided(decision: Decision) -> None:
        found[decision.event if decision.event != "transition" else f"{decision.told['host']} {decision.told['after']}"] += 1

    summary = replay(measured(), PolicySettings(), [L3], decided)
    assert summary.heartbeats > 100 * HOUR / 30 * 0.95
    assert summary.seconds > HOUR - 1
    assert summary.damaged == 0
    assert found["net7 dead"] == 4 * 2, "the L3 agent and the switch agent, each time"
    assert not [each for each in found if each.endswith(" dead") and not each.startswith("net7")]
    assert found["plan"] == 4
    assert len(objects) > 8
    # what is held when half of it was heard, and deaths among it, is held at the end
    half = len(objects) // 2
    assert max(objects[half:]) < 1.02 * objects[half], objects
    assert (max(pages[half:]) - pages[half]) * os.sysconf("SC_PAGESIZE") < 16 << 20, pages
