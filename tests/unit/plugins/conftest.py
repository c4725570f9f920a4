# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Run a module in this process, as Ansible would on a target."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
from ansible.module_utils.testing import patch_module_args


class RunModule(Protocol):
    """Runs the `main` of a module with arguments and returns its result, whether it failed or not."""

    def __call__(self, main: Callable[[], None], /, check: bool = False, **arguments: Any) -> dict[str, Any]: ...


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory) -> RunModule:
    """A function that runs a module and returns its result."""
    remote_tmp = tmp_path_factory.mktemp("remote_tmp")

    def run(main: Callable[[], None], /, check: bool = False, **arguments: Any) -> dict[str, Any]:
        special = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": str(remote_tmp), "_ansible_keep_remote_files": False}
        with patch_module_args({**arguments, **special}), pytest.raises(SystemExit) as left:
            main()
        output = capsys.readouterr().out
        result: dict[str, Any] = json.loads(output)
        assert left.value.code == (1 if result.get("failed") else 0)
        return result

    return run


@pytest.fixture
def ring_path(tmp_path: Path) -> Path:
    """The path of a ring file that does not exist yet."""
    return tmp_path / "ring.json"
