# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Run a part of oslo.messaging's own tests, as they lie in its wheel: `python run_shard.py SUITE THREADS PART RESULTS [OPTION=VALUE]...`.

SUITE is `functional`, `rabbit-only` or `unit` (the tests of `generic_unit_tests`). THREADS is `eventlet`, as the suite
itself patches its process, or `native`: eventlet patches nothing and servers use threads; no test is changed. PART is `0/4`, the first
of four, or `@FILE`, the tests that are named in the file.
RESULTS gets a JSON line for each test: its name, how it ended, and why. Options are defaults for the driver's, as only one of the two URLs that
the suite is given may have a query.

It runs in the virtual environment that `upstream_suite.py` makes, and nothing of this file is imported elsewhere.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def use_native_threads() -> None:
    """Keep eventlet from patching the process, and let each server use threads."""
    import eventlet
    from oslo_service import backend

    def leave_alone(*_modules: object, **_flags: object) -> None:
        """Patch nothing."""

    eventlet.monkey_patch = leave_alone
    backend.init_backend(backend.BackendType.THREADING)
    from oslo_messaging import server

    original = server.MessageHandlingServer.__init__

    def with_threads(self: Any, transport: Any, dispatcher: Any, executor: object = None) -> None:
        original(self, transport, dispatcher, "threading")

    server.MessageHandlingServer.__init__ = with_threads


def set_driver_defaults(assignments: list[str]) -> None:
    """Set defaults of the driver's options."""
    from brokerless.rpc.oslo_driver.options import set_defaults

    set_defaults(**dict(assignment.split("=", 1) for assignment in assignments))


def tests_of(suite_name: str) -> list[unittest.TestCase]:
    """Return the tests, with their scenarios, in alphabetical order."""
    package = importlib.import_module("oslo_messaging.tests")
    folder = Path(str(package.__file__)).parent
    top = folder.parents[1]
    if suite_name == "functional":
        loaded = unittest.TestLoader().discover(str(folder / "functional"), top_level_dir=str(top))
    elif suite_name == "rabbit-only":
        loaded = unittest.TestLoader().loadTestsFromName("rabbit_only")
    else:
        import generic_unit_tests

        generic_unit_tests.swap_driver(os.environ["RPC_TRANSPORT_URL"])
        loaded = unittest.TestLoader().loadTestsFromNames(generic_unit_tests.MODULES)
        loaded = unittest.TestSuite(filter(generic_unit_tests.is_generic, flat(loaded)))
    return sorted(flat(loaded), key=lambda test: test.id())


def part_of(tests: list[unittest.TestCase], part: str) -> list[unittest.TestCase]:
    """Return the tests of a part."""
    if part.startswith("@"):
        names = Path(part[1:]).read_text(encoding="utf-8").splitlines()
        return [test for test in tests if test.id() in names]
    number, parts = part.split("/")
    return tests[int(number) :: int(parts)]


def flat(suite: unittest.TestSuite | unittest.TestCase) -> Iterator[unittest.TestCase]:
    """Yield the single tests of a suite."""
    if isinstance(suite, unittest.TestSuite):
        for test in suite:
            yield from flat(test)
    else:
        yield suite


class Outcome(unittest.TestResult):
    """How one test ended."""

    def described(self) -> tuple[str, str]:
        """Return `pass`, `fail` or `skip`, and why."""
        for broken in [*self.failures, *self.errors]:
            return "fail", broken[1]
        for skipped in self.skipped:
            return "skip", skipped[1]
        return "pass", ""


def main() -> int:
    """Run the tests."""
    suite_name, threads, part, results, *options = sys.argv[1:]
    sys.path.insert(0, str(Path(__file__).parent))
    if threads == "native":
        use_native_threads()
    importlib.import_module("oslo_messaging.tests")  # which patches the process
    if options:
        set_driver_defaults(options)
    with Path(results).open("w", encoding="utf-8", buffering=1) as lines:
        for test in part_of(tests_of(suite_name), part):
            began = time.monotonic()
            if suite_name == "unit":
                importlib.import_module("generic_unit_tests").use_namespace_of(test)
            outcome = Outcome()
            test.run(outcome)
            ended, why = outcome.described()
            lines.write(json.dumps({"test": test.id(), "ended": ended, "why": why, "seconds": round(time.monotonic() - began, 1)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
