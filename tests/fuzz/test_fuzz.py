# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A short run of what `make fuzz` and `make besiege` do for as long as one likes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import core_states
import pytest
from brokerless.rpc.receiver import delivery
from brokerless.rpc.receiver.name_lookup import LOOKUP_THREADS
from brokerless.rpc.seen import Seen
from hostile_frames import MEMORY_MB, besiege
from seeds import SEEDS

EXECUTIONS = 3000
FRAMES = 12_000


def test_no_bytes_break_a_parser_or_a_core(checkout: Path) -> None:
    environment = os.environ | {"EXECS": str(EXECUTIONS), "ONLY": "", "INPUT": ""}
    done = subprocess.run([sys.executable, checkout / "fuzz" / "run.py"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ran = {line.split()[0]: int(line.split()[1].replace(",", "")) for line in done.stdout.splitlines()[1:] if line}
    assert ran.keys() == SEEDS.keys()
    assert all(executions >= EXECUTIONS // 100 for executions in ran.values()), ran


def tell_all(stories: list[bytes]) -> None:
    for story in stories:
        core_states.receiver_core(story)


@pytest.mark.parametrize(
    ("owner", "name"),
    [(Seen, "forget"), (delivery.Delivery, "accept")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_core_with_a_fault_is_found_out(owner: type, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(3)
    stories = [chance.randbytes(400) for _turn in range(20)]
    tell_all(stories)
    monkeypatch.setattr(owner, name, lambda *_arguments, **_more: None)
    with pytest.raises(AssertionError):
        tell_all(stories)


def test_a_besieged_receiver_serves_on_and_keeps_nothing_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    before, after = besiege(FRAMES, 1, print)
    assert after.files == before.files
    assert after.threads <= before.threads + LOOKUP_THREADS
    assert after.memory_mb - before.memory_mb < MEMORY_MB
