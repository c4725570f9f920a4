# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A process that is not in the group of the services, at a receiver that runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from receiver_process import PATIENCE, Receiver, runtime_environment, short_directory

NOBODY = 65534
STRANGER = """
import os, sys
# imported before, as the stranger may be kept out of the directory of the runtime, too
from brokerless.rpc.driver.connection import Connection, NotAnswered
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
connection = Connection(sys.argv[1], "control1", heartbeat=0.2)
try:
    print(connection.inspect("status", timeout=1.0)["host"])
except NotAnswered as error:
    print(error.reason)
connection.close(timeout=0.5)
"""


def said_to_a_stranger(directory: Path) -> str:
    """What a process of a user without rights learns; where the test runs as such a user, it is that user."""
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, str(directory), str(NOBODY)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=runtime_environment(),
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("closed", ["directory", "socket"])
def test_a_process_outside_the_group_is_told_so(closed: str) -> None:
    with short_directory() as directory, Receiver(directory) as receiver:
        for path in (directory, receiver.directory, receiver.ipc_directory):
            path.chmod(0o755)
        socket = receiver.ipc_directory / "receiver.sock"
        mode = 0o750 if os.getuid() == 0 else 0
        try:
            if closed == "directory":
                receiver.ipc_directory.chmod(mode)
                expected = f"no permission to enter {receiver.ipc_directory}: this user is not in the group that owns it"
            else:
                # as the receiver makes it, unless the test's user owns it
                socket.chmod(socket.stat().st_mode & 0o777 if os.getuid() == 0 else 0)
                expected = f"no permission for {socket}: this user is not in the group that owns it"
            assert said_to_a_stranger(receiver.ipc_directory) == expected
        finally:
            receiver.ipc_directory.chmod(0o755)
            socket.chmod(0o666)
        assert said_to_a_stranger(receiver.ipc_directory) == "control1", "with permission it is served"
