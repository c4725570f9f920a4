# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Real processes, files and sockets. Each test ends what it has started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.brokerless.openstack.plugins.module_utils._detached_process import (
    Identity,
    ProcessFault,
    Readiness,
    Recipe,
    accepts,
    before_start,
    end,
    exclusive,
    exit_of,
    log_tail,
    running_process,
    send,
    size_of,
    start,
    stays_alive,
    wait_until_ready,
)

IDENTITY = Identity(pid=4711, started=12, boot="b-o-o-t", recipe="abc")
LONG_ENOUGH = 20.0
"""Seconds after which a test has failed; none waits for them to pass."""


@pytest.fixture
def pid_file(tmp_path: Path) -> Path:
    return tmp_path / "service.pid"


@pytest.fixture
def service(tmp_path: Path, pid_file: Path) -> Iterator[tuple[subprocess.Popen[bytes], Identity]]:
    """A process that runs until it is ended."""
    process, identity = start(recipe_of(tmp_path, "sleep", "600"), pid_file)
    yield process, identity
    process.kill()
    process.wait()


def recipe_of(tmp_path: Path, *command: str, chdir: str = "/", **environment: str) -> Recipe:
    return Recipe(command, chdir, environment, str(tmp_path / "service.log"))


def run_to_its_end(recipe: Recipe, pid_file: Path) -> int:
    process, _identity = start(recipe, pid_file)
    return process.wait(LONG_ENOUGH)


def test_a_pid_file_is_read_back_and_has_the_pid_on_its_first_line() -> None:
    assert Identity.from_text(IDENTITY.to_text()) == IDENTITY
    assert IDENTITY.to_text().splitlines()[0] == "4711"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4711",
        "4711\n",
        "x\nstarted=1 boot=b recipe=r\n",
        "4711\nstarted=x boot=b recipe=r\n",
        "4711\nstarted=1 boot=b\n",
        "4711\nnonsense\n",
        "\0\0",
    ]
    + [f"{pid}\nstarted=1 boot=b recipe=r\n" for pid in (-1, 0, 1)],
)
def test_a_pid_file_of_somebody_else_names_no_process(text: str, pid_file: Path) -> None:
    assert Identity.from_text(text) is None
    pid_file.write_text(text, encoding="utf-8")
    assert running_process(pid_file) is None


def test_without_a_pid_file_nothing_runs(pid_file: Path) -> None:
    assert running_process(pid_file) is None


def test_a_pid_file_that_can_not_be_read_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ProcessFault, match="can't be read: Is a directory"):
        running_process(tmp_path)


def test_recipes_that_differ_have_different_digests(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "a", "b", SECRET="x")
    others = [
        replace(recipe, command=("a", "c")),
        replace(recipe, command=("a b",)),
        replace(recipe, chdir="/tmp"),
        replace(recipe, environment={"SECRET": "y"}),
        replace(recipe, log_file="/dev/null"),
    ]
    assert len({recipe.digest(), *(other.digest() for other in others)}) == 6
    assert recipe.digest() == replace(recipe, environment={"SECRET": "x"}).digest()


def test_the_running_process_is_found_again(service: tuple[subprocess.Popen[bytes], Identity], pid_file: Path) -> None:
    process, identity = service
    assert running_process(pid_file) == identity
    assert identity.pid == process.pid == int(pid_file.read_text(encoding="ascii").splitlines()[0])


def test_a_process_that_has_ended_is_not_found_even_if_nobody_took_note(pid_file: Path, service: tuple[subprocess.Popen[bytes], Identity]) -> None:
    process, identity = service
    end(identity, LONG_ENOUGH, force=False)
    # The child is a zombie until its parent asks for its exit code.
    assert Path(f"/proc/{process.pid}/stat").exists()
    assert running_process(pid_file) is None
    assert process.wait(LONG_ENOUGH) == -signal.SIGTERM


def test_a_process_leads_its_own_session_and_holds_nothing_of_ours(service: tuple[subprocess.Popen[bytes], Identity], tmp_path: Path) -> None:
    pid = service[1].pid
    assert os.getsid(pid) == os.getpgid(pid) == pid
    open_files = {descriptor.name: str(descriptor.readlink()) for descriptor in Path(f"/proc/{pid}/fd").iterdir()}
    assert open_files == {"0": "/dev/null", "1": f"{tmp_path}/service.log", "2": f"{tmp_path}/service.log"}


def test_output_is_appended_to_the_log(tmp_path: Path, pid_file: Path) -> None:
    log = tmp_path / "service.log"
    log.write_text("old\n", encoding="utf-8")
    assert run_to_its_end(recipe_of(tmp_path, "sh", "-c", "echo out; echo err >&2"), pid_file) == 0
    assert log.read_text(encoding="utf-8") == "old\nout\nerr\n"


