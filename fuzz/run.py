# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Throw mutated bytes at every parser that sees bytes from outside, and at both cores: `make fuzz`.

Each target runs in a process of its own under atheris (libFuzzer with the coverage of Python code), from seeds that the code makes and a corpus
that grows in `.cache/fuzz/corpus`. Options are environment variables: EXECS (executions of each target, 200,000), ONLY (comma-separated names),
INPUT (a file to try once with the one target in ONLY). The exit code is 1 if a target failed; the input that did it is kept, and named.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from seeds import SEEDS  # noqa: E402 - beside this file, wherever we were started

PLACE = HERE.parent / ".cache" / "fuzz"
EXECUTIONS = int(os.environ.get("EXECS", "200000"))
SLOW = {"option-file": 100, "receiver-core": 20, "driver-session": 10, "bodies": 2}
"""By how much fewer executions a target gets, because each of them costs so much more."""
INPUT_SECONDS = 20
"""An input that takes longer is a fault."""
MEMORY_MB = 1024
LONGEST = {"frames": 70_000, "bundles": 5000, "receiver-core": 3000, "driver-session": 2000, "bodies": 4000, "systemd": 6000}
"""The longest inputs, in bytes; 400 for the others."""


@dataclass(frozen=True)
class Outcome:
    """What became of a target: executions, how many of them a second, features of the code that were reached, and inputs that reached them."""

    name: str
    executions: int
    per_second: int
    coverage: int
    corpus: int
    fault: str


def fuzz(name: str, executions: int) -> Outcome:
    """Run a target."""
    corpus, seeds = PLACE / "corpus" / name, PLACE / "seeds" / name
    for directory in (corpus, seeds, PLACE / "found"):
        directory.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (seeds / str(number)).write_bytes(seed)
    arguments = [
        f"-runs={executions}",
        f"-max_len={LONGEST.get(name, 400)}",
        f"-timeout={INPUT_SECONDS}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={PLACE / 'found'}/{name}-",
        "-len_control=20",
        "-print_final_stats=1",
        str(corpus),
        str(seeds),
    ]
    output = run_target(name, arguments)
    found = re.findall(r"cov: (\d+) ft: \d+ corp: (\d+)/", output.stdout)
    done = re.search(r"stat::number_of_executed_units: (\d+)", output.stdout)
    rate = re.search(r"stat::average_exec_per_sec: +(\d+)", output.stdout)
    fault = "" if output.returncode == 0 else output.stdout[-6000:]
    coverage, kept = found[-1] if found else ("0", "0")
    return Outcome(name, int(done[1]) if done else 0, int(rate[1]) or int(done[1]) if rate and done else 0, int(coverage), int(kept), fault)


def run_target(name: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a target's process to its end."""
    command = [sys.executable, str(HERE / "target_process.py"), name, *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)


def main() -> int:
    """Run the targets that are wanted, and print what became of them."""
    wanted = [name.strip() for name in os.environ.get("ONLY", "").split(",") if name.strip()] or list(SEEDS)
    if unknown := sorted(set(wanted) - SEEDS.keys()):
        sys.stderr.write(f"no such target: {', '.join(unknown)} (there are {', '.join(SEEDS)})\n")
        return 2
    if os.environ.get("INPUT"):
        done = run_target(wanted[0], [os.environ["INPUT"]])
        sys.stdout.write(done.stdout)
        return done.returncode
    outcomes = []
    sys.stdout.write(f"{'target':16} {'executions':>10} {'a second':>9} {'coverage':>9} {'inputs':>7}\n")
    for name in wanted:
        outcome = fuzz(name, max(1, EXECUTIONS // SLOW.get(name, 1)))
        outcomes.append(outcome)
        line = f"{name:16} {outcome.executions:10,} {outcome.per_second:9,} {outcome.coverage:9,} {outcome.corpus:7,}"
        sys.stdout.write(f"{line}{'  FAILED' if outcome.fault else ''}\n")
        sys.stdout.flush()
    for outcome in outcomes:
        if outcome.fault:
            sys.stdout.write(f"\n== {outcome.name}\n{outcome.fault}\n")
    return 1 if any(outcome.fault for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
