# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
from typing import Any

import pytest
from brokerless.cmd import tables

STATUS: dict[str, Any] = {
    "host": "control1",
    "version": "0.1.0",
    "incarnation": "6f",
    "pid": 4321,
    "uptime_seconds": 200.0,
    "matchmaker": {"name": "fanout-ring", "source": "/etc/nova/ring.json", "error": None},
    "ports": [9500],
    "curve": {"public_key": "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", "directory": "/etc/keys", "hosts": 3, "fingerprint": "00", "error": ""},
    "peers": [
        {"host": "compute1", "state": "up", "address": "tcp://127.0.1.2:9500", "seconds_in_state": 7200.0, "outstanding": 3, "round_trip_ms": 0.25},
        {"host": "compute2", "state": "down (no answer)", "address": "", "seconds_in_state": 4.0, "outstanding": 0, "round_trip_ms": None},
    ],
    "consumers": [
        {"address": "compute.control1", "pid": 77, "name": "nova-compute", "credit": 64, "in_hand": 2},
        {"address": "zmq_replies.6f00", "pid": 77, "name": "nova-compute", "credit": 64, "in_hand": 0},
    ],
    "queues": [{"address": "compute.compute2", "waiting": 12, "held_reason": "compute2 is down"}],
    "messages": [
        {"side": "forwarding", "kind": "call", "outcome": "accepted", "count": 30},
        {"side": "forwarding", "kind": "cast", "outcome": "accepted", "count": 4},
        {"side": "delivery", "kind": "call", "outcome": "handed_over", "count": 7},
    ],
    "seconds": {
        "network": {"count": 2, "sum": 0.003, "buckets": [0, 1, 1, *[0] * 14]},
        "consumer": {"count": 0, "sum": 0.0, "buckets": [0] * 17},
    },
    "counters": {"refused": 1, "from_peers": 1000, "from_services": 0},
    "bounds": {"topic_backlog": 12},
}


def shown(parts: tables.Shown) -> str:
    file = io.StringIO()
    tables.show(parts, file)
    return file.getvalue()


def row(output: str, name: str) -> list[str]:
    """Return the cells of the one row whose first cell is `name`."""
    (found,) = [cells for cells in rows(output) if cells[0] == name]
    return found