def test_directory_and_environment_reach_the_process(tmp_path: Path, pid_file: Path) -> None:
    assert run_to_its_end(recipe_of(tmp_path, "sh", "-c", "echo $PWD $COLOUR $HOME", chdir=str(tmp_path), COLOUR="blue"), pid_file) == 0
    assert (tmp_path / "service.log").read_text(encoding="utf-8").split() == [str(tmp_path), "blue", os.environ["HOME"]]


def test_a_program_is_found_relative_to_the_directory_and_on_the_path_of_the_process(tmp_path: Path, pid_file: Path) -> None:
    program = tmp_path / "bin" / "greet"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho hello\n", encoding="utf-8")
    program.chmod(0o755)
    assert recipe_of(tmp_path, "bin/greet", chdir=str(tmp_path)).program() == str(program)
    assert recipe_of(tmp_path, "greet", PATH=str(program.parent)).program() == str(program)
    assert run_to_its_end(recipe_of(tmp_path, "bin/greet", chdir=str(tmp_path)), pid_file) == 0


def test_a_program_that_can_not_be_run_is_named(tmp_path: Path, pid_file: Path) -> None:
    (tmp_path / "data").touch(mode=0o644)
    (tmp_path / "broken").write_bytes(b"\x7fELF no such thing")
    (tmp_path / "broken").chmod(0o755)
    for recipe, said in (
        (recipe_of(tmp_path, f"{tmp_path}/none"), f"the program {tmp_path}/none does not exist"),
        (recipe_of(tmp_path, "no-such-program"), "the program 'no-such-program' is not on PATH"),
        (recipe_of(tmp_path, str(tmp_path)), f"{tmp_path} is no program that may be run"),
        (recipe_of(tmp_path, f"{tmp_path}/data"), f"{tmp_path}/data is no program that may be run"),
        (recipe_of(tmp_path, f"{tmp_path}/broken"), f"{tmp_path}/broken: Exec format error"),
        (recipe_of(tmp_path, "/bin/sh", chdir=f"{tmp_path}/none"), f"the directory {tmp_path}/none to start it in does not exist"),
        (replace(recipe_of(tmp_path, "/bin/sh"), log_file=f"{tmp_path}/none/x.log"), f"log file {tmp_path}/none/x.log: No such file or directory"),
    ):
        with pytest.raises(ProcessFault) as caught:
            start(recipe, pid_file)
        assert str(caught.value) == said
        assert not pid_file.exists()


def test_no_process_is_left_if_the_pid_file_can_not_be_written(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    with pytest.raises(ProcessFault, match=r"service.pid can't be written: No such file or directory; the process was ended again"):
        start(recipe_of(tmp_path, "sh", "-c", f"echo $$ > {ended}; exec sleep 600"), tmp_path / "none" / "service.pid")
    if ended.exists():
        assert not Path(f"/proc/{ended.read_text(encoding='ascii').strip()}").exists()


def test_a_stranger_with_the_same_pid_is_no_process_of_ours(service: tuple[subprocess.Popen[bytes], Identity], pid_file: Path) -> None:
    process, identity = service
    for stranger in (replace(identity, started=identity.started - 1), replace(identity, boot="an-earlier-boot")):
        pid_file.write_text(stranger.to_text(), encoding="utf-8")
        assert running_process(pid_file) is None
        assert end(stranger, LONG_ENOUGH, force=True) is False
        with pytest.raises(ProcessFault, match=f"process {identity.pid} has ended"):
            send(stranger, signal.SIGKILL)
    pid_file.write_text(identity.to_text(), encoding="utf-8")
    assert running_process(pid_file) == identity
    assert process.poll() is None


def test_ending_what_has_ended_is_no_fault(service: tuple[subprocess.Popen[bytes], Identity]) -> None:
    process, identity = service
    process.kill()
    process.wait()
    assert end(identity, LONG_ENOUGH, force=True) is False


STUBBORN = "trap '' TERM; : > {ready}; while :; do sleep 0.1; done"


def stubborn_service(tmp_path: Path, pid_file: Path) -> tuple[subprocess.Popen[bytes], Identity]:
    ready = tmp_path / "ready"
    readiness = before_start(None, str(ready))
    process, identity = start(recipe_of(tmp_path, "sh", "-c", STUBBORN.format(ready=ready)), pid_file)
    assert wait_until_ready(readiness, lambda: process.poll() is None, LONG_ENOUGH) == ""
    return process, identity


def test_a_process_that_ignores_sigterm_is_killed_with_its_group_if_that_is_wanted(tmp_path: Path, pid_file: Path) -> None:
    process, identity = stubborn_service(tmp_path, pid_file)
    with pytest.raises(ProcessFault, match=f"process {identity.pid} still runs 0.05 seconds after SIGTERM"):
        end(identity, 0.05, force=False)
    assert process.poll() is None
    assert end(identity, 0.05, force=True) is True
    assert process.wait(LONG_ENOUGH) == -signal.SIGKILL


@pytest.mark.parametrize("ignored_here", [False, True], ids=["", "under nohup"])
def test_a_signal_reaches_the_process(tmp_path: Path, pid_file: Path, ignored_here: bool, request: pytest.FixtureRequest) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored_here else signal.SIG_DFL)
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, before))
    ready, got = tmp_path / "ready", tmp_path / "got"
    readiness = before_start(None, str(ready))
    script = f"trap ': > {got}; exit 5' HUP; : > {ready}; while :; do sleep 0.1; done"
    process, identity = start(recipe_of(tmp_path, "sh", "-c", script), pid_file)
    assert wait_until_ready(readiness, lambda: process.poll() is None, LONG_ENOUGH) == ""
    send(identity, signal.SIGHUP)
    assert process.wait(LONG_ENOUGH) == 5
    assert got.exists()


