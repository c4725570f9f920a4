# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The UNIX socket on which a host's receiver and its services meet."""

from __future__ import annotations

import os
from pathlib import Path

SOCKET_NAME = "receiver.sock"
MAX_SOCKET_PATH = 107
"""The longest path of a UNIX socket in bytes, unix(7)."""


class IpcError(ValueError):
    """`rpc_zmq_ipc_dir` can't be used; the message names the directory and the fault."""


def socket_path(directory: str | Path, worker: int = 0) -> Path:
    """Return the path of the socket of a receiver's worker in `rpc_zmq_ipc_dir`."""
    return Path(directory) / (f"receiver-{worker}.sock" if worker else SOCKET_NAME)


def ipc_endpoint(directory: str | Path, worker: int = 0) -> str:
    """Return the ZeroMQ endpoint of a receiver's worker in `rpc_zmq_ipc_dir`. Raises `IpcError` if its path is too long for a UNIX socket."""
    path = socket_path(directory, worker)
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH:
        raise IpcError(f"rpc_zmq_ipc_dir {directory}: the socket's path has {length} bytes; a UNIX socket's may have {MAX_SOCKET_PATH} at most")
    return f"ipc://{path}"


def checked_ipc_directory(directory: str) -> Path:
    """Return `directory` if a receiver can put its socket there. Raises `IpcError`, naming the fault."""
    path = Path(directory)
    try:
        path.stat()
    except PermissionError as error:
        raise IpcError(f"rpc_zmq_ipc_dir {directory} is not accessible for user {os.geteuid()}: a directory above it keeps the user out") from error
    except (OSError, ValueError) as error:
        raise IpcError(f"rpc_zmq_ipc_dir {directory} does not exist: make it, with mode 0750, owned by the service's user and group") from error
    if not path.is_dir():
        raise IpcError(f"rpc_zmq_ipc_dir {directory} is not a directory")
    if not os.access(path, os.W_OK | os.X_OK):
        raise IpcError(f"rpc_zmq_ipc_dir {directory} is not writable for user {os.geteuid()}")
    return path
