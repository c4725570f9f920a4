# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Run molecule's scenarios on the host lab: `python tests/host_lab/run_scenarios.py [SCENARIO]...`, all without arguments.

A scenario is the steps of its molecule.yml, each a run of molecule. It passes if all do, if each step that deploys or verifies ran tasks on hosts, if
the second run changed nothing, and if `--check` on the fresh hosts foretold exactly what the first run then changed. A table says what each step did
and how long it took; the last line counts the tasks that were verified.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ansible_versions import NEEDED_PYTHON, programs_of
from host_image import CHECKOUT, KEPT, PYTHONS, LabFault
from host_lab import NEWER_VERSION, HostLab
from run_hosts import say

SCENARIOS = CHECKOUT / "extensions" / "molecule"
CALLBACKS = CHECKOUT / "tests" / "playbooks" / "callback_plugins"
ON_HOSTS = ("check", "converge", "idempotence", "side_effect", "verify")
"""The steps that are nothing if they do nothing on a host."""


@dataclass(frozen=True)
class Step:
    """What a step of a scenario did. `changed` has (host, task); `problem` is None if all was well."""

    scenario: str
    name: str
    seconds: float
    tasks: int
    changed: frozenset[tuple[str, str]]
    problem: str | None


def steps_of(scenario: str) -> list[str]:
    """Return the steps of a scenario, in order. Raises `LabFault` if there is no such scenario."""
    file = SCENARIOS / scenario / "molecule.yml"
    if not file.exists():
        raise LabFault(f"there is no scenario {scenario!r}; there are {', '.join(all_scenarios())}")
    shared = yaml.safe_load((SCENARIOS / "config.yml").read_text(encoding="utf-8"))
    own = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    return list(own.get("scenario", {}).get("test_sequence") or shared["scenario"]["test_sequence"])


def all_scenarios() -> list[str]:
    """Return the names of all scenarios, `default` first."""
    names = sorted(path.parent.name for path in SCENARIOS.glob("*/molecule.yml"))
    return sorted(names, key=lambda name: name != "default")


def fault_of(name: str, exit_code: int, results: Sequence[dict[str, Any]]) -> str | None:
    """Return what is wrong with a step that ended with `exit_code` and of whose tasks on hosts these are the results."""
    if exit_code != 0:
        return f"molecule ended with exit code {exit_code}"
    if name in ON_HOSTS and not any(result["outcome"] == "ok" for result in results):
        return "no task ran on any host"
    return None


def differences(forecast: Iterable[tuple[str, str]], real: Iterable[tuple[str, str]]) -> list[str]:
    """Return what `--check` foretold and did not come, and what came and was not foretold."""
    foretold, came = set(forecast), set(real)
    return [f"{host}: --check foretold {task!r}" for host, task in sorted(foretold - came)] + [
        f"{host}: --check did not foretell {task!r}" for host, task in sorted(came - foretold)
    ]


