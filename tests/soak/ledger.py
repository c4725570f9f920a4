# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What was sent compared with what ran, line by line."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

MessageKey: TypeAlias = "tuple[str, int]"
"""The name of the sending thread, and the number that it gave the message."""

SHOWN = 20


@dataclass
class Findings:
    """What the comparison found; the lists are of messages as they are shown."""

    sent: int = 0
    ran: int = 0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    never_sent: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    told: int = 0
    told_and_ran: int = 0

    def faults(self) -> dict[str, list[str]]:
        """Return the lists that must be empty, by name; only those that are not."""
        lists = {
            "lost, and nobody was told": self.lost,
            "ran twice": self.twice,
            "ran and was never sent": self.never_sent,
            "ran out of order": self.out_of_order,
            "failed, as the sender was told": self.failed,
        }
        return {name: messages for name, messages in lists.items() if messages}

    def summary(self) -> str:
        """Return one line of counts."""
        counts = f"{self.sent} sent, {self.ran} ran, {len(self.lost)} lost, {len(self.twice)} twice, {len(self.out_of_order)} out of order"
        return f"{counts}, {self.told} failures told to the sender, of which {self.told_and_ran} ran all the same"


def compare(sent_files: Iterable[Path], ran_files: Iterable[Path], *, senders_may_be_told: bool = False) -> Findings:
    """Compare the ledgers of the senders with those of the consumers.

    What others sent is passed over. Each message must have run once, and casts for a directed topic in the order of their numbers. With
    `senders_may_be_told` one that did not run is in order if its sender was told: a call by an exception, a cast by a line in the log.
    """
    findings = Findings()
    sent, told = _sent(sent_files, findings)
    senders = {sender for sender, _number in sent}
    ran: Counter[MessageKey] = Counter()
    last: dict[tuple[str, str], int] = defaultdict(int)
    for path in ran_files:
        for line in path.read_text(encoding="ascii").splitlines():
            sender, number_text, topic, host = line.split()
            number = int(number_text)
            if sender not in senders:
                continue
            ran[(sender, number)] += 1
            if ran[(sender, number)] == 1 and "." in topic and "casts" in sender:
                if number < last[(sender, topic)]:
                    findings.out_of_order.append(f"{sender} {number} on {host}, after {last[(sender, topic)]}, topic {topic}")
                last[(sender, topic)] = number
    findings.sent, findings.ran, findings.told = len(sent), len(ran), len(told)
    findings.told_and_ran = len(told & ran.keys())
    findings.twice = [f"{sender} {number} ({count} times)" for (sender, number), count in ran.items() if count > 1]
    findings.never_sent = [f"{sender} {number}" for sender, number in ran.keys() - sent.keys()]
    excused = told if senders_may_be_told else set()
    findings.lost = [
        f"{sender} {number}, topic {topic}"
        for (sender, number), topic in sent.items()
        if not ran[(sender, number)] and (sender, number) not in excused
    ]
    if senders_may_be_told:
        findings.failed.clear()
    return findings


def _sent(paths: Iterable[Path], findings: Findings) -> tuple[dict[MessageKey, str], set[MessageKey]]:
    """Read what was sent, with its topic, and of which messages the senders were told that they were not handed over, or may not have been."""
    sent: dict[MessageKey, str] = {}
    told: set[MessageKey] = set()
    for path in paths:
        casts: dict[int, MessageKey] = {}
        whys: dict[int, str] = {}
        for line in path.read_text(encoding="ascii", errors="replace").splitlines():
            sender, number_text, topic, outcome, *text = line.split(" ")
            key = (sender, int(number_text))
            if sender == "told":
                whys[key[1]] = line
            elif sender != "log":
                sent[key] = topic
                if outcome == "accepted":
                    casts[key[1]] = key
                elif outcome in ("failed", "refused"):
                    told.add(key)
                    findings.failed.append(f"{sender} {number_text}, topic {topic}: {outcome} {' '.join(text)}")
        told.update(casts[number] for number in whys if number in casts)
        findings.failed += whys.values()
    return sent, told