def test_a_file_that_was_there_before_does_not_make_ready(tmp_path: Path) -> None:
    path = tmp_path / "ready"
    path.write_text("old", encoding="utf-8")
    readiness = before_start(None, str(path))
    assert readiness.missing() == f"the file {path} has not been written"
    fresh = tmp_path / "fresh"
    fresh.write_text("new", encoding="utf-8")
    fresh.replace(path)
    assert readiness.missing() == ""


def test_a_directory_does_not_make_ready(tmp_path: Path) -> None:
    assert before_start(None, str(tmp_path)).missing() == f"the file {tmp_path} has not been written"


def test_a_socket_makes_ready_once_it_accepts(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    readiness = Readiness(socket_path=path)
    assert readiness.missing() == f"the socket {path} accepts no connections"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        assert not accepts(path)
        listener.listen()
        assert readiness.missing() == ""
    assert not accepts(path)


@pytest.mark.parametrize("path", ["a\0b", "/" + "a" * 200])
def test_what_can_not_be_a_socket_accepts_nothing(path: str) -> None:
    assert not accepts(path)


def test_waiting_ends_when_the_process_does(tmp_path: Path) -> None:
    assert "has not been written" in wait_until_ready(before_start(None, f"{tmp_path}/never"), lambda: False, LONG_ENOUGH * 100)


def test_waiting_ends_with_the_time() -> None:
    assert "accepts no connections" in wait_until_ready(Readiness(socket_path="/nowhere"), lambda: True, 0)


@pytest.mark.parametrize(("command", "how"), [("exit 3", "exit code 3"), ("kill -ABRT $$", "signal SIGABRT")])
def test_how_a_process_ended(tmp_path: Path, pid_file: Path, command: str, how: str) -> None:
    process, _identity = start(recipe_of(tmp_path, "sh", "-c", f"ulimit -c 0; {command}"), pid_file)
    assert stays_alive(process, LONG_ENOUGH) is False
    assert exit_of(process) == how


def test_a_process_that_goes_on_stays_alive(service: tuple[subprocess.Popen[bytes], Identity]) -> None:
    assert stays_alive(service[0], 0) is True


def test_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert (log_tail(str(log), 0, 3), size_of(str(log))) == ([], 0)
    log.write_bytes(b"before\n")
    offset = size_of(str(log))
    log.write_bytes(b"before\n1\n\n2  \n3 \xff\n4\n")
    assert log_tail(str(log), offset, 3) == ["2", "3 \ufffd", "4"]
    assert log_tail(str(log), offset, 30) == ["1", "2", "3 \ufffd", "4"]
    assert log_tail(str(log), 10_000, 1) == ["4"], "a log that was cut meanwhile is shown from its beginning"
    log.write_bytes(b"x" * 1_000_000 + b"\nlast\n")
    assert [len(line) for line in log_tail(str(log), 0, 2)] == [(64 << 10) - 6, 4]


HOLD = """
import sys
from pathlib import Path
from ansible_collections.brokerless.openstack.plugins.module_utils._detached_process import exclusive
with exclusive(Path(sys.argv[1])):
    sys.stdout.write("held\\n")
    sys.stdout.flush()
    sys.stdin.read()
"""


def test_two_runs_do_not_work_on_one_directory_at_the_same_time(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as other:
        assert other.stdin
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        order: list[str] = []

        def wait_for_it() -> None:
            with exclusive(tmp_path):
                order.append("ours")

        waiting = threading.Thread(target=wait_for_it)
        waiting.start()
        waiting.join(0.2)
        order.append("theirs")
        other.stdin.close()
        waiting.join(LONG_ENOUGH)
        assert order == ["theirs", "ours"]


def test_a_missing_directory_of_the_pid_file_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(ProcessFault, match=r"none of the pid file can't be opened: No such file or directory; make it first"),
        exclusive(tmp_path / "none"),
    ):
        pass
