# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Run oslo.messaging's own tests, as they are in its wheel, on `zmq://` with a real receiver, and on RabbitMQ: `make upstream` calls it.

Each row of the table is one run of a suite. A row that is not as expected is a failure, also if it is better; each test that failed is named with the
reason, and so is each that can't pass on a wire.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rabbitmq_server import RabbitmqServer
from receiver_process import hosts

CHECKOUT = Path(__file__).resolve().parents[2]
KEPT = CHECKOUT / ".cache" / "upstream"
LOCK_FILE = CHECKOUT / "requirements" / "upstream.txt"
VERSIONS = ("18.3.1", "18.2.0")
PARTS = 6
"""So many processes share the tests of a row: most of their time is waiting."""
REPEATS = 2
"""So often a test that failed is run again, alone."""
ROW_SECONDS = 900.0


@dataclass(frozen=True)
class Row:
    """One run of a suite, and how many of its tests must pass, fail and be skipped."""

    suite: str
    transport: str
    threads: str
    version: str
    expected: tuple[int, int, int]


@dataclass
class Outcomes:
    """How the tests of a row ended."""

    row: Row
    seconds: float
    tests: list[dict[str, str]] = dataclasses.field(default_factory=list)
    again: int = 0
    """How many were run again because they failed: upstream's tests wait for fixed times, and with native threads they race against themselves."""

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many passed, failed and were skipped."""
        counter = Counter(test["ended"] for test in self.tests)
        return counter["pass"], counter["fail"], counter["skip"]

    @property
    def as_expected(self) -> bool:
        """Whether each test ended as it must: in the unit tests, those that can't pass on a wire are the ones that fail."""
        failed = {test["test"] for test in self.tests if test["ended"] == "fail"}
        return self.counts == self.row.expected and (self.row.suite != "unit" or failed == set(unreachable()))


