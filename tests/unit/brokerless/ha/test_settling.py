# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Whether a router that was moved works, by what Neutron says of its ports."""

from __future__ import annotations

from typing import Any

import pytest
from brokerless.ha.settling import AT_ONCE, LATE_SECONDS, OFTEN_SECONDS, QUICK_NUMBER, QUICK_SECONDS, Settling
from brokerless.ha.snapshot import L3, Agent

NEW, OTHER = Agent("l3-net2", "net2", L3), Agent("l3-net3", "net3", L3)
WITHIN = 60.0


def port(status: str = "ACTIVE", host: str = "net2", owner: str = "network:router_interface", router: str = "r1", **more: Any) -> dict[str, Any]:
    return {"id": "p", "device_id": router, "device_owner": owner, "status": status, "admin_state_up": True, "binding:host_id": host, **more}


def watched() -> Settling:
    settling = Settling(WITHIN)
    settling.moved("r1", NEW, 1000.0)
    return settling


@pytest.mark.parametrize(
    ("ports", "floating_ips", "missing"),
    [
        ([port(), port(owner="network:router_gateway")], [], ""),
        ([port(), port(host="net1")], [], "1 of its 2 ports are not bound there"),
        ([port("DOWN"), port()], [], "1 of its 2 ports are not ACTIVE"),
        ([port()], [{"router_id": "r1", "status": "DOWN"}], "1 of its floating IPs are not ACTIVE"),
        ([port()], [{"router_id": "r1", "status": "ACTIVE"}, {"router_id": "r2", "status": "DOWN"}], ""),
        ([port(), port("DOWN", admin_state_up=False)], [], ""),
        ([port(), port("DOWN", host="", owner="network:router_interface_distributed")], [], ""),
    ],
)
def test_it_works_when_its_ports_and_addresses_are_active_on_the_new_host(
    ports: list[dict[str, Any]], floating_ips: list[dict[str, Any]], missing: str
) -> None:
    settling = watched()
    works = settling.read(["r1"], ports, floating_ips, 1004.0)
    if not missing:
        assert [(each.router, each.agent, each.seconds) for each in works] == [("r1", NEW, 4.0)]
        assert "r1 works on net2, 4.0 s after" in str(works[0])
        assert settling.waiting == []
        return
    assert works == []
    assert settling.waiting == ["r1"]
    (late,) = settling.overdue(1000.0 + WITHIN)
    assert missing in str(late)


def test_what_has_no_ports_any_more_is_forgotten_without_a_word() -> None:
    settling = watched()
    assert settling.read(["r1", "r2"], [], [], 1001.0) == []
    assert settling.where() == {}


def test_what_has_had_its_time_is_told_once_and_looked_at_until_it_works() -> None:
    settling = watched()
    assert settling.overdue(1000.0 + WITHIN - 0.1) == []
    assert settling.slow() == {}
    assert [each.router for each in settling.overdue(1000.0 + WITHIN)] == ["r1"]
    assert settling.overdue(1000.0 + WITHIN + 1) == []
    assert settling.waiting == []
    assert "do not work there: r1" in settling.slow()["l3-net2"]
    assert [each.seconds for each in settling.late()] == [WITHIN]
    settling.moved("r2", NEW, 1000.0)
    settling.overdue(1061.0)
    assert "do not work there: r1, and 1 others" in settling.slow()["l3-net2"]
    assert settling.read(["r2"], [port(router="r2")], [], 1065.0)
    assert settling.slow(), "r1 still does not work there"
    assert settling.read(["r1"], [port()], [], 1100.0)[0].seconds == 100.0
    assert settling.slow() == {}


def test_a_router_that_was_moved_on_is_watched_where_it_is_now() -> None:
    settling = watched()
    settling.overdue(1000.0 + WITHIN)
    settling.moved("r1", OTHER, 1070.0)
    assert settling.where() == {"r1": OTHER}
    assert settling.late() == []
    assert settling.read(["r1"], [port(host="net2")], [], 1071.0) == []


def test_few_are_asked_about_often_many_seldom_and_a_handful_at_a_time() -> None:
    settling = watched()
    assert settling.to_ask(1001.0) == ("r1",)
    assert settling.to_ask(1001.0 + QUICK_SECONDS / 2) == ()
    assert settling.to_ask(1001.0 + QUICK_SECONDS) == ("r1",)
    for number in range(2 * AT_ONCE):
        settling.moved(f"s{number}", NEW, 1003.0)
    first, second, third = (set(settling.to_ask(1003.0)) for _look in range(3))
    assert len(first) == len(second) == AT_ONCE
    assert not first & second
    assert not third, "r1 was asked about just now"
    assert settling.to_ask(1003.0 + OFTEN_SECONDS - 0.5) == ("r1",)
    assert len(settling.waiting) > QUICK_NUMBER


def test_what_is_late_is_asked_about_seldom() -> None:
    settling = watched()
    settling.overdue(1000.0 + WITHIN)
    assert settling.to_ask(1100.0) == ("r1",)
    assert settling.to_ask(1100.0 + LATE_SECONDS - 1) == ()
    assert settling.to_ask(1100.0 + LATE_SECONDS) == ("r1",)


def test_nothing_is_watched_if_the_operator_does_not_want_it() -> None:
    settling = Settling(0.0)
    settling.moved("r1", NEW, 1000.0)
    assert not settling.waits_for("r1")
    assert settling.to_ask(1001.0) == ()
