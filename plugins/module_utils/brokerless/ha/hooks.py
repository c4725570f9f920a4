# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The operator's own programs: one that fences a host, one before and one after each move."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

MOST_OUTPUT = 500


@dataclass(frozen=True, slots=True)
class Hooks:
    """The command lines, empty for none. They are split as a shell would, and started without one; none may take longer than `time_limit` seconds.

    They are told of what they are for in environment variables: `RPCDAEMON_HOST` and `RPCDAEMON_AGENT` for `fence`; `RPCDAEMON_ACTION`,
    `RPCDAEMON_ID`, `RPCDAEMON_FROM`, `RPCDAEMON_TO` (hosts) and, after the move, `RPCDAEMON_RESULT`, for the others.
    """

    fence: str = ""
    before_move: str = ""
    after_move: str = ""
    time_limit: float = 60.0

    def run(self, command: str, told: Mapping[str, str]) -> str:
        """Run a command line to its end; return an empty text if it ended well, else what went wrong. Without a command all is well."""
        if not command:
            return ""
        variables = {f"RPCDAEMON_{name.upper()}": value for name, value in told.items()}
        try:
            ended = subprocess.run(
                shlex.split(command),
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self.time_limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"{command!r} took longer than {self.time_limit:g} s and was killed"
        except (OSError, ValueError) as error:
            return f"{command!r} could not be started: {error}"
        if ended.returncode == 0:
            return ""
        said = (ended.stderr or ended.stdout).decode(errors="replace").strip()[-MOST_OUTPUT:]
        return f"{command!r} ended with {ended.returncode}: {said or 'it said nothing'}"
