# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from brokerless.ha.hosting_lists import HostingLists
from brokerless.ha.snapshot import L3, Agent

AGENT = Agent("agent-1", "net1", L3)


def test_one_list_answers_all_who_want_to_know_at_the_same_time() -> None:
    asked: list[str] = []

    def read(agent: Agent) -> frozenset[str]:
        asked.append(agent.id)
        return frozenset({"r1", "r2"})

    lists = HostingLists(read)
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda router: lists.is_there(router, AGENT, 0.0), ["r1", "r2", "r3"] * 6))
    assert found == [True, True, False] * 6
    assert len(asked) <= 3


def test_an_old_list_will_do_where_it_may_be_old() -> None:
    asked: list[str] = []

    def read(agent: Agent) -> frozenset[str]:
        asked.append(agent.id)
        return frozenset({"r1"})

    lists = HostingLists(read)
    assert lists.is_there("r1", AGENT, 60.0) is True
    assert lists.is_there("r2", AGENT, 60.0) is False
    assert len(asked) == 1
    assert lists.is_there("r1", AGENT, 0.0) is True
    assert len(asked) == 2


def test_what_could_not_be_read_is_not_known() -> None:
    assert HostingLists(lambda _agent: None).is_there("r1", AGENT, 0.0) is None
