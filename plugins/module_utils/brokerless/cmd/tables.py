# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What the command line shows to people: each function takes what `--json` would print and returns tables and lines for `show`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from ..rpc.receiver.figures import quantile
from ..rpc.topics import REPLIES_TOPIC
from ..soft_import import soft_import

if TYPE_CHECKING:
    from rich import box, console, table, text
else:
    box = soft_import("rich.box", "rich")
    console = soft_import("rich.console", "rich")
    table = soft_import("rich.table", "rich")
    text = soft_import("rich.text", "rich")

Shown = list["table.Table | text.Text"]

WIDEST = 1000
"""Characters of a line where the output is no terminal: there a table is as wide as its content, so that no name is broken in two."""

_STYLES = {"up": "green", "this host": "green", "connecting": "yellow", "greeting": "yellow", "unknown": "yellow"}
"""Colours of states; any other state is an obstacle."""


def show(shown: Iterable[table.Table | text.Text], file: TextIO) -> None:
    """Print tables and lines to `file`, in colour if it is a terminal."""
    width = None if file.isatty() else WIDEST
    screen = console.Console(file=file, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)
    for part in shown:
        screen.print(part)


def printable(value: object) -> str:
    """Return the text of a value with everything in it that could steer a terminal written as an escape."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, list | dict):
        value = json.dumps(value)
    return "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in str(value))


def duration(seconds: float | None) -> str:
    """Return a time span as people say it: `2.5 s`, `3 min 20 s`, `5 h 3 min`, `2 d 4 h`."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def _line(content: str, style: str = "") -> text.Text:
    return text.Text(printable(content), style=style)


def _state(state: object) -> text.Text:
    return text.Text(printable(state), style=_STYLES.get(str(state), "red"))


def _table(title: str, headings: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = (), nothing: str = "") -> Shown:
    """Return a table under its title, or the line `nothing` if there are no rows.

    The title is a line of its own, because one that belongs to the table is broken to the table's width.
    """
    made = table.Table(box=box.ROUNDED)
    for heading in headings:
        made.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, text.Text) else text.Text(printable(cell)) for cell in row))
    return [_line(title, "bold"), made] if made.row_count or not nothing else [_line(nothing, "dim")]


def status(data: Mapping[str, Any]) -> Shown:
    """Show a receiver's answer to "status": what it is, its peers, consumers, queues and figures.

    Each process also consumes the answers to its calls; that is of no interest here.
    """
    matchmaker = data["matchmaker"]
    source = f" ({matchmaker['source']})" if matchmaker.get("source") else ""
    shown: Shown = [
        _line(f"Receiver of {data['host']}: version {data['version']}, pid {data['pid']}, up {duration(data['uptime_seconds'])}", "bold"),
        _line(f"MatchMaker {matchmaker['name']}{source}; listens on {', '.join(map(str, data['ports'])) or 'no port'}"),
    ]
    if matchmaker.get("error"):
        shown.append(_line(f"MatchMaker: {matchmaker['error']}", "red"))
    keys = data["curve"]
    shown.append(_line(f"CURVE: public key {keys['public_key']}, {_count(keys['hosts'], 'host')} allowed" if keys else "CURVE: off"))
    if keys and keys["error"]:
        shown.append(_line(f"CURVE: {keys['error']}", "red"))
    peers = (
        (peer["host"], _state(peer["state"]), peer["address"], duration(peer["seconds_in_state"]), peer["outstanding"], peer["round_trip_ms"])
        for peer in data["peers"]
    )
    consumers = (
        (one["address"], one["name"], one["pid"], one["credit"], one["in_hand"])
        for one in data["consumers"]
        if not one["address"].startswith(f"{REPLIES_TOPIC}.")
    )
    queues = ((queue["address"], queue["waiting"], queue["held_reason"]) for queue in data["queues"])
    counters = [(name, count) for name, count in sorted(data["counters"].items()) if count]
    counters += [(f"bound hit: {name}", count) for name, count in sorted(data["bounds"].items())]
    shown += _table(
        "Peers", ["Host", "State", "Address", "Since", "Unacknowledged", "ms"], peers, ["Since", "Unacknowledged", "ms"], "No peers so far."
    )
    shown += _table("Consumers", ["Topic", "Process", "PID", "Credit", "In hand"], consumers, ["PID", "Credit", "In hand"], "No consumers.")
    shown += _table("Queues", ["Topic", "Waiting", "Held because"], queues, ["Waiting"], "No message waits.")
    shown += _messages(data["messages"])
    shown += _stages(data["seconds"])
    shown += _table("Counters", ["Counter", "Count"], counters, ["Count"], "Nothing was counted so far.")
    for worker in data.get("other_workers", ()):
        shown += status(worker)
    return shown


