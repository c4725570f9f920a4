# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Three hosts on this machine: deploy them with site.yml, call between them, kill one, and say what held.

`make demo` runs this. It writes below .demo only, needs no root, and ends what it started. Exit code 0 only if every check held.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import signal
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

from embedded import ADDRESSES, CHECKOUT, FIRST_START_PORT, Caller, DemoFailed, Embedded, PlaybookRun, free_start_port
from report import Report
from rich.console import Console

SITE = "playbooks/site.yml"
SERVICES = "demo/services.yml"
HOSTS = list(ADDRESSES)
COMPUTES = ["compute1", "compute2"]
TOPICS = {"agent": HOSTS, "compute": COMPUTES, "scheduler": ["control1"]}
WARM_UP, MEASURED = 3, 11
PATIENCE = 20.0
"""Seconds after which something that must come about is given up."""


def deploy(report: Report, embedded: Embedded, playbooks: list[str], log_name: str, announce: str) -> PlaybookRun:
    """Run playbooks and show which task is at work. Raises `DemoFailed`, with what Ansible said, if a host failed."""
    report.say(f"$ ansible-playbook {' '.join(playbooks)}")
    with report.console.status(announce) as status:
        run = embedded.play(playbooks, log_name, lambda task: status.update(f"{announce}: {task}"))
    if not run.ok:
        output = run.log.read_text(encoding="utf-8", errors="replace").splitlines()
        faults = [line for line in output if line.startswith(("fatal:", "[ERROR]", "ERROR!"))]
        raise DemoFailed(f"ansible-playbook failed:\n{chr(10).join(faults) or f'exit code {run.exit_code}'}\nAll of its output is in {run.log}")
    return run


def show_deployment(report: Report, embedded: Embedded) -> None:
    """Deploy, deploy again, and show the ring."""
    report.chapter("Deploy three hosts from the inventory inventories/embedded")
    for host, address in ADDRESSES.items():
        report.say(f"  {host:9} {address}:{embedded.start_port}   {embedded.directory / host}")
    first = deploy(report, embedded, [SITE], "site.log", "deploying")
    report.say("  what travels between the hosts is encrypted, and only hosts with a deployed key may connect (CURVE)")
    report.check("site.yml deploys every host", first.ok, f"{first.changes} changes on {len(first.changed)} hosts in {first.seconds:.0f} s")
    deploy(report, embedded, [SERVICES], "services.log", "starting the demonstration services")
    running = {(process.host, process.what) for process in embedded.processes()}
    expected = {(host, what) for host in HOSTS for what in ("receiver", "service.py")}
    report.check("each host runs its receiver and its service", running == expected, f"{len(running)} processes")
    again = deploy(report, embedded, [SITE], "site-again.log", "deploying again")
    report.check("site.yml run again changes nothing", again.ok and again.changes == 0, f"changed={again.changes} in {again.seconds:.0f} s")

    report.chapter("The ring that was built from the inventory")
    rings = [json.loads(embedded.ring_file(host).read_text(encoding="utf-8")) for host in HOSTS]
    report.ring(rings[0])
    report.check("every host has the same ring, with the topics of the inventory", all(ring == TOPICS for ring in rings))


def show_calls(report: Report, callers: dict[str, Caller]) -> None:
    """Call from each host to each other and measure the round trips."""
    report.chapter("A call from each host to each other")
    milliseconds: dict[tuple[str, str], float | None] = {}
    faults = []
    for source in HOSTS:
        for target in [host for host in HOSTS if host != source]:
            answers = [callers[source].ask(f"agent.{target}", "who_are_you") for _turn in range(WARM_UP + MEASURED)]
            wrong = [said(answer) for answer in answers if answered_by(answer) != target]
            milliseconds[source, target] = None if wrong else statistics.median(answer["milliseconds"] for answer in answers[WARM_UP:])
            faults += [f"{source} to {target}: {wrong[0]}"] if wrong else []
    report.round_trips(HOSTS, milliseconds)
    report.say(f"  median of {MEASURED} calls, each through the receivers of both hosts")
    report.check("a call from each host to each other is answered by that host", not faults, "; ".join(faults))


