# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The watch, event by event: when it asks, when it plans, what it still wants."""

from __future__ import annotations

from dataclasses import replace

import pytest
from brokerless.ha.errands import Outcome, Result
from brokerless.ha.journal import HostWish, OpenMove
from brokerless.ha.plan import Action, Kind
from brokerless.ha.policy import Fencing, PolicySettings
from brokerless.ha.snapshot import L3, AgentKey, Heartbeat
from brokerless.ha.watch import AGAIN_SECONDS, FAILURE_PAUSE, FINISH_SECONDS, QUICK_SECONDS, Needs, Watch
from clouds import Cloud

POLICY = PolicySettings.for_intervals(10.0, 3.0)


class Story:
    """A cloud of three nodes with two routers on the first, watched from second 1000 on; agents report every second unless they are silent."""

    def __init__(self) -> None:
        self.cloud = Cloud()
        for host in ("net1", "net2", "net3"):
            self.cloud.node(host)
        self.cloud.network("lan")
        self.cloud.router("r1", on=("net1",), networks=("lan",))
        self.cloud.router("r2", on=("net1",), networks=("lan",))
        self.watch = Watch(POLICY, [L3])
        self.now = 1000.0
        self.silent: set[str] = set()
        self.watch.judge.hearing.listening(self.now)

    def passes(self, seconds: int) -> None:
        """Let time pass: agents report, Neutron names them, the watch ticks."""
        for _second in range(seconds):
            self.now += 1.0
            snapshot = self.cloud.snapshot()
            for agent in snapshot.agents.values():
                if agent.host not in self.silent:
                    key = AgentKey(agent.agent_type, agent.host)
                    self.watch.judge.heard(Heartbeat(key, self.now, starting=False, abilities=agent.abilities), self.now, self.now)
            listed = [replace(agent, alive=agent.host not in self.silent, heartbeat_at=self.now) for agent in snapshot.agents.values()]
            self.watch.listed(listed, self.now, self.now)
            self.watch.tick(self.now, self.now)

    def moves(self, router: str, source: str, target: str) -> None:
        """The router is moved."""
        self.cloud.hosting[f"l3-{source}"].remove({"id": router})
        self.cloud.hosting[f"l3-{target}"].append({"id": router})

    def needs(self, *, busy: bool = False, leads: bool = True) -> Needs:
        return self.watch.needs(self.now, busy=busy, leads=leads)

    def looks(self) -> list[tuple[str, str]]:
        plan, _said = self.watch.looked(self.cloud.snapshot(), self.now)
        return [(action.kind.value, action.thing) for action in plan.actions]


@pytest.fixture
def story() -> Story:
    story = Story()
    story.passes(5)
    story.needs()
    story.looks()
    return story


def test_an_idle_watch_asks_for_agents_now_and_then_and_for_nothing_else(story: Story) -> None:
    asked = []
    for _second in range(60):
        story.passes(1)
        asked.append(story.needs())
    assert sum(needs.agents for needs in asked) <= 60 / (POLICY.api_fresh / 2) + 1
    assert not any(needs.snapshot or needs.poll for needs in asked)


def test_who_does_not_lead_reads_nothing_but_agents(story: Story) -> None:
    story.silent.add("net1")
    story.passes(20)
    assert story.needs(leads=False).snapshot == ""
    assert "net1 is dead" in story.needs().snapshot


def test_a_doubt_makes_it_ask_more_often(story: Story) -> None:
    story.silent.add("net1")
    story.passes(6)
    asked = 0
    for _second in range(5):
        asked += story.needs().agents
        story.passes(1)
    assert asked >= 5 / max(1.0, QUICK_SECONDS) - 1


def test_a_dead_agent_is_evacuated_and_what_is_under_way_counts_as_done(story: Story) -> None:
    story.silent.add("net1")
    story.passes(20)
    assert story.needs().snapshot
    assert story.looks() == [("move router", "r1"), ("move router", "r2")]
    first = story.watch.plan.actions[0]
    plan, _said = story.watch.looked(story.cloud.snapshot(), story.now, [first])
    assert [(action.thing, action.target.host if action.target else "") for action in plan.actions] == [
        ("r2", "net2" if first.target and first.target.host == "net3" else "net3")
    ]


