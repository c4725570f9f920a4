# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from brokerless.rpc.ipc import MAX_SOCKET_PATH, IpcError, checked_ipc_directory, ipc_endpoint, socket_path


def refusal(directory: str) -> str:
    with pytest.raises(IpcError) as caught:
        checked_ipc_directory(directory)
    return str(caught.value)


def test_the_socket_lies_in_the_directory() -> None:
    assert socket_path("/run/openstack") == Path("/run/openstack/receiver.sock")
    assert ipc_endpoint("/run/openstack") == "ipc:///run/openstack/receiver.sock"
    assert ipc_endpoint(Path("/run/openstack")) == ipc_endpoint("/run/openstack")


@pytest.mark.parametrize("letter", ["a", "é"])
def test_the_path_may_be_as_long_as_the_system_allows_and_no_longer(letter: str) -> None:
    room = MAX_SOCKET_PATH - len("//receiver.sock")
    width = len(os.fsencode(letter))
    longest = "/" + letter * (room // width) + "x" * (room % width)
    assert len(os.fsencode(socket_path(longest))) == MAX_SOCKET_PATH
    assert ipc_endpoint(longest).endswith("/receiver.sock")
    with pytest.raises(IpcError) as caught:
        ipc_endpoint(longest + "x")
    assert str(caught.value) == f"rpc_zmq_ipc_dir {longest}x: the socket's path has 108 bytes; a UNIX socket's may have 107 at most"


def test_the_limit_is_the_one_of_this_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for length, fits in ((MAX_SOCKET_PATH, True), (MAX_SOCKET_PATH + 1, False)):
        path = "x" * length
        with socket.socket(socket.AF_UNIX) as unix_socket:
            if fits:
                unix_socket.bind(path)
            else:
                with pytest.raises(OSError, match="too long"):
                    unix_socket.bind(path)


def test_a_directory_that_will_do(tmp_path: Path) -> None:
    assert checked_ipc_directory(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["none", "none/below", "file/below", "nul\0"])
def test_a_directory_that_does_not_exist_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    text = refusal(f"{tmp_path}/{name}")
    assert text == f"rpc_zmq_ipc_dir {tmp_path}/{name} does not exist: make it, with mode 0750, owned by the service's user and group"


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(f"{tmp_path}/file") == f"rpc_zmq_ipc_dir {tmp_path}/file is not a directory"


def test_a_directory_that_may_not_be_written_is_named(open_tmp_path: Path, unprivileged: Callable[[Callable[[], str]], str]) -> None:
    directory = open_tmp_path / "ipc"
    directory.mkdir(mode=0o555)
    text = unprivileged(lambda: f"{refusal(str(directory))} | {os.geteuid()}")
    message, _bar, user = text.partition(" | ")
    assert message == f"rpc_zmq_ipc_dir {directory} is not writable for user {user}"


def test_a_directory_below_a_closed_one_is_named(open_tmp_path: Path, unprivileged: Callable[[Callable[[], str]], str]) -> None:
    closed = open_tmp_path / "closed"
    (closed / "ipc").mkdir(parents=True)
    closed.chmod(0)
    try:
        text = unprivileged(lambda: refusal(f"{closed}/ipc"))
    finally:
        closed.chmod(0o700)
    assert text.startswith(f"rpc_zmq_ipc_dir {closed}/ipc is not accessible for user ")