def rows(output: str) -> list[list[str]]:
    """Return the cells of all rows of all tables, without their headings."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in output.splitlines() if line.startswith("│")]


def test_status_shows_all_that_a_receiver_tells() -> None:
    output = shown(tables.status(STATUS))
    assert "Receiver of control1: version 0.1.0, pid 4321, up 3 min 20 s" in output
    assert "MatchMaker fanout-ring (/etc/nova/ring.json); listens on 9500" in output
    assert "CURVE: public key rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7, 3 hosts allowed" in output
    assert row(output, "compute1") == ["compute1", "up", "tcp://127.0.1.2:9500", "2 h 0 min", "3", "0.2"]
    assert row(output, "compute2") == ["compute2", "down (no answer)", "", "4.0 s", "0", "-"]
    assert row(output, "compute.control1") == ["compute.control1", "nova-compute", "77", "64", "2"]
    assert "zmq_replies" not in output
    assert row(output, "compute.compute2") == ["compute.compute2", "12", "compute2 is down"]
    assert [cells for cells in rows(output) if cells[0] in ("forwarding", "delivery")] == [
        ["forwarding", "accepted", "30", "4"],
        ["delivery", "handed_over", "7", "0"],
    ]
    assert row(output, "network") == ["network", "2", "1.5", "1.0", "2.5"]
    assert "consumer" not in [cells[0] for cells in rows(output)]
    assert row(output, "from_peers") == ["from_peers", "1000"]
    assert "from_services" not in output
    assert row(output, "bound hit: topic_backlog") == ["bound hit: topic_backlog", "12"]


def test_status_of_an_idle_receiver_says_that_there_is_nothing() -> None:
    idle = STATUS | {
        "peers": [],
        "consumers": [],
        "queues": [],
        "counters": {},
        "bounds": {},
        "messages": [],
        "seconds": {},
        "ports": [],
        "curve": None,
    }
    idle["matchmaker"] = {"name": "localhost", "source": "", "error": "ring file gone"}
    output = shown(tables.status(idle))
    for line in (
        "No peers so far.",
        "No consumers.",
        "No message waits.",
        "No message so far.",
        "Nothing was counted so far.",
        "MatchMaker: ring file gone",
    ):
        assert line in output.splitlines()
    assert "MatchMaker localhost; listens on no port" in output
    assert "CURVE: off" in output


def test_status_shows_a_fault_of_the_keys() -> None:
    output = shown(tables.status(STATUS | {"curve": STATUS["curve"] | {"error": "public keys a.pub, line 1: broken"}}))
    assert "CURVE: public keys a.pub, line 1: broken" in output.splitlines()


def test_keys_are_shown_as_their_file_holds_them() -> None:
    assert shown(tables.key({"public_keys": ["a" * 40, "b" * 40]})) == "a" * 40 + "\n" + "b" * 40 + "\n"


def test_ping_shows_who_answered() -> None:
    output = shown(tables.ping({"topic": "compute", "answers": [{"host": "compute1", "pid": 7, "round_trip_ms": 1.234}]}))
    assert "Topic compute" in output
    assert row(output, "compute1") == ["compute1", "7", "1.23"]
    assert shown(tables.ping({"topic": "compute", "answers": []})) == "Nobody answered.\n"


def test_call_shows_json() -> None:
    assert shown(tables.call({"value": {"a": [1, "\x1b[2Jé[red]"]}})) == '{\n  "a": [\n    1,\n    "\\u001b[2J\\u00e9[red]"\n  ]\n}\n'


def test_cast_says_that_it_was_handed_over() -> None:
    data = {"topic": "compute", "method": "reboot", "handed_over": True}
    assert shown(tables.cast(data)) == "Method reboot for topic compute was handed over.\n"


def test_ring_check_counts() -> None:
    output = shown(tables.ring_check({"file": "ring.json", "topics": {"compute": ["c1", "c2"]}, "hosts": ["c1", "c2"]}))
    assert row(output, "compute") == ["compute", "2", "c1, c2"]
    assert "ring.json is a good ring: 1 topic, 2 hosts." in output


def test_ring_show_shows_states_and_what_is_wrong() -> None:
    topics = [{"topic": "compute", "hosts": [{"host": "c1", "state": "up"}]}, {"topic": "network", "hosts": [{"host": "n1", "state": "unknown"}]}]
    data = {"matchmaker": "ring", "file": "/r.json", "error": "/r.json: not JSON", "topics": topics}
    output = shown(tables.ring_show(data))
    assert "/r.json (MatchMaker ring)" in output
    assert row(output, "compute") == ["compute", "c1", "up"]
    assert row(output, "network") == ["network", "n1", "unknown"]
    assert "MatchMaker: /r.json: not JSON" in output
    assert "MatchMaker:" not in shown(tables.ring_show(data | {"error": None}))


def test_route_shows_where_a_message_goes() -> None:
    hosts = [{"host": "c1", "state": "up", "next": False}, {"host": "c2", "state": "up", "next": True}]
    data = {"topic": "compute", "matchmaker": "MatchMaker ring (/r.json)", "kind": "bare", "hosts": hosts, "via": "broker1", "problem": None}
    output = shown(tables.route(data))
    assert "Topic compute, bare (MatchMaker ring (/r.json))" in output
    assert row(output, "c1") == ["c1", "up", ""]
    assert row(output, "c2") == ["c2", "up", "next"]
    assert "Goes through the receiver of broker1." in output
    nowhere = shown(tables.route(data | {"hosts": [], "via": None, "problem": "no host"}))
    assert nowhere == "Topic compute: no host.\nno host\n"


def test_no_name_can_steer_the_terminal_or_be_taken_for_markup() -> None:
    output = shown(tables.ping({"topic": "[red]t\x1b[2J", "answers": [{"host": "[bold]h\n\x07", "pid": 1, "round_trip_ms": 1.0}]}))
    assert "Topic [red]t\\x1b[2J" in output
    assert row(output, "[bold]h\\n\\x07")[1] == "1"


def test_where_the_output_is_no_terminal_a_long_name_stays_in_one_piece() -> None:
    host = "h" * 255
    assert row(shown(tables.ping({"topic": "t", "answers": [{"host": host, "pid": 1, "round_trip_ms": 1.0}]})), host)[1] == "1"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.04, "0.0 s"), (59.9, "59.9 s"), (60, "1 min 0 s"), (3599.9, "59 min 59 s"), (3600, "1 h 0 min"), (86400 * 3 + 7200, "3 d 2 h")],
)
def test_a_duration_is_written_as_people_say_it(seconds: float | None, text: str) -> None:
    assert tables.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (True, "yes"), (False, "no"), (1.25, "1.2"), ([1, "a"], '[1, "a"]'), ("é…", "é…"), ("\ud800", "\\ud800")]
)
def test_any_value_is_printable(value: object, text: str) -> None:
    assert tables.printable(value) == text