def unreachable() -> dict[str, str]:
    """Return the unit tests that can't pass on a wire, and why."""
    script = f"import json, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import generic_unit_tests as g; print(json.dumps(g.UNREACHABLE))"
    done = subprocess.run([environment(VERSIONS[0]) / "bin" / "python", "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    told: dict[str, str] = json.loads(done.stdout)
    return told


def rows() -> list[Row]:
    """Return all rows."""
    on_receivers = [
        row
        for version in VERSIONS
        for threads in ("native", "eventlet")
        for row in (Row("functional", "zmq", threads, version, (29, 0, 4)), Row("rabbit-only", "zmq", threads, version, (2, 0, 0)))
    ]
    unit = Row("unit", "zmq", "eventlet", VERSIONS[0], (41, 12, 0))
    return [*on_receivers, Row("functional", "rabbit", "eventlet", VERSIONS[0], (31, 0, 2)), unit]


def wheel() -> Path:
    """Return the wheel of the runtime that `make deps` built last."""
    return next((CHECKOUT / ".cache" / "wheelhouse").glob("brokerless_openstack-*.whl"))


def environment(version: str) -> Path:
    """Return a virtual environment with oslo.messaging of that version, what its tests need, and our wheel; it is made once."""
    place = KEPT / f"venv-{version}"
    pins = LOCK_FILE.read_text(encoding="utf-8").replace(f"oslo.messaging=={VERSIONS[0]}", f"oslo.messaging=={version}")
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / ".lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete, installed = place / ".complete", place / ".wheel"
        if not complete.exists() or complete.read_text(encoding="utf-8") != pins:
            shutil.rmtree(place, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", place], check=True)
            (place / "requirements.txt").write_text(pins, encoding="utf-8")
            pip_install(place, "--no-deps", "--requirement", str(place / "requirements.txt"))
            complete.write_text(pins, encoding="utf-8")
        built = f"{wheel().stat().st_mtime_ns}"
        if not installed.exists() or installed.read_text(encoding="utf-8") != built:
            pip_install(place, "--no-deps", "--force-reinstall", str(wheel()))
            installed.write_text(built, encoding="utf-8")
    return place


def pip_install(place: Path, *arguments: str) -> None:
    """Install into a virtual environment."""
    command = [str(place / "bin" / "python"), "-m", "pip", "--quiet", "--quiet", "--disable-pip-version-check", "install", *arguments]
    subprocess.run(command, check=True, env={"PIP_CACHE_DIR": str(CHECKOUT / ".cache" / "pip"), **os.environ})


@contextlib.contextmanager
def serving(transport: str) -> Iterator[tuple[str, list[str]]]:
    """Start what the transport needs; yield its URL and the defaults of the driver's options."""
    if transport == "rabbit":
        with RabbitmqServer() as broker:
            broker.start()
            yield broker.url.replace("amqp://", "rabbit://").removesuffix("/"), []
    else:
        with hosts(["control1"], ring={"any": ["control1"]}, rpc_zmq_matchmaker="mesh") as (receiver,):
            yield "zmq://", [f"rpc_zmq_ipc_dir={receiver.ipc_directory}", f"rpc_zmq_host={receiver.host}"]


def run_row(row: Row) -> Outcomes:
    """Run the tests of a row, with a server of their own. Those that failed are run again, alone: see `Outcomes.again`."""
    parts = PARTS if row.suite == "functional" else 1
    with tempfile.TemporaryDirectory() as folder, serving(row.transport) as (url, options):
        began = time.monotonic()
        outcomes = Outcomes(row, 0.0, run_parts(row, url, options, Path(folder), [f"{number}/{parts}" for number in range(parts)]))
        failed = [] if row.suite == "unit" else [test["test"] for test in outcomes.tests if test["ended"] == "fail"]
        for _turn in range(REPEATS):
            if failed:
                names = Path(folder, "failed")
                names.write_text("\n".join(failed), encoding="utf-8")
                repeated = run_parts(row, url, options, Path(folder), [f"@{names}"])
                outcomes.tests = [test for test in outcomes.tests if test["test"] not in {again["test"] for again in repeated}] + repeated
                outcomes.again += len(repeated)
                failed = [test["test"] for test in repeated if test["ended"] == "fail"]
        outcomes.seconds = time.monotonic() - began
        return outcomes


def run_parts(row: Row, url: str, options: list[str], folder: Path, parts: list[str]) -> list[dict[str, str]]:
    """Run parts of a row's tests beside each other, and return how each test ended."""
    place = environment(row.version)
    told = {
        "RPC_TRANSPORT_URL": url,
        "NOTIFY_TRANSPORT_URL": url,
        "OS_TEST_TIMEOUT": "120",
        "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),  # where stevedore keeps what it found
    }
    results = [folder / f"results-{number}" for number in range(len(parts))]
    running = []
    for part, result in zip(parts, results, strict=True):
        command = [place / "bin" / "python", "-W", "ignore", Path(__file__).parent / "run_shard.py", row.suite, row.threads, part, result, *options]
        with result.with_suffix(".log").open("wb") as log:
            running.append(subprocess.Popen(list(map(str, command)), cwd=folder, env=clean_environment() | told, stdout=log, stderr=log))
    ends_at = time.monotonic() + ROW_SECONDS
    tests = []
    for process, result in zip(running, results, strict=True):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, ends_at - time.monotonic()))
        process.kill()
        lines = result.read_text(encoding="utf-8").splitlines() if result.exists() else []
        tests += [json.loads(line) for line in lines]
        if process.wait():
            log_text = result.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
            tests.append({"test": f"process {result.name}", "ended": "fail", "why": log_text[-2000:]})
    return tests


def clean_environment() -> dict[str, str]:
    """Return our environment without what says where Python looks for modules."""
    return {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV", "TRANSPORT_DRIVER"}}


def shown(outcomes: list[Outcomes]) -> list[str]:
    """Return the table, and below it what failed, and why."""
    lines = ["", "oslo.messaging  transport  threads   suite        run  pass  fail  skip  again  seconds"]
    for outcome in outcomes:
        row, (passed, failed, skipped) = outcome.row, outcome.counts
        ran = passed + failed
        expected = "/".join(map(str, row.expected))
        lines.append(
            f"{row.version:14}  {row.transport + '://':9}  {row.threads:8}  {row.suite:11}  {ran:3}  {passed:4}  {failed:4}  {skipped:4}  "
            f"{outcome.again:5}  {outcome.seconds:7.0f}{'' if outcome.as_expected else f'  NOT AS EXPECTED: {expected}'}"
        )
    for outcome in outcomes:
        reasons = unreachable() if outcome.row.suite == "unit" else {}
        for test in outcome.tests:
            if test["ended"] == "fail":
                why = f"can't pass on a wire: {reasons[test['test']]}" if test["test"] in reasons else test["why"]
                lines.append(f"{outcome.row.transport}:// {outcome.row.threads} {test['test']}: {why}")
    return lines


def main() -> int:
    """Run the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("suite", "transport", "threads", "version"):
        parser.add_argument(f"--{name}", default="", help=f"only rows with this {name}")
    arguments = parser.parse_args()
    wanted = {name: value for name, value in vars(arguments).items() if value}
    outcomes = []
    for row in rows():
        if all(getattr(row, name) == value for name, value in wanted.items()):
            print(f"… oslo.messaging {row.version} {row.suite} on {row.transport}://, {row.threads}", flush=True)
            outcomes.append(run_row(row))
    print("\n".join(shown(outcomes)))
    return 0 if outcomes and all(outcome.as_expected for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
