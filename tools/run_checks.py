# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Run the checks of this project: `python tools/run_checks.py [STEP]...`, all steps without arguments. `make test` calls it.

Every step runs, whatever failed before it. A check that looked at nothing has failed, and so has a test run in which a test was skipped.
Without arguments, the steps that mostly compute run beside those whose processes mostly wait for each other; what they say comes after.
The failures are listed at the end, and the last line counts the tests of all pytest runs; a failed check of another kind counts there as
one failed test. The exit code is 0 only if nothing failed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from checkout_files import CHECKOUT, files_of_checkout
from link_collection import link_collection

RESULTS = CHECKOUT / ".cache" / "test-results"
DOCS = CHECKOUT / "docs" / "_build"
COLLECTION = "brokerless.openstack"
BESIDE = ("lint", "types", "unit", "simulation", "playbooks", "sanity", "docs", "packaging")
"""The steps that run in a process of their own when all do."""


@dataclass(frozen=True)
class Result:
    """What one check found. `problem` is None if it passed; `tests` and `failures` count single tests, for pytest runs only."""

    name: str
    looked_at: str
    problem: str | None
    tests: int = 0
    failures: int = 0


@dataclass(frozen=True)
class JunitCounts:
    """The sums of a JUnit report."""

    tests: int
    failures: int
    skipped: int


def read_junit(report: Path) -> JunitCounts:
    """Add up the suites of a JUnit report; one that is missing or broken off counts nothing."""
    try:
        suites = list(ET.parse(report).getroot().iter("testsuite"))  # noqa: S314 - pytest wrote it, just now
    except (OSError, ET.ParseError):
        return JunitCounts(0, 0, 0)

    def total(attribute: str) -> int:
        return sum(int(suite.get(attribute, "0")) for suite in suites)

    return JunitCounts(total("tests"), total("failures") + total("errors"), total("skipped"))


def shell_scripts() -> list[str]:
    """Return the shell scripts of the checkout, known by their first line."""
    return [name for name in files_of_checkout() if re.match(rb"#!.*\b(ba|da)?sh\b", (CHECKOUT / name).read_bytes()[:40])]


def check(
    name: str,
    command: list[str],
    count: int | re.Pattern[str],
    unit: str,
    forbidden: re.Pattern[str] | None = None,
    home: Path | None = None,
) -> Result:
    """Run `command` and show what it says if it fails.

    `count` says how many `unit`s it looks at, or finds that number in its output (in the first group, or by how often it matches); output
    that `forbidden` matches is a failure. `home` is the home directory of a program that would write into the user's.
    """
    announce(name)
    if shutil.which(command[0]) is None:
        return report(Result(name, f"0 {unit}", f"there is no program {command[0]!r} on PATH; `make deps` brings it"))
    environment = {**os.environ, "HOME": str(home)} if home else None
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    looked_at = count if isinstance(count, int) else counted(count, done.stdout)
    problem = None
    if done.returncode != 0:
        problem = f"exit code {done.returncode}"
    elif looked_at == 0:
        problem = f"looked at no {unit}"
    elif forbidden and (unwanted := forbidden.search(done.stdout)):
        problem = f"said {unwanted.group(0)!r}"
    if problem:
        show(done.stdout)
    return report(Result(name, f"{looked_at} {unit}", problem))


def counted(pattern: re.Pattern[str], output: str) -> int:
    """Return the number in the first group of the last match, or how often `pattern` matches if it has no group."""
    matches = list(pattern.finditer(output))
    if pattern.groups and matches:
        return int(matches[-1].group(1))
    return len(matches)


def run_pytest(name: str, folder: str) -> Result:
    """Run the tests below `folder`; pytest writes to our output as it goes."""
    announce(name)
    RESULTS.mkdir(parents=True, exist_ok=True)
    junit = RESULTS / f"{name}.xml"
    junit.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "--quiet", folder, f"--junit-xml={junit}", "-o", f"junit_suite_name={name}"]
    code = subprocess.run(command, cwd=CHECKOUT, check=False).returncode
    counts = read_junit(junit)
    problem = None
    if counts.failures:
        problem = f"{counts.failures} of {counts.tests} tests failed"
    elif code not in {0, 5}:
        problem = f"pytest ended with exit code {code}"
    elif counts.tests == 0:
        problem = "ran no test"
    elif counts.skipped:
        problem = f"{counts.skipped} tests were skipped or expected to fail"
    failures = counts.failures or (1 if problem else 0)
    return report(Result(name, f"{counts.tests} tests", problem, counts.tests, failures))