def read_results(file: Path) -> list[dict[str, Any]]:
    """Return the results of the tasks that ran on hosts of the lab."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [result for result in map(json.loads, lines) if result["host"] != "localhost"]


class Runner:
    """Runs scenarios on one lab."""

    def __init__(self, lab: HostLab, newer_wheel: Path) -> None:
        """`lab` must be prepared; `newer_wheel` is what hosts can be upgraded to."""
        self._lab = lab
        self._newer_wheel = newer_wheel
        self._records = KEPT / "scenarios"

    def scenario(self, scenario: str, first: str | None = None) -> list[Step]:
        """Run the steps of a scenario up to the first that fails, and end its hosts. `first` is a step to begin with, on hosts that were kept."""
        done: list[Step] = []
        names = steps_of(scenario)
        if first:
            names = names[names.index(first) :]
        if os.environ.get("KEEP") and names[-1] == "destroy":
            names.pop()
        for name in names:
            step = self._step(scenario, name)
            before = {earlier.name: earlier for earlier in done}
            if step.name == "converge" and step.problem is None and "check" in before:
                wrong = differences(before["check"].changed, step.changed)
                if wrong:
                    say("\n".join(wrong))
                    step = Step(scenario, name, step.seconds, step.tasks, step.changed, f"--check foretold otherwise, for {len(wrong)} tasks")
            done.append(step)
            if step.problem is not None:
                if "destroy" in names and not os.environ.get("KEEP"):
                    self._step(scenario, "destroy")
                break
        return done

    def _step(self, scenario: str, name: str) -> Step:
        folder = self._records / scenario
        folder.mkdir(parents=True, exist_ok=True)
        results, log = folder / f"{name}.results", folder / f"{name}.log"
        results.write_text("", encoding="utf-8")
        environment = {
            **self._lab.environment(),
            "ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS),
            "ANSIBLE_CALLBACKS_ENABLED": "task_results",
            "ANSIBLE_HOST_PATTERN_MISMATCH": "error",
            "ANSIBLE_NOCOLOR": "1",
            "HOST_LAB_PYTHON": sys.executable,
            "HOST_LAB_RECORDS": str(folder),
            "HOST_LAB_SUITE": self._lab.suite,
            "MOLECULE_EPHEMERAL_DIRECTORY": str(KEPT / "molecule" / scenario),
            "NEWER_VERSION": NEWER_VERSION,
            "NEWER_WHEEL": str(self._newer_wheel),
            "NO_COLOR": "1",
            "TASK_RESULTS": str(results),
        }
        say(f"   {scenario}: {name}")
        began = time.monotonic()
        with log.open("w", encoding="utf-8") as output:
            command = [str(self._lab.programs / "molecule"), name.replace("_", "-"), "--scenario-name", scenario]
            code = subprocess.run(
                self._lab.inside(*command) if name not in {"create", "destroy"} else command,
                cwd=CHECKOUT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        of_hosts = read_results(results)
        changed = frozenset((result["host"], result["task"].rpartition(" : ")[2]) for result in of_hosts if result["result"].get("changed"))
        problem = fault_of(name, code, of_hosts)
        if problem:
            said = log.read_text(encoding="utf-8", errors="replace")
            say("\n".join(said.splitlines()[-120:]))
        ran = sum(result["outcome"] == "ok" for result in of_hosts)
        return Step(scenario, name, time.monotonic() - began, ran, changed, problem)


def table(steps: Sequence[Step]) -> list[str]:
    """Return the lines that say what each step did, and how many tasks were verified."""
    head = f"{'scenario':14} {'step':12} {'tasks':>6} {'changed':>8} {'seconds':>8}"
    lines = [f"{step.scenario:14} {step.name:12} {step.tasks:6} {len(step.changed):8} {step.seconds:8.0f}  {step.problem or 'ok'}" for step in steps]
    passed = {step.scenario for step in steps} - {step.scenario for step in steps if step.problem}
    verified = sum(step.tasks for step in steps if step.name == "verify" and step.problem is None)
    return [head, *lines, f"{len(passed)} scenarios passed, {len({step.scenario for step in steps}) - len(passed)} failed, {verified} tasks verified"]


def main() -> int:
    """Run the scenarios that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    parser.add_argument("--suite", choices=sorted(PYTHONS), default="bookworm", help="the Debian of the hosts (default: bookworm)")
    parser.add_argument("--ansible", choices=sorted(NEEDED_PYTHON), help="another ansible-core than the checkout's own")
    parser.add_argument("--first", metavar="STEP", help="begin with this step, on the hosts that KEEP=1 kept")
    arguments = parser.parse_args()
    steps: list[Step] = []
    try:
        began = time.monotonic()
        lab = HostLab(arguments.suite, programs_of(arguments.ansible) if arguments.ansible else None)
        lab.prepare()
        runner = Runner(lab, lab.newer_wheel())
        say(f"   lab prepared in {time.monotonic() - began:.0f} s")
        for scenario in arguments.scenarios or all_scenarios():
            steps += runner.scenario(scenario, arguments.first)
    except LabFault as fault:
        say(str(fault))
        return 1
    say("\n".join(table(steps)))
    return 1 if any(step.problem for step in steps) or not steps else 0


if __name__ == "__main__":
    sys.exit(main())