def check(data: Mapping[str, Any]) -> Shown:
    """Show what a check came to."""
    away = data["peers_not_up"]
    return [
        _line(f"Receiver of {data['host']}: version {data['version']}, a call to oneself took {data['round_trip_ms']:.1f} ms"),
        _line(f"Not up: {', '.join(away)}" if away else "All hosts that it knows are up.", "yellow" if away else ""),
    ]


def _messages(counted: Sequence[Mapping[str, Any]]) -> Shown:
    """Show what became of messages, a line for each outcome and a column for each kind."""
    kinds = sorted({row["kind"] for row in counted})
    rows: dict[tuple[str, str], dict[str, int]] = {}
    for row in counted:
        rows.setdefault((row["side"], row["outcome"]), {})[row["kind"]] = row["count"]
    cells = ((side, outcome, *(counts.get(kind, 0) for kind in kinds)) for (side, outcome), counts in rows.items())
    return _table("Messages", ["Side", "Outcome", *kinds], cells, kinds, "No message so far.")


def _stages(seconds: Mapping[str, Mapping[str, Any]]) -> Shown:
    """Show how long messages were in each stage; half of them were there at most as long as p50 says, all but a hundredth as p99 says."""

    def milliseconds(value: float | None) -> str:
        return "-" if value is None else f"{value * 1000:.1f}"

    rows = [
        (
            stage,
            one["count"],
            milliseconds(one["sum"] / one["count"]),
            milliseconds(quantile(one["buckets"], 0.5)),
            milliseconds(quantile(one["buckets"], 0.99)),
        )
        for stage, one in seconds.items()
        if one["count"]
    ]
    numbers = ["Messages", "Mean ms", "p50 ms", "p99 ms"]
    return _table("Stages", ["Stage", *numbers], rows, numbers) if rows else []


def ping(data: Mapping[str, Any]) -> Shown:
    """Show who answered to a ping of a topic."""
    answers = ((answer["host"], answer["pid"], f"{answer['round_trip_ms']:.2f}") for answer in data["answers"])
    return _table(f"Topic {data['topic']}", ["Host", "PID", "ms"], answers, ["PID", "ms"], "Nobody answered.")


def call(data: Mapping[str, Any]) -> Shown:
    """Show the value that a call returned, as JSON."""
    return [text.Text(json.dumps(data["value"], indent=2))]


def cast(data: Mapping[str, Any]) -> Shown:
    """Say that a cast was handed over."""
    return [_line(f"Method {data['method']} for topic {data['topic']} was handed over.")]


def ring_check(data: Mapping[str, Any]) -> Shown:
    """Show the topics of a ring file that is good."""
    rows = ((topic, len(hosts), ", ".join(hosts)) for topic, hosts in sorted(data["topics"].items()))
    good = f"{data['file']} is a good ring: {_count(len(data['topics']), 'topic')}, {_count(len(data['hosts']), 'host')}."
    return [*_table("Ring", ["Topic", "#", "Hosts"], rows, ["#"]), _line(good)]


def ring_show(data: Mapping[str, Any]) -> Shown:
    """Show the ring that a receiver uses, with what it knows of each host."""
    rows = ((topic["topic"], host["host"], _state(host["state"])) for topic in data["topics"] for host in topic["hosts"])
    shown = _table(f"{data['file']} (MatchMaker {data['matchmaker']})", ["Topic", "Host", "State"], rows)
    return [*shown, _line(f"MatchMaker: {data['error']}", "red")] if data["error"] else shown


def route(data: Mapping[str, Any]) -> Shown:
    """Show where a message for a topic would go now."""
    rows = ((host["host"], _state(host["state"]), "next" if host["next"] else "") for host in data["hosts"])
    title = f"Topic {data['topic']}, {data['kind']} ({data['matchmaker']})"
    shown = _table(title, ["Host", "State", "Goes to"], rows, nothing=f"Topic {data['topic']}: no host.")
    if data["via"]:
        shown.append(_line(f"Goes through the receiver of {data['via']}."))
    return [*shown, _line(data["problem"], "red")] if data["problem"] else shown


def key(data: Mapping[str, Any]) -> Shown:
    """Show public keys, one on each line, as a host's `.pub` file holds them."""
    return [_line(public_key) for public_key in data["public_keys"]]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