def lint() -> Iterator[Result]:
    """Style and faults of every kind of file."""
    yaml = files_of_checkout("*.yml", "*.yaml", ".yamllint", ".ansible-lint")
    scripts = shell_scripts()
    yield check("ruff check", ["ruff", "check", "."], len(files_of_checkout("*.py")), "files")
    yield check("ruff format", ["ruff", "format", "--check", "."], re.compile(r"(\d+) files already formatted"), "files")
    yield check("yamllint", ["yamllint", "--strict", *yaml], len(yaml), "files")
    yield check("shellcheck", ["shellcheck", *scripts], len(scripts), "scripts")
    yield check("ansible-lint", ["ansible-lint", "--nocolor", "--offline"], re.compile(r"in (\d+) files processed"), "files")
    fragments = len(files_of_checkout("changelogs/fragments/*", "changelogs/changelog.yaml"))
    yield check("changelog", ["antsibull-changelog", "lint"], fragments, "files")


def types() -> Iterator[Result]:
    """Types: the runtime and the tools, then the plugins by the names under which Ansible imports them."""
    found = re.compile(r"no issues found in (\d+) source files?")
    yield check("mypy", ["mypy"], found, "files")
    tree = "collections/ansible_collections/brokerless/openstack"
    plugins = [f"{tree}/{name}" for name in files_of_checkout("plugins/*.py") if not name.startswith("plugins/module_utils/brokerless/")]
    yield check("mypy of the plugins", ["mypy", "--config-file", ".config/mypy-plugins.ini", *plugins], found, "files")


def unit() -> Iterator[Result]:
    """Tests of single files."""
    yield run_pytest("unit", "tests/unit")


def simulation() -> Iterator[Result]:
    """The sans-IO cores under seeded faults."""
    yield run_pytest("simulation", "tests/simulation")


def functional() -> Iterator[Result]:
    """Tests with real receivers and processes, a short fuzz, hosts under fire for half a minute."""
    yield run_pytest("functional", "tests/functional")
    yield run_pytest("fuzz", "tests/fuzz")
    yield run_pytest("soak", "tests/soak")


def playbooks() -> Iterator[Result]:
    """Modules and roles in real plays, and whole sites on hosts of this machine."""
    yield run_pytest("playbooks", "tests/playbooks")


def neutron_lab() -> Iterator[Result]:
    """rpcdaemon against a real Neutron, as much of it as takes four minutes; `make neutron-lab-test` runs all."""
    yield run_pytest("neutron-lab", "tests/neutron_lab/test_rpcdaemon.py")


def upstream() -> Iterator[Result]:
    """oslo.messaging's own tests on our driver, as much of them as takes a minute; `make upstream` runs all."""
    yield run_pytest("upstream", "tests/upstream")


def openstack() -> Iterator[Result]:
    """Neutron and Nova as they are, with `transport_url = zmq://`."""
    yield run_pytest("neutron on zmq", "tests/neutron_lab/test_brokerless_neutron.py")
    yield run_pytest("nova on zmq", "tests/nova_lab")


def host_lab() -> Iterator[Result]:
    """The roles on two real hosts; `make molecule` runs all scenarios."""
    command = ["env", "PYTHONPATH=tools", sys.executable, "tests/host_lab/run_scenarios.py", "smoke"]
    yield check("host lab", command, re.compile(r"(\d+) tasks verified"), "tasks verified")


def sanity() -> Iterator[Result]:
    """Ansible's own checks. ansible-test passes when it tested nothing, and says so only in words."""
    skipped = re.compile(r"(?i)\bskipp(ed|ing)\b.*")
    command = [sys.executable, "tools/ansible_test_sanity.py"]
    yield check("ansible-test sanity", command, re.compile(r'(?m)^Running sanity test "'), "tests", forbidden=skipped)


def docs() -> Iterator[Result]:
    """The documentation of modules, plugins and roles: its markup and references, and whether it can be built."""
    sources = len(files_of_checkout("plugins/modules/*.py", "plugins/filter/*", "roles/*/meta/argument_specs.yml"))
    lint_docs = ["antsibull-docs", "lint-collection-docs", "--plugin-docs", "--validate-collection-refs", "all", "--skip-rstcheck", "."]
    # antsibull-docs keeps a log in the home directory
    shutil.rmtree(DOCS, ignore_errors=True)
    (DOCS / "rst").mkdir(parents=True)
    (DOCS / "log").mkdir()
    yield check("antsibull-docs lint", lint_docs, sources, "modules, plugins and roles", home=DOCS / "log")
    write_rst = ["antsibull-docs", "collection", "--use-current", "--squash-hierarchy", "--fail-on-error", "--dest-dir", str(DOCS / "rst")]
    yield check("antsibull-docs", [*write_rst, COLLECTION], sources, "modules, plugins and roles", home=DOCS / "log")
    # -C: no conf.py; the references to Ansible's own documentation would be looked up on the network
    build = ["sphinx-build", "-C", "-q", "-b", "html", "-D", "extensions=sphinx_antsibull_ext", "-D", f"project={COLLECTION}"]
    yield check("sphinx-build", [*build, str(DOCS / "rst"), str(DOCS / "html")], sources, "pages")


