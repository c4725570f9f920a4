# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What `rpcdaemon` shows to people: tables of agents and of plans."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..ha.replay import Decision, Summary
from ..soft_import import soft_import

if TYPE_CHECKING:
    from rich import console, markup, table
else:
    console = soft_import("rich.console", "rich")
    markup = soft_import("rich.markup", "rich")
    table = soft_import("rich.table", "rich")

_COLOURS = {"alive": "green", "suspect": "yellow", "returning": "yellow", "dead": "red", "unknown": "dim"}


def show_status(status: Mapping[str, Any]) -> None:
    """Print what `Daemon.status` returns."""
    out = console.Console(highlight=False)
    hearing = status["hearing"]
    heard = hearing["trouble"] or f"for {hearing['for_seconds'] or 0:.0f} s without a gap, {hearing['heartbeats']} reports in all"
    leads = f"leads in term {status['term']}" if status["leads"] else f"does not lead: {status['why_not']}"
    out.print(f"{status['instance']} {leads}{', dry run' if status['dry_run'] else ''}; hears the agents {heard}", markup=False)
    rows = table.Table("agent", "host", "zone", "state", "for", "hosts", "why")
    for agent in status["judgement"]["agents"]:
        colour = _COLOURS.get(agent["state"], "")
        wishes = [wish for wish, hosts in status["hosts"].items() if agent["host"] in hosts]
        state = " ".join([agent["state"], *wishes])
        why = "; ".join(filter(None, [agent["reason"], agent["held_back"], agent["reluctance"]]))
        hosted = status["hosted"].get(agent["agent"], "")
        cells = (agent["agent_type"], agent["host"], agent["zone"], f"[{colour}]{state}[/]" if colour else state, f"{agent['for_seconds']:.0f} s")
        rows.add_row(*cells, str(hosted), why)
    out.print(rows)
    for action in status["under_way"]:
        out.print(f"under way: {action}", markup=False)
    if status["settling"]:
        out.print(f"looked at until they work: routers {', '.join(status['settling'])}", markup=False)
    if status["waiting"]:
        out.print(f"{status['waiting']} actions wait")
    for alarm in status["alarms"]:
        out.print(
            f"{alarm['level'].upper()} {alarm['name']}: {alarm['text']}", markup=False, style="red" if alarm["level"] == "critical" else "yellow"
        )


def show_plan(answer: Mapping[str, Any]) -> None:
    """Print a plan, as `Plan.to_json` returns it under `plan`."""
    out = console.Console(highlight=False)
    plan = answer["plan"]
    if not plan["actions"] and not plan["unplaced"]:
        out.print("nothing to do")
    if plan["actions"]:
        rows = table.Table("#", "action", "what", "from", "to", "why")
        for action in plan["actions"]:
            ends = [(action[end] or {}).get("host", "") for end in ("from", "to")]
            rows.add_row(str(action["number"]), action["action"], action["name"] or action["id"], *ends, action["reason"])
        out.print(rows)
    for each in plan["unplaced"]:
        out.print(f"no place for {each['id']} ({each['name']}): {each['reason']}", markup=False, style="red")
    for note in plan["notes"]:
        out.print(note, markup=False)


def show_decisions(decisions: Iterable[Decision], summary: Summary) -> None:
    """Print what a replay found: when, what, and why."""
    out = console.Console(highlight=False)
    then = ", ".join(f"{name} {before} -> {now}" for name, (before, now) in summary.others.items())
    out.print(f"{summary.heartbeats} reports in {summary.seconds:.0f} s; thresholds {f'other than those of then: {then}' if then else 'as then'}")
    if summary.damaged:
        out.print(f"{summary.damaged} of {summary.lines} lines were not understood", style="yellow")
    rows = table.Table("when (UTC)", "what", "which", "why")
    for each in decisions:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(each.at))
        for what, which, why in _rows_of(each):
            rows.add_row(when, what, markup.escape(which), markup.escape(why))
            when = ""
    out.print(rows if rows.row_count else "nothing was decided")


def _rows_of(decision: Decision) -> Iterator[tuple[str, str, str]]:
    told = decision.told
    if decision.event == "transition":
        colour = _COLOURS[told["after"]]
        yield f"{told['before']} -> [{colour}]{told['after']}[/]", f"{told['agent_type']} on {told['host']}", told["reason"]
    elif decision.event == "alarm":
        yield "ALARM", "", told["text"]
    else:
        for action in told["plan"]["actions"]:
            ends = [f" {word} {action[end]['host']}" for word, end in (("from", "from"), ("to", "to")) if action[end]]
            yield action["action"], f"{action['name'] or action['id']}{''.join(ends)}", action["reason"]
        for each in told["plan"]["unplaced"]:
            yield "no place", f"{each['name'] or each['id']}", each["reason"]