def show_round_robin(report: Report, callers: dict[str, Caller]) -> None:
    """Call a bare topic several times."""
    report.chapter("Calls from control1 to the bare topic compute: round robin")
    answers = [callers["control1"].ask("compute", "who_are_you") for _turn in range(8)]
    order = [answered_by(answer) or said(answer) for answer in answers]
    report.answers(order)
    alternates = all(one != next_one for one, next_one in itertools.pairwise(order))
    report.check("the computes take turns", set(order) == set(COMPUTES) and alternates)


def show_fanout(report: Report, callers: dict[str, Caller]) -> None:
    """Send one fanout, and ask every host whether it arrived, and how often."""
    report.chapter("A fanout from compute2 to everyone who serves agent")
    note = uuid.uuid4().hex
    sent = callers["compute2"].ask("agent", "take_note", kind="fanout_cast", note=note)
    counts: dict[str, int] = {}

    def arrived() -> bool:
        for host in HOSTS:
            notes = callers["control1"].ask(f"agent.{host}", "notes").get("value") or []
            counts[host] = notes.count(note)
        return all(counts.values())

    _until(arrived)
    for host, count in counts.items():
        report.say(f"  {host:9} got it {count} time{'' if count == 1 else 's'}")
    report.check("a fanout reaches every host, once", "error" not in sent and set(counts.values()) == {1}, said(sent) if "error" in sent else "")


def show_remote_exception(report: Report, callers: dict[str, Caller]) -> None:
    """Call a method that raises."""
    report.chapter("An exception on another host")
    answer = callers["control1"].ask("compute.compute2", "find_instance", name="i-0042")
    message = str(answer.get("message", "")).splitlines()
    report.say(f"  {answer.get('error', 'no error')}: {message[0] if message else ''}")
    raised = "LookupError" in answer.get("classes", ()) and bool(message) and message[0] == "instance i-0042 could not be found on compute2"
    report.check("it is raised at the caller by its own class, LookupError", raised, "" if raised else said(answer))


def show_death(report: Report, embedded: Embedded, callers: dict[str, Caller]) -> None:
    """Kill a compute, receiver and service, and go on calling."""
    report.chapter("compute1 dies: SIGKILL to its receiver and its service")
    victims = [process for process in embedded.processes("compute1") if process.what != "caller.py"]
    for victim in victims:
        victim.send(signal.SIGKILL)
    report.say("  killed: " + ", ".join(f"{victim.what} (pid {victim.pid})" for victim in victims))
    # What was on its way to a host that died has no answer, and is not sent again: nobody knows whether the host took it.
    noticed = _until(lambda: not _is_up(embedded, "control1", "compute1"))
    report.check("the receiver of control1 notices", noticed)
    answers = [callers["control1"].ask("compute", "who_are_you") for _turn in range(10)]
    order = [answered_by(answer) or said(answer) for answer in answers]
    report.answers(order)
    slowest = max(answer["milliseconds"] for answer in answers)
    report.check("calls to the bare topic go on, all answered by compute2", set(order) == {"compute2"}, f"the slowest took {slowest:.0f} ms")


def answered_by(answer: dict[str, Any]) -> str | None:
    """Return the host that answered `who_are_you`, None if none did."""
    value = answer.get("value")
    return value.get("host") if isinstance(value, dict) else None


def said(answer: dict[str, Any]) -> str:
    """Return in one line what came of a call."""
    if "error" in answer:
        return f"{answer['error']}: {str(answer['message']).partition(chr(10))[0]}"
    return str(answer.get("value"))


