# Copyright: Contributors to brokerless.openstack
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E402 - Ansible wants the documentation first
"""Write the result of every task to the file that the environment variable TASK_RESULTS names, one JSON object a line, for tests."""

from __future__ import annotations

DOCUMENTATION = r"""
name: task_results
type: aggregate
short_description: Results of all tasks as JSON lines
description:
  - Writes the result of every task to the file that the environment variable E(TASK_RESULTS) names.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.plugins.callback import CallbackBase

if TYPE_CHECKING:
    from ansible.executor.task_result import CallbackTaskResult


class CallbackModule(CallbackBase):
    """Writes one line for each task and host."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_results"

    def _write(self, result: CallbackTaskResult, outcome: str) -> None:
        facts: dict[str, Any] = {"host": result.host.get_name(), "task": result.task.get_name(), "outcome": outcome, "result": result.result}
        with Path(os.environ["TASK_RESULTS"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts, default=str) + "\n")

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """Note a task that went well."""
        self._write(result, "ok")

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """Note a task that failed."""
        self._write(result, "failed")

    def v2_runner_on_skipped(self, result: CallbackTaskResult) -> None:
        """Note a task that was skipped."""
        self._write(result, "skipped")

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        """Note a host that could not be reached."""
        self._write(result, "unreachable")
