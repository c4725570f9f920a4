# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The wheel holds the runtime alone, and works where nothing else is."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from brokerless.version import VERSION
from build_artifacts import Artifacts, build_wheel
from checkout_files import copy_files, files_of_checkout
from empty_places import EmptyPlace


def test_holds_the_runtime_and_its_licence(artifacts: Artifacts, checkout: Path) -> None:
    names = zipfile.ZipFile(artifacts.wheel).namelist()
    sources = {file.removeprefix("plugins/module_utils/") for file in files_of_checkout("plugins/module_utils/brokerless/*")}
    metadata = f"brokerless_openstack-{VERSION}.dist-info/"
    assert {name for name in names if not name.startswith(metadata)} == sources
    assert f"{metadata}licenses/LICENSE" in names


def test_two_builds_are_the_same(artifacts: Artifacts, tmp_path: Path) -> None:
    """So that a role which builds it again has nothing to change."""
    copy_files(files_of_checkout(), tmp_path / "tree")
    assert build_wheel(tmp_path / "tree", tmp_path / "wheel").read_bytes() == artifacts.wheel.read_bytes()


def test_its_requirements_are_met(runtime: EmptyPlace) -> None:
    assert "No broken requirements found" in runtime.must(["venv/bin/pip", "check"])


@pytest.mark.parametrize("program", ["brokerless", "brokerless-receiver", "nova-rpc-zmq-receiver"])
def test_program_explains_itself(runtime: EmptyPlace, program: str) -> None:
    assert runtime.must([f"venv/bin/{program}", "--help"]).startswith("usage: ")


def test_options_are_found_by_the_config_generator(runtime: EmptyPlace) -> None:
    sample = runtime.must(["venv/bin/oslo-config-generator", "--namespace", "brokerless"])
    assert "#rpc_zmq_start_port = 9500" in sample


def test_ring_is_checked(runtime: EmptyPlace) -> None:
    good = runtime.folder / "good.json"
    good.write_text(json.dumps({"scheduler": ["o1p409", "o2p409"]}), encoding="utf-8")
    runtime.must(["venv/bin/brokerless", "ring", "check", good])
    bad = runtime.folder / "bad.json"
    bad.write_text(json.dumps({"scheduler": []}), encoding="utf-8")
    refused = runtime.run(["venv/bin/brokerless", "ring", "check", bad])
    assert refused.returncode == 1
    (line,) = refused.stderr.strip().splitlines()
    assert "bad.json" in line
    assert "scheduler" in line


def test_receiver_checks_its_configuration(runtime: EmptyPlace) -> None:
    config = runtime.folder / "receiver.conf"
    config.write_text(f"[DEFAULT]\nrpc_zmq_matchmaker = ring\nrpc_zmq_matchmaker_ringfile = {runtime.folder}/nowhere.json\n", encoding="utf-8")
    refused = runtime.run(["venv/bin/brokerless-receiver", "--config-file", config, "--check"])
    assert refused.returncode == 1
    assert "nowhere.json" in refused.stderr
    assert "Traceback" not in refused.stderr