def _until(condition: Callable[[], bool]) -> bool:
    """Wait until the condition holds, and return whether it did in time."""
    deadline = time.monotonic() + PATIENCE
    while not (held := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return held


def _is_up(embedded: Embedded, at: str, peer: str) -> bool:
    return any(entry["host"] == peer and entry["state"] == "up" for entry in embedded.status(at)["peers"])


def bring_back(report: Report, embedded: Embedded) -> None:
    """Have what was killed run again."""
    report.chapter("compute1 comes back, as all is to be left up")
    back = deploy(report, embedded, [SITE, SERVICES], "site-back.log", "bringing compute1 back")
    report.check("site.yml starts what does not run, and nothing else", back.changed == {"control1": 0, "compute1": 2, "compute2": 0})


def say_how_to_look(report: Report, embedded: Embedded) -> None:
    """Say how to look at what was left up, and how to stop it."""
    report.chapter("All is left up")
    program, config = (_relative(path) for path in (embedded.program("control1", "brokerless"), embedded.config_file("control1")))
    brokerless = f"{program} --config-file {config}"
    where = [] if embedded.directory == CHECKOUT / ".demo" else ["--directory", str(embedded.directory)]
    for what, command in {
        "look": f"{brokerless} status",
        "the ring": f"{brokerless} ring show compute",
        "call": f"{brokerless} call compute who_are_you",
        "ping": f"{brokerless} ping agent",
        "logs": f"tail -f {_relative(embedded.directory)}/*/log/*.log",
        "stop": shlex.join([".venv/bin/python", "demo/run.py", "--stop", *where]),
    }.items():
        report.console.print(f"  [bold]{what:9}[/] {command}", soft_wrap=True, highlight=False)


def _relative(path: Path) -> Path:
    return path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path


def demonstrate(report: Report, embedded: Embedded) -> None:
    """Show all of it. Raises `DemoFailed` if it can't go on."""
    show_deployment(report, embedded)
    with ExitStack() as running:
        callers = {host: running.enter_context(Caller(embedded, host)) for host in HOSTS}
        show_calls(report, callers)
        show_round_robin(report, callers)
        show_fanout(report, callers)
        show_remote_exception(report, callers)
        show_death(report, embedded, callers)


def run(report: Report, directory: Path, keep: bool) -> bool:
    """Run the demonstration below `directory`, after stopping what an earlier one left there; returns whether every check held."""
    left = Embedded(directory).stop()
    if left:
        report.say(f"Stopped what an earlier run left up: {', '.join(f'{process.what} of {process.host}' for process in left)}.")
    embedded = Embedded(directory, free_start_port())
    if embedded.start_port != FIRST_START_PORT:
        report.say(f"Ports from {FIRST_START_PORT} on are in use on this machine; the hosts use {embedded.start_port} on.")
    kept = False
    try:
        demonstrate(report, embedded)
        if keep:
            bring_back(report, embedded)
            kept = True
    except DemoFailed as failure:
        report.check("the demonstration came to its end", False, str(failure))
    finally:
        if not kept:
            stopped = embedded.stop()
    if not kept:
        report.check("all that was started is stopped", not embedded.processes(), f"{len(stopped)} processes")
    held = report.summary()
    if kept:
        say_how_to_look(report, embedded)
    return held


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Let SIGTERM and SIGHUP tidy up as Ctrl-C does."""
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration, or stop what one left up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=CHECKOUT / ".demo", help="where the hosts keep their files; default: .demo of the checkout")
    parser.add_argument("--keep", action="store_true", help="leave everything up at the end; KEEP=1 in the environment does the same")
    parser.add_argument("--stop", action="store_true", help="stop what an earlier run left up, and leave")
    options = parser.parse_args(arguments)
    directory = options.directory.resolve()
    console = Console(highlight=False)
    report = Report(console)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        if options.stop:
            stopped = Embedded(directory).stop()
            report.say(f"Stopped {', '.join(f'{process.what} of {process.host}' for process in stopped)}." if stopped else "Nothing was running.")
            return 0
        return 0 if run(report, directory, options.keep or os.environ.get("KEEP", "") not in {"", "0"}) else 1
    except DemoFailed as failure:
        sys.stderr.write(f"demo: {failure}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("demo: interrupted; what it had started is stopped\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