def test_it_looks_again_while_there_is_something_to_do_and_at_once_when_all_has_ended(story: Story) -> None:
    story.silent.add("net1")
    story.passes(20)
    story.needs()
    story.looks()
    story.passes(1)
    assert story.needs(busy=True).snapshot == ""
    assert story.needs(busy=False).snapshot == "what was planned has ended"
    story.looks()
    story.passes(int(AGAIN_SECONDS))
    assert story.needs(busy=True).snapshot == "there is something to do"


def test_what_was_planned_is_not_wanted_any_more_when_the_source_is_back_or_the_target_is_silent(story: Story) -> None:
    story.silent.add("net1")
    story.passes(20)
    story.looks()
    (move, *_rest) = story.watch.plan.actions
    assert story.watch.still_wanted(move) == ""
    assert move.target is not None
    story.silent.add(move.target.host)
    story.passes(6)
    assert f"L3 agent on {move.target.host}, where it was to go, is suspect" in story.watch.still_wanted(move)
    story.silent.clear()
    story.passes(2)
    assert "L3 agent on net1 is returning again" in story.watch.still_wanted(move)
    story.watch.judge.hearing.deaf("the broker is away", story.now)
    story.watch.tick(story.now + 1, story.now + 1)
    assert story.watch.still_wanted(move) == "we hear nothing: the broker is away"


def test_a_drain_is_taken_up_one_at_a_time_and_ends_with_the_wish(story: Story) -> None:
    story.watch.wish(HostWish("net1", "draining", 0.0), "net1")
    story.passes(1)
    assert "the operator wants net1 to be draining" in story.needs().snapshot
    assert story.looks() == [("move router", "r1"), ("move router", "r2")]
    assert story.watch.plan.in_flight == POLICY.drain_in_flight
    move = story.watch.plan.actions[0]
    assert story.watch.still_wanted(move) == ""
    story.watch.wish(None, "net1")
    assert "is alive again" in story.watch.still_wanted(move)


def test_a_drain_looks_whether_what_it_moved_works_and_prefers_others_to_where_it_does_not(story: Story) -> None:
    story.watch.wish(HostWish("net1", "draining", 0.0), "net1")
    assert len(story.looks()) == 2
    assert story.watch.plan.settle
    first, second = story.watch.plan.actions
    assert first.target is not None
    story.moves(first.thing, "net1", first.target.host)
    story.watch.ended(first, Outcome(Result.DONE, "", first.target), story.now)
    assert story.needs().settling == (first.thing,)
    assert story.needs().settling == (), "one question at a time"
    port = {"device_id": first.thing, "device_owner": "network:router_interface", "status": "DOWN", "binding:host_id": first.target.host}
    assert story.watch.read_settling([first.thing], [port], [], story.now) == []
    (late,) = story.watch.settling.overdue(story.now + POLICY.settle_within)
    assert "1 of its 1 ports are not ACTIVE" in str(late)
    assert ("warning", "unsettled") in {(alarm["level"], alarm["name"]) for alarm in story.watch.alarms()}
    assert story.looks() == [("move router", second.thing)]
    (left,) = story.watch.plan.actions
    assert left.target is not None
    assert left.target.host != first.target.host
    assert "do not work there" in left.refused[first.target.id]
    (works,) = story.watch.read_settling([first.thing], [{**port, "status": "ACTIVE"}], [], story.now)
    assert works.router == first.thing
    assert "unsettled" not in {alarm["name"] for alarm in story.watch.alarms()}


def test_a_router_that_left_where_it_did_not_work_is_watched_no_more(story: Story) -> None:
    story.watch.wish(HostWish("net1", "draining", 0.0), "net1")
    story.looks()
    first = story.watch.plan.actions[0]
    assert first.target is not None
    story.watch.ended(first, Outcome(Result.DONE, "", first.target), story.now)
    story.watch.settling.overdue(story.now + POLICY.settle_within)
    story.looks()
    assert story.watch.settling.late() == []