def packaging() -> Iterator[Result]:
    """The wheel and the collection's tarball: built, installed into an empty place, and used."""
    yield run_pytest("packaging", "tests/packaging")


STEPS: dict[str, Callable[[], Iterator[Result]]] = {
    "lint": lint,
    "types": types,
    "unit": unit,
    "simulation": simulation,
    "functional": functional,
    "playbooks": playbooks,
    "neutron-lab": neutron_lab,
    "upstream": upstream,
    "openstack": openstack,
    "host-lab": host_lab,
    "sanity": sanity,
    "docs": docs,
    "packaging": packaging,
}


def announce(name: str) -> None:
    """Say which check begins."""
    show(f"== {name}")


def report(result: Result) -> Result:
    """Say how a check ended, and return it."""
    show(f"   FAILED: {result.problem}" if result.problem else f"   ok, {result.looked_at}")
    return result


def show(text: str) -> None:
    """Print `text` at once, between the outputs of the programs we run."""
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


def closing_lines(results: list[Result], seconds: float) -> list[str]:
    """Return the lines after the last check: what was looked at, what failed, and, if tests ran, the one line of totals."""
    width = max(len(result.name) for result in results)
    lines = ["", f"{len(results)} checks in {seconds:.0f} s"]
    lines += [f"  {'FAILED' if result.problem else 'ok':6}  {result.name:{width}}  {result.problem or result.looked_at}" for result in results]
    passed = sum(result.tests - result.failures for result in results if result.tests)
    failed = sum(result.failures or (1 if result.problem else 0) for result in results)
    ran_tests = any(result.tests for result in results)
    return [*lines, "", f"{passed} passed, {failed} failed"] if ran_tests or failed else lines


class StepsBeside:
    """Steps that run in a process of their own, from the beginning on; `finish` shows what they said."""

    def __init__(self, steps: list[str], place: Path) -> None:
        """Start them; `place` is an empty folder."""
        self._output, self._results = place / "output", place / "results.json"
        # nice: what runs beside gives way to tests whose processes wait for each other
        command = ["nice", "-n", "5", sys.executable, __file__, *steps, "--results", str(self._results)]
        with self._output.open("w", encoding="utf-8") as output:
            self._process = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        self._steps = steps

    def finish(self) -> list[Result]:
        """Wait until they have ended, show what they said, and return what they found."""
        self._process.wait()
        show(self._output.read_text(encoding="utf-8", errors="replace"))
        try:
            return [Result(**fields) for fields in json.loads(self._results.read_text(encoding="utf-8"))]
        except (OSError, ValueError) as error:
            return [Result(", ".join(self._steps), "nothing", f"ended with exit code {self._process.returncode} and without results: {error}")]

    def stop(self) -> None:
        """End them if they have not ended."""
        self._process.terminate()
        self._process.wait()


def run_steps(steps: list[str]) -> list[Result]:
    """Run steps one after the other."""
    return [result for name in steps for result in STEPS[name]()]


def run_all_steps() -> list[Result]:
    """Run all steps, those of `BESIDE` beside the others."""
    with tempfile.TemporaryDirectory() as place:
        beside = StepsBeside(list(BESIDE), Path(place))
        try:
            return run_steps([name for name in STEPS if name not in BESIDE]) + beside.finish()
        finally:
            beside.stop()


def main() -> int:
    """Run the steps that are named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"one or more of {', '.join(STEPS)}; all if none is given")
    parser.add_argument("--results", type=Path, metavar="FILE", help="write what was found to FILE, as JSON, and leave out the closing lines")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.steps if name not in STEPS]:
        parser.error(f"no such step: {', '.join(unknown)} (there are {', '.join(STEPS)})")
    link_collection()
    # the programs beside our Python are meant, also when nobody put them on PATH
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    began = time.monotonic()
    results = run_steps(arguments.steps) if arguments.steps else run_all_steps()
    if arguments.results:
        arguments.results.write_text(json.dumps([dataclasses.asdict(result) for result in results]), encoding="utf-8")
    else:
        show("\n".join(closing_lines(results, time.monotonic() - began)))
    return 1 if any(result.problem for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
