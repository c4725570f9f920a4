# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What `rpcdaemon` shows to people: tables of agents and of plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..soft_import import soft_import

if TYPE_CHECKING:
    from rich import console, table
else:
    console = soft_import("rich.console", "rich")
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