def test_a_fencing_that_failed_is_alarmed_and_tried_again_later_and_holds_until_the_agent_is_back() -> None:
    story = Story()
    story.watch = Watch(replace(POLICY, fencing=Fencing.REQUIRE), [L3])
    story.watch.judge.hearing.listening(story.now)
    story.passes(5)
    story.looks()
    story.silent.add("net1")
    story.passes(20)
    assert story.looks() == [("fence", "net1"), ("move router", "r1"), ("move router", "r2")]
    fence = story.watch.plan.actions[0]
    story.watch.ended(fence, Outcome(Result.FAILED, "the power switch does not answer"), story.now)
    assert any(alarm["name"] == "failed" and "the power switch does not answer" in alarm["text"] for alarm in story.watch.alarms())
    assert story.looks() == []
    story.passes(int(FAILURE_PAUSE) + 1)
    assert story.needs().snapshot
    assert len(story.looks()) == 3
    story.watch.ended(story.watch.plan.actions[0], Outcome(Result.DONE, ""), story.now)
    assert "failed" not in [alarm["name"] for alarm in story.watch.alarms()]
    story.passes(1)
    assert story.looks() == [("move router", "r1"), ("move router", "r2")]
    story.silent.clear()
    story.passes(20)
    story.silent.add("net1")
    story.passes(20)
    assert story.looks()[0] == ("fence", "net1"), "it was on since"


def test_what_failed_is_left_alone_for_a_while(story: Story) -> None:
    story.silent.add("net1")
    story.passes(20)
    story.looks()
    story.watch.ended(story.watch.plan.actions[0], Outcome(Result.FAILED, "it could not be removed from net1: 500"), story.now)
    assert [alarm["name"] for alarm in story.watch.alarms()].count("failed") == 1
    assert story.looks() == [("move router", "r2")]
    story.passes(int(FAILURE_PAUSE) + 1)
    assert ("move router", "r1") in story.looks()


def test_what_failed_last_is_tried_again_and_forgotten_when_it_is_not_wanted(story: Story) -> None:
    story.silent.add("net1")
    story.passes(20)
    story.needs()
    story.looks()
    first, second = story.watch.plan.actions
    story.watch.ended(first, Outcome(Result.FAILED, "it could not be removed from net1: 500"), story.now)
    story.moves("r2", "net1", "net2")
    story.watch.ended(second, Outcome(Result.DONE, "it is on net2"), story.now)
    assert story.looks() == []
    story.passes(int(FAILURE_PAUSE) - 1)
    assert story.needs().snapshot == ""
    story.passes(1)
    assert story.needs().snapshot == "what was left alone, had nowhere to go, or had to wait may go now"
    assert story.looks() == [("move router", "r1")]
    story.moves("r1", "net1", "net3")
    story.passes(1)
    story.looks()
    assert "failed" not in [alarm["name"] for alarm in story.watch.alarms()]
    # somebody else moved it: a look when that may be over, and no more
    story.passes(int(POLICY.stand_back) + 1)
    assert story.needs().snapshot != ""
    assert story.looks() == []
    story.passes(60)
    assert story.needs().snapshot == ""


def test_what_had_nowhere_to_go_is_looked_at_again(story: Story) -> None:
    for host in ("net2", "net3"):
        story.watch.wish(HostWish(host, "cordoned", 0.0), host)
    story.silent.add("net1")
    story.passes(20)
    story.needs()
    assert story.looks() == []
    assert len(story.watch.plan.unplaced) == 2
    story.passes(int(AGAIN_SECONDS) - 1)
    assert story.needs().snapshot == ""
    story.passes(1)
    assert story.needs().snapshot == "what was left alone, had nowhere to go, or had to wait may go now"


def test_a_broken_move_is_finished_when_an_agent_can_have_it(story: Story) -> None:
    story.watch.open_moves([OpenMove("r1", "l3-net1", "net1", "l3-net2", "net2", "adding", "ctl/1", 0.0)])
    assert ("critical", "broken-move") in {(alarm["level"], alarm["name"]) for alarm in story.watch.alarms()}
    assert [move.target for move in story.watch.to_finish(story.now)] == ["l3-net2"]
    assert story.watch.to_finish(story.now + FINISH_SECONDS / 2) == []
    story.silent.add("net2")
    story.passes(20)
    assert [move.target for move in story.watch.to_finish(story.now)] != ["l3-net2"]


