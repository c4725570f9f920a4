# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The report of the demonstration: what was seen, and of each thing whether it held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table


@dataclass(frozen=True)
class Check:
    """One claim about the system, and whether it held."""

    claim: str
    held: bool
    seen: str = ""


@dataclass
class Report:
    """Prints what is seen as it is seen, and keeps each check for the end."""

    console: Console
    checks: list[Check] = field(default_factory=list)

    def chapter(self, title: str) -> None:
        """Begin a new part."""
        self.console.print()
        self.console.rule(f"[bold]{escape(title)}", align="left")

    def say(self, text: str) -> None:
        """Print a line; square brackets in it are printed as they are."""
        self.console.print(escape(text))

    def check(self, claim: str, held: bool, seen: str = "") -> bool:
        """Print a check and keep it; returns whether it held."""
        self.checks.append(Check(claim, held, seen))
        self.console.print(self._line(self.checks[-1]))
        return held

    def ring(self, topics: Mapping[str, Sequence[str]]) -> None:
        """Print a ring."""
        table = Table("topic", "hosts, in the order of the round robin")
        for topic, hosts in topics.items():
            table.add_row(f"[bold]{escape(topic)}", " → ".join(map(escape, hosts)))
        self.console.print(table)

    def round_trips(self, hosts: Sequence[str], milliseconds: Mapping[tuple[str, str], float | None]) -> None:
        """Print a table of the times from each host to each other; None is a call that failed."""
        table = Table("from \\ to", *hosts)
        for source in hosts:
            cells = []
            for target in hosts:
                if source == target:
                    cells.append("[dim]·")
                else:
                    took = milliseconds.get((source, target))
                    cells.append("[red]failed" if took is None else f"[green]{took:.1f} ms")
            table.add_row(f"[bold]{escape(source)}", *cells)
        self.console.print(table)

    def answers(self, order: Sequence[str]) -> None:
        """Print which hosts answered a row of calls, in their order, and how often each."""
        counts = Counter(order)
        self.say(f"  {' '.join(order)}")
        self.say("  " + ", ".join(f"{host}: {count}" for host, count in sorted(counts.items())))

    def summary(self) -> bool:
        """Print all checks once more and return whether all held."""
        failed = [check for check in self.checks if not check.held]
        held = bool(self.checks) and not failed
        lines = [self._line(check) for check in self.checks]
        verdict = f"all {len(self.checks)} checks held" if held else f"{len(failed)} of {len(self.checks)} checks failed"
        self.console.print()
        self.console.print(Panel("\n".join(lines) or "nothing was checked", title=verdict, border_style="green" if held else "red", expand=False))
        return held

    @staticmethod
    def _line(check: Check) -> str:
        mark = "[green]ok    [/]" if check.held else "[bold red]failed[/]"
        return f"{mark} {escape(check.claim)}" + (f" [dim]({escape(check.seen)})[/]" if check.seen else "")
