# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The runner of the checks fails whenever something failed, was skipped, or looked at nothing."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from run_checks import Result, StepsBeside, check, closing_lines, counted, read_junit, run_pytest, shell_scripts

NUMBER = re.compile(r"(\d+) files")


def python(source: str) -> list[str]:
    """A command that runs `source`."""
    return [sys.executable, "-c", source]


def test_check_that_passes_counts_what_it_looked_at() -> None:
    assert check("x", python("print('1 files'); print('12 files')"), NUMBER, "files") == Result("x", "12 files", None)
    assert check("x", python(""), 3, "scripts") == Result("x", "3 scripts", None)


def test_check_that_fails_shows_why(capsys: pytest.CaptureFixture[str]) -> None:
    result = check("x", python("print('4 files: bad line'); raise SystemExit(3)"), NUMBER, "files")
    assert result.problem == "exit code 3"
    assert "bad line" in capsys.readouterr().out


@pytest.mark.parametrize("count", [0, NUMBER])
def test_check_that_looked_at_nothing_fails(count: int | re.Pattern[str]) -> None:
    assert check("x", python(""), count, "files").problem == "looked at no files"


def test_check_that_says_it_skipped_fails() -> None:
    result = check("x", python("print('All targets skipped.')"), 1, "tests", forbidden=re.compile("skipped"))
    assert result.problem == "said 'skipped'"


def test_missing_program_is_named() -> None:
    assert "'no-such-program'" in (check("x", ["no-such-program"], 1, "files").problem or "")


def test_counting_by_number_and_by_line() -> None:
    assert counted(NUMBER, "1 files\n2 files") == 2
    assert counted(re.compile(r"(?m)^Running"), "Running a\nRunning b\nnot Running") == 2
    assert counted(NUMBER, "") == 0


def test_missing_or_broken_report_counts_nothing(tmp_path: Path) -> None:
    (tmp_path / "half.xml").write_text("<testsuites><testsuite tests='3'", encoding="utf-8")
    assert read_junit(tmp_path / "none.xml").tests == 0
    assert read_junit(tmp_path / "half.xml").tests == 0


@pytest.mark.parametrize(
    ("source", "tests", "failures", "problem"),
    [
        ("def test_a(): pass\ndef test_b(): pass", 2, 0, None),
        ("def test_a(): pass\ndef test_b(): raise OSError", 2, 1, "1 of 2 tests failed"),
        ("import nothing_of_this_name", 1, 1, "1 of 1 tests failed"),
        ("import pytest\ndef test_a(): pytest.skip('x')", 1, 1, "1 tests were skipped or expected to fail"),
        ("", 0, 1, "ran no test"),
    ],
)
def test_run_pytest_is_counted(tmp_path: Path, source: str, tests: int, failures: int, problem: str | None) -> None:
    (tmp_path / "test_planted.py").write_text(source, encoding="utf-8")
    result = run_pytest("planted", str(tmp_path))
    assert (result.tests, result.failures, result.problem) == (tests, failures, problem)


def test_last_line_counts_tests_and_failed_checks() -> None:
    results = [Result("unit", "5 tests", "2 of 5 tests failed", 5, 2), Result("ruff", "9 files", "exit code 1"), Result("mypy", "9 files", None)]
    lines = closing_lines(results, 61.0)
    assert lines[-1] == "3 passed, 3 failed"
    assert "  FAILED  ruff  exit code 1" in lines
    assert "  ok      mypy  9 files" in lines


def test_shell_scripts_are_found_by_their_first_line() -> None:
    assert {".ci/run", "tools/find_python.sh"} <= set(shell_scripts())


def test_steps_that_end_without_results_are_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (result,) = StepsBeside(["no-such-step"], tmp_path).finish()
    assert result.name == "no-such-step"
    assert result.problem is not None
    assert "exit code 2 and without results" in result.problem
    assert "no such step: no-such-step" in capsys.readouterr().out


def test_steps_that_are_stopped_are_gone(tmp_path: Path) -> None:
    beside = StepsBeside(["types"], tmp_path)
    beside.stop()
    (result,) = beside.finish()
    assert "without results" in (result.problem or "")
