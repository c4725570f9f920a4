# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The program `rpcdaemon` as modules use it: a command goes to the replica that leads, and its answer comes as JSON."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

PROGRAM_OPTIONS: dict[str, dict[str, t.Any]] = {
    "executable": {"type": "path", "default": "/opt/brokerless/current/bin/rpcdaemon"},
    "config_file": {"type": "path", "default": "/etc/rpcdaemon.conf"},
}
"""The options of a module that says where the program is, as in its documentation fragment."""


class CommandFault(Exception):
    """The command came to nothing; the message says why. `code` is the program's exit code, `answer` what it said nevertheless."""

    def __init__(self, message: str, code: int, answer: dict[str, t.Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.answer = answer or {}


class RpcdaemonCommand:
    """Gives commands, on behalf of a module with `PROGRAM_OPTIONS`."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        self._executable: str = module.params["executable"]
        self._config_file: str = module.params["config_file"]

    def missing(self) -> str:
        """Return what has to be there for a command and is not, or nothing."""
        if not Path(self._executable).exists():
            return f"the program {self._executable} does not exist; the role brokerless.openstack.runtime installs it"
        if not os.access(self._executable, os.X_OK) or Path(self._executable).is_dir():
            return f"{self._executable} is no program that may be run"
        if not os.access(self._config_file, os.R_OK):
            return f"the configuration file {self._config_file} does not exist or may not be read; the role brokerless.openstack.rpcdaemon writes it"
        return ""

    def ask(self, *words: str) -> dict[str, t.Any]:
        """Give the command of these words, and return the answer. Raises `CommandFault`."""
        try:
            code, output, errors = self._module.run_command([self._executable, "-c", self._config_file, *words, "--json"], handle_exceptions=False)
        except OSError as error:
            raise CommandFault(f"{self._executable} could not be run: {error}", -1) from error
        try:
            answer = json.loads(output) if output.strip() else {}
        except ValueError:
            raise CommandFault(f"{self._executable} said what can't be read: {output.strip()[:200]!r}", code) from None
        if code or not isinstance(answer, dict):
            said = [line.strip() for line in errors.splitlines() if line.strip()]
            raise CommandFault(said[-1] if said else f"`rpcdaemon {' '.join(words)}` ended with exit code {code}", code, answer)
        return answer


def agents_of(status: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    """Return the agents that `rpcdaemon status` names, each with what it hosts and what the operator wants of its host. Raises `KeyError`."""
    wishes = {host: wish for wish, hosts in status["hosts"].items() for host in hosts}
    return [
        {**agent, "wish": wishes.get(agent["host"], ""), "hosted": status["hosted"].get(agent["agent"])} for agent in status["judgement"]["agents"]
    ]
