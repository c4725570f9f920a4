# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What was heard is heard again, and a recording is bounded, has no secrets and survives what may befall a file."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from brokerless.ha.bus.base import Event, HearingBegan, HearingInterrupted, Lag, Overheard
from brokerless.ha.bus.oslo_message import heard
from brokerless.ha.bus.recording import Noted, ProcessBegan, Recorder, RecordingError, Replay, masked, recordings_of
from hypothesis import given, settings
from hypothesis import strategies as st

REPORT = {"method": "report_state", "args": {"agent_state": {"agent_state": {"host": "net1", "agent_type": "L3 agent", "binary": "b"}}, "time": "t"}}


@pytest.fixture(autouse=True)
def clocks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock and the wall clock of who records."""
    clocks = [100.0, 1_000_000.0]
    monkeypatch.setattr("brokerless.ha.bus.recording.time.monotonic", lambda: clocks[0])
    monkeypatch.setattr("brokerless.ha.bus.recording.time.time", lambda: clocks[1])
    return clocks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "heard.jsonl"


EVENTS: list[Event | Noted] = [
    HearingInterrupted(100.5, "bus", None, "refused"),
    HearingBegan(101.0, "bus"),
    heard(102.0, "neutron", "q-reports-plugin", REPORT),
    Overheard(102.5, "neutron", "notifications.info", {"event_type": "router.create.end", "payload": {}}),
    Lag(103.0, "bus", 0.25, 7),
    Lag(103.0, "bus", 0.25),
    Noted(104.0, "agents", [{"id": "a", "alive": True}]),
    HearingInterrupted(109.0, "bus", 103.0, "cut"),
]


def record(path: Path, events: list[Event | Noted], **limits: int) -> None:
    recorder = Recorder(path, **limits)
    for event in events:
        recorder.record(event)
    recorder.close()
    assert recorder.lost == 0


def replayed(*files: Path) -> tuple[list[Event | Noted], list[float], Replay]:
    """Return what was told, but for the beginning of the first process, and at what time of the day each was."""
    told: list[Event | Noted | ProcessBegan] = []
    walls: list[float] = []
    replay = Replay(files)

    def tell(event: Event | Noted | ProcessBegan, wall: float) -> None:
        told.append(event)
        walls.append(wall)

    replay.run(tell)
    assert isinstance(told.pop(0), ProcessBegan)
    return told, walls[1:], replay


def test_what_was_heard_is_heard_again_with_the_times_of_then(path: Path) -> None:
    record(path, EVENTS)
    told, walls, replay = replayed(path)
    assert told == EVENTS
    assert [type(event) for event in told] == [type(event) for event in EVENTS]
    assert walls == [999_900.0 + now for now in (100.5, 101.0, 102.0, 102.5, 103.0, 103.0, 104.0, 109.0)]
    assert (replay.lines, replay.damaged) == (len(EVENTS) + 1, 0)


def test_only_the_owner_reads_it(path: Path) -> None:
    record(path, EVENTS)
    assert path.stat().st_mode & 0o777 == 0o600


def test_files_are_bounded_and_each_can_be_replayed(path: Path) -> None:
    events: list[Event | Noted] = [HearingBegan(100.0 + number, "bus") for number in range(1000)]
    record(path, events, max_bytes=3000, files=3)
    files = recordings_of(path)
    assert [file.name for file in files] == ["heard.jsonl.2", "heard.jsonl.1", "heard.jsonl"]
    assert all(file.stat().st_size <= 3000 for file in files)
    told, _walls, replay = replayed(*files)
    assert told == events[-len(told) :]
    assert len(told) > 80
    assert replay.damaged == 0
    assert replayed(files[1])[0] == [event for event in told if event in replayed(files[1])[0]] != []


@pytest.mark.parametrize("files", [1, 2])
def test_few_files_are_enough(path: Path, files: int) -> None:
    record(path, [HearingBegan(100.0 + number, "bus") for number in range(200)], max_bytes=1000, files=files)
    assert len(recordings_of(path)) == files
    assert replayed(*recordings_of(path))[0][-1] == HearingBegan(299.0, "bus")


def test_secrets_are_masked(path: Path) -> None:
    args = {
        "auth_token": "s1",
        "nested": [{"admin_password": "s2", "ipsec_psk": "s3", "psk": "s4", "token": None, "risk": "stays", "private_key": {"x": "s5"}}],
    }
    record(path, [Overheard(101.0, "neutron", "q-plugin", {"method": "m", "args": args}), Noted(102.0, "w", {"client_secret": "s6"})])
    text = path.read_text(encoding="utf-8")
    assert not [secret for secret in ("s1", "s2", "s3", "s4", "s5", "s6") if secret in text]
    (inner,) = masked(args)["nested"]
    assert inner == {"admin_password": "***", "ipsec_psk": "***", "psk": "***", "token": None, "risk": "stays", "private_key": "***"}


def test_each_file_begins_with_what_is_known_then(path: Path) -> None:
    recorder = Recorder(path, max_bytes=1000, files=2)
    recorder.opening = lambda: [Noted(1.0, "known", recorder.lost)]
    for number in range(40):
        recorder.record(HearingBegan(100.0 + number, "bus"))
    recorder.close()
    assert len(recordings_of(path)) == 2
    for file in recordings_of(path):
        assert replayed(file)[0][0] == Noted(1.0, "known", 0)


def test_what_is_longer_than_a_file_is_left_out(path: Path) -> None:
    recorder = Recorder(path, max_bytes=1000)
    recorder.record(Noted(1.0, "w", "x" * 1000))
    recorder.record(HearingBegan(100.0, "bus"))
    recorder.close()
    assert recorder.lost == 1
    assert replayed(path)[0] == [HearingBegan(100.0, "bus")]


def test_a_process_that_goes_on_with_a_recording_knows_nothing(path: Path, clocks: list[float]) -> None:
    """The machine was started again after an hour: its monotonic clock began anew."""
    record(path, [HearingBegan(101.0, "bus"), Lag(110.0, "bus", 0.5)])
    clocks[:] = [5.0, 1_003_600.0]
    record(path, [HearingBegan(6.0, "bus"), HearingInterrupted(9.0, "bus", 7.0, "cut")])
    told, walls, _replay = replayed(path)
    assert told == [
        HearingBegan(101.0, "bus"),
        Lag(110.0, "bus", 0.5),
        ProcessBegan(5.0),
        HearingBegan(6.0, "bus"),
        HearingInterrupted(9.0, "bus", 7.0, "cut"),
    ]
    assert walls == [1_000_001.0, 1_000_010.0, 1_003_600.0, 1_003_601.0, 1_003_604.0]


def test_damage_is_passed_over_and_counted(path: Path, clocks: list[float]) -> None:
    record(path, EVENTS[:2])
    with path.open("ab") as file:
        file.write(
            b'\xff\n[]\n{"event":"lag","at":"soon"}\n{"event":"new","at":1}\n{"event":"lag","at":1e999}\n'
            + b"[" * 9000
            + b'\n{"event":"began","at":102,'
        )
    clocks[:] = [102.0, 1_000_002.0]
    record(path, [HearingBegan(103.0, "bus")])
    told, _walls, replay = replayed(path)
    assert [event for event in told if isinstance(event, HearingBegan)] == [HearingBegan(101.0, "bus"), HearingBegan(103.0, "bus")]
    assert replay.damaged == 7


@pytest.mark.parametrize(
    "line", ['{"event":"began","at":1,"source":"bus"}', '{"event":"recording","at":1,"wall":1,"format":2}', '{"event":"recording","format":1}']
)
def test_a_file_that_is_no_recording_is_named(path: Path, line: str) -> None:
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(RecordingError, match=r"heard\.jsonl, line 1: "):
        replayed(path)


def test_a_disk_that_fails_loses_events_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "away"
    recorder = Recorder(directory / "heard.jsonl")
    for event in EVENTS[:3]:
        recorder.record(event)
    assert recorder.lost == 3
    directory.mkdir()
    recorder.record(EVENTS[4])
    recorder.close()
    assert [record.levelno for record in caplog.records] == [logging.WARNING], "it is said once"
    assert replayed(directory / "heard.jsonl")[0] == [EVENTS[4]]


def test_what_was_lost_on_the_way_is_an_interruption(path: Path) -> None:
    recorder = Recorder(path)
    recorder.record(EVENTS[1])
    recorder.close()
    path.rename(path.with_suffix(".old"))
    path.mkdir()
    recorder.record(EVENTS[2])
    path.rmdir()
    path.with_suffix(".old").rename(path)
    recorder.record(EVENTS[4])
    recorder.close()
    told, _walls, _replay = replayed(path)
    assert [type(event) for event in told] == [HearingBegan, HearingInterrupted, Lag]


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["at", "event", "wall", "format", "message", "seconds", "since"]), inner)
    ),
    max_leaves=8,
)
LINES = st.fixed_dictionaries(
    {"event": st.sampled_from(["recording", "message", "began", "interrupted", "lag", "noted", "x"]), "at": JSON_VALUES},
    optional={
        "wall": JSON_VALUES,
        "format": st.just(1),
        "message": JSON_VALUES,
        "seconds": JSON_VALUES,
        "since": JSON_VALUES,
        "waiting": JSON_VALUES,
    },
)


@settings(max_examples=60)
@given(st.lists(LINES.map(json.dumps).map(str.encode) | st.binary(max_size=30), max_size=8))
def test_any_file_is_replayed_or_is_no_recording(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("any") / "heard.jsonl"
    path.write_bytes(b'{"event":"recording","at":1,"wall":1,"format":1}\n' + b"\n".join(lines))
    with contextlib.suppress(RecordingError):
        Replay([path]).run(lambda _event, _wall: None)
