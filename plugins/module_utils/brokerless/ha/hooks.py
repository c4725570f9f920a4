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
        return run_command(command, told, self.time_limit)[1] if command else ""


def run_command(command: str, told: Mapping[str, str], time_limit: float) -> tuple[int | None, str]:
    """Run a command line, with what it is `told` in environment variables, for at most `time_limit` seconds.

    Returns what it ended with, None if it could not be started or was killed, and what went wrong, empty if it ended with 0.
    """
    variables = {f"RPCDAEMON_{name.upper()}": value for name, value in told.items()}
    try:
        ended = subprocess.run(
            shlex.split(command),
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=time_limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"{command!r} took longer than {time_limit:g} s and was killed"
    except (OSError, ValueError) as error:
        return None, f"{command!r} could not be started: {error}"
    if ended.returncode == 0:
        return 0, ""
    said = (ended.stderr or ended.stdout).decode(errors="replace").strip()[-MOST_OUTPUT:]
    return ended.returncode, f"{command!r} ended with {ended.returncode}: {said or 'it said nothing'}"
