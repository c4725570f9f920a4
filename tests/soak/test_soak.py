# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The soak, for less than a minute; `make soak` runs it for longer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts_under_fire import HostsUnderFire, hosts_under_fire, outage, storm
from ledger import compare


@pytest.fixture(scope="module")
def hosts() -> Iterator[HostsUnderFire]:
    with hosts_under_fire(seed=1) as started:
        yield started


def test_every_message_is_accounted_for_while_receivers_are_killed_and_links_are_cut(hosts: HostsUnderFire) -> None:
    said: list[str] = []
    findings = storm(hosts, casts=3000, calls=600, kills=5, cuts=4, seconds=15.0, say=said.append)
    assert not hosts.report(findings)
    assert findings.sent == findings.ran == 3600
    assert len(said) == 9


@pytest.mark.parametrize("how", ["frozen", "stopped"])
def test_an_outage_shorter_than_a_messages_time_is_only_delay(hosts: HostsUnderFire, how: str) -> None:
    result = outage(hosts, how, seconds=3.0, ttl=30.0, casts=600, calls=80)
    assert not hosts.report(result.findings)
    assert result.findings.sent == result.findings.ran == 680
    assert result.findings.told == 0
    assert result.slowest_call > 1.0, "the outage met no call"


def test_of_what_an_outage_outlasts_every_sender_is_told(hosts: HostsUnderFire) -> None:
    result = outage(hosts, "stopped", seconds=6.0, ttl=2.0, casts=600, calls=80)
    assert not hosts.report(result.findings)
    assert result.findings.sent == 680
    assert result.findings.told > 0


def test_the_comparison_sees_what_is_lost_doubled_reordered_or_failed(tmp_path: Path) -> None:
    sent, ran = tmp_path / "1.sent", tmp_path / "h1.ran"
    sent.write_text(
        "".join(f"h2-1-casts {number} soak.h1 accepted\n" for number in range(1, 7))
        + "h2-1-calls0 1 soak.h1 answered\nh2-1-calls0 2 soak.h1 failed no answer\ntold 6 soak.h1 its time was over\n",
        encoding="ascii",
    )
    order = [("casts", 1), ("casts", 3), ("casts", 2), ("casts", 2), ("casts", 5), ("casts", 9), ("calls0", 1)]
    ran.write_text("".join(f"h2-1-{kind} {number} soak.h1 h1\n" for kind, number in order) + "other-casts 1 soak.h1 h1\n", encoding="ascii")
    findings = compare([sent], [ran])
    assert (findings.sent, findings.ran) == (8, 6)
    assert [message.split(",")[0] for message in findings.lost] == ["h2-1-casts 4", "h2-1-casts 6", "h2-1-calls0 2"]
    assert findings.twice == ["h2-1-casts 2 (2 times)"]
    assert findings.out_of_order == ["h2-1-casts 2 on h1, after 3, topic soak.h1"]
    assert findings.never_sent == ["h2-1-casts 9"]
    assert len(findings.failed) == 2
    excused = compare([sent], [ran], senders_may_be_told=True)
    assert [message.split(",")[0] for message in excused.lost] == ["h2-1-casts 4"]
    assert not excused.failed
