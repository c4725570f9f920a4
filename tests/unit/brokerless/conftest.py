# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What tests of the runtime share."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

UNPRIVILEGED = 65534
"""The user `nobody`."""


@pytest.fixture
def unprivileged(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[], str]], str]:
    """A function that calls another as a user whom permissions bind, and returns its answer.

    Root reads everything, so under root it is called in a child process of another user; `tmp_path` can be entered by that user.
    """
    if os.getuid() != 0:
        return lambda ask: ask()
    for directory in (tmp_path_factory.getbasetemp(), tmp_path_factory.getbasetemp().parent):
        directory.chmod(0o711)
    return _as_nobody


def _as_nobody(ask: Callable[[], str]) -> str:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # The child must end here whatever happens, and not run the rest of the tests.
        try:
            os.close(reading)
            os.setgroups([])
            os.setgid(UNPRIVILEGED)
            os.setuid(UNPRIVILEGED)
            answer = ask()
        except BaseException:  # noqa: BLE001
            answer = traceback.format_exc()
        try:
            os.write(writing, answer.encode()[:60_000])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


@pytest.fixture
def open_tmp_path(tmp_path: Path) -> Path:
    """A temporary directory that other users may enter."""
    tmp_path.chmod(0o755)
    return tmp_path