def test_a_broken_move_that_took_nothing_from_a_dead_agent_is_planned_anew(story: Story) -> None:
    story.watch.open_moves([OpenMove("r1", "l3-net1", "net1", "l3-net2", "net2", "removing", "ctl/1", 0.0)])
    story.silent.add("net1")
    story.passes(20)
    assert ("move router", "r2") in story.looks()
    for action in list(story.watch.plan.actions):
        story.watch.ended(action, Outcome(Result.DONE, "it is there", action.target), story.now)
    agents = story.watch.snapshot.agents
    finished = Action(0, Kind.MOVE_ROUTER, "r1", "", "begun by ctl/1", agents["l3-net1"], agents["l3-net2"])
    story.moves("r2", "net1", "net2")
    story.passes(2)
    story.needs()
    story.looks()
    assert not story.watch.plan.actions
    story.watch.ended(finished, Outcome(Result.NOT_NEEDED, "it is still on net1", agents["l3-net1"]), story.now)
    assert story.watch.hosted("net1") == 1
    story.passes(2)
    assert "was begun before has ended" in story.needs().snapshot
    assert story.looks() == [("move router", "r1")]


def test_a_router_without_an_agent_gets_the_one_with_the_least(story: Story) -> None:
    story.silent.add("net1")
    story.passes(20)
    story.looks()
    (move, *_rest) = story.watch.plan.actions
    assert move.kind is Kind.MOVE_ROUTER
    chosen = story.watch.choose(move, {})
    assert chosen is not None
    other = story.watch.choose(move, {chosen.id: "it can't"})
    assert other is not None
    assert {chosen.host, other.host} == {"net2", "net3"}
    assert story.watch.choose(move, {chosen.id: "no", other.id: "no"}) is None


def test_networks_that_come_are_noticed() -> None:
    story = Story()
    story.watch = Watch(POLICY, ["DHCP agent"])
    story.watch.judge.hearing.listening(story.now)
    story.passes(5)
    story.needs()
    story.looks()
    story.watch.polled(["lan 1"])
    story.passes(2)
    assert "created" not in story.needs(busy=True).snapshot
    story.watch.polled(["lan 1", "new 1"])
    assert story.needs(busy=True).snapshot == "networks or routers were created or deleted"


def test_an_api_that_gives_no_answer_twice_is_an_alarm_until_it_does(story: Story) -> None:
    def alarms() -> list[str]:
        return [alarm["text"] for alarm in story.watch.alarms() if alarm["name"] == "api"]

    story.watch.unanswered("agents", "no answer for 5 s")
    assert alarms() == []
    story.watch.unanswered("agents", "connection refused")
    (text,) = alarms()
    assert "agents: connection refused" in text
    story.passes(1)
    assert alarms() == []


def test_what_goes_back_waits_for_its_window_and_for_its_hour() -> None:
    """The story begins at 00:16:40 UTC on a Thursday."""
    story = Story()
    story.watch = Watch(replace(POLICY, failback_per_hour=1, failback_windows="thu 00:20-01:00, fri 00:00-24:00", rebalance_threshold=1), [L3])
    story.watch.judge.hearing.listening(story.now)
    for number in range(3, 7):
        story.cloud.router(f"r{number}", on=("net1",), networks=("lan",))
    story.passes(20)
    story.needs()
    assert story.looks() == []
    story.passes(round(1200 - story.now) - 1)
    assert not story.needs().snapshot
    story.passes(2)
    assert "had to wait" in story.needs().snapshot
    (move,) = story.looks()
    (action,) = story.watch.plan.actions
    assert not story.watch.still_wanted(action)
    assert action.target is not None
    story.watch.ended(action, Outcome(Result.DONE, "it is there", action.target), story.now)
    story.moves(move[1], "net1", action.target.host)
    story.passes(2)
    story.needs()
    assert story.looks() == [], "the hour has had its move"
    spent = story.now
    while not story.needs().snapshot:
        story.passes(1)
    assert story.now - spent > 3000
