# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Who is dead, second by second: a bus, Neutron's list, and what may be wrong with either."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from brokerless.ha.liveness import MAX_STRANGERS, Forwarding, Judge, State, Transition, Verdict
from brokerless.ha.policy import PolicySettings
from brokerless.ha.snapshot import DHCP, L3, Abilities, Agent, AgentKey, Heartbeat
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

OVS = "Open vSwitch agent"
HOSTS = st.sampled_from(["net1", "net2", "net3", "net4"])
TUNED = PolicySettings.for_intervals(10, 3)
DEFAULT = PolicySettings.for_intervals(75, 30)
WALL = 1_800_000_000.0


@dataclass
class Bench:
    """A cloud whose agents report, a Neutron that hears them, and a judge. Agents beat at times of their own."""

    policy: PolicySettings = TUNED
    nodes: int = 3
    now: float = 1000.0
    silent: set[AgentKey] = field(default_factory=set)
    unprocessed: set[AgentKey] = field(default_factory=set)
    clock_off: dict[AgentKey, float] = field(default_factory=dict)
    bus: bool = True
    api: bool = True
    late: float = 0.0
    changes: list[Transition] = field(default_factory=list)

    def __post_init__(self) -> None:
        keys = [AgentKey(kind, f"net{number + 1}") for number in range(self.nodes) for kind in (L3, DHCP, OVS)]
        self.agents = {key: Agent(f"{key.agent_type[:2].lower()}-{key.host}", key.host, key.agent_type, zone="nova", started_at=1.0) for key in keys}
        self.processed = dict.fromkeys(keys, WALL + self.now)
        self.judge = Judge(self.policy)
        self.judge.hearing.listening(self.now)

    def kill(self, host: str, *kinds: str) -> None:
        self.silent |= {key for key in self.agents if key.host == host and (not kinds or key.agent_type in kinds)}

    def revive(self, host: str) -> None:
        self.silent -= {key for key in self.agents if key.host == host}

    def run(self, seconds: float, step: float = 0.5) -> None:
        for _turn in range(round(seconds / step)):
            self.now += step
            self.beat(step)
            self.ask()
            self.changes += self.judge.tick(self.now, WALL + self.now)

    def beat(self, step: float = 0.5) -> None:
        for number, key in enumerate(self.agents):
            offset = number * self.policy.report_interval / len(self.agents)
            if key in self.silent or (self.now - offset) % self.policy.report_interval >= step:
                continue
            if self.bus and key not in self.unprocessed:
                self.processed[key] = WALL + self.now
            if self.bus:
                sent = WALL + self.now - self.late + self.clock_off.get(key, 0.0)
                self.judge.heard(Heartbeat(key, sent, starting=False, abilities=Abilities()), self.now, WALL + self.now)

    def ask(self) -> None:
        if not self.api:
            self.judge.unanswered("503 Service Unavailable")
            return
        limit = WALL + self.now - self.policy.agent_down_time
        self.judge.listed(
            [replace(agent, alive=self.processed[key] >= limit, heartbeat_at=self.processed[key]) for key, agent in self.agents.items()], self.now
        )

    def verdict(self, host: str, kind: str = L3) -> Verdict:
        return self.judge.judgement(self.now).verdicts[self.agents[AgentKey(kind, host)].id]

    def states(self, kind: str = L3) -> dict[str, str]:
        return {key.host: self.verdict(key.host, kind).state.value for key in self.agents if key.agent_type == kind}

    def evacuated(self) -> set[str]:
        return {verdict.agent.host for verdict in self.judge.judgement(self.now).verdicts.values() if verdict.evacuate}

    def seconds_until_dead(self, host: str, at_most: float) -> float:
        since = self.now
        self.run(0.5)
        while not self.verdict(host).evacuate:
            assert self.now - since < at_most, f"{host} is not dead after {at_most} s: {self.verdict(host)}"
            self.run(0.5)
        return self.now - since


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.run(20)
    assert set(bench.states().values()) == {"alive"}
    return bench


# --- a death -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [TUNED, DEFAULT])
def test_a_death_is_known_no_later_than_neutrons_failover_acts(policy: PolicySettings) -> None:
    bench = Bench(policy)
    bench.run(3 * policy.agent_down_time)
    bench.kill("net2")
    seconds = bench.seconds_until_dead("net2", 2 * policy.agent_down_time)
    assert policy.agent_down_time - policy.report_interval < seconds <= 2 * policy.agent_down_time
    assert bench.states() == {"net1": "alive", "net2": "dead", "net3": "alive"}


@pytest.mark.parametrize("policy", [TUNED, DEFAULT])
def test_an_agent_that_was_dead_before_we_listened_is_dead_in_time(policy: PolicySettings) -> None:
    bench = Bench(policy)
    bench.kill("net2")
    bench.processed = {key: at - (key.host == "net2") * 500 for key, at in bench.processed.items()}
    assert policy.agent_down_time < bench.seconds_until_dead("net2", 2 * policy.agent_down_time)


def test_the_states_and_reasons_on_the_way(bench: Bench) -> None:
    bench.kill("net2")
    bench.run(30)
    seen = [
        (change.before.value, change.after.value)
        for change in bench.changes
        if change.agent == bench.verdict("net2").agent or change.agent.id == "l3-net2"
    ]
    assert seen == [("unknown", "alive"), ("alive", "suspect"), ("suspect", "dead")]
    verdict = bench.verdict("net2")
    assert verdict.reason.startswith("silent on the bus for ")
    assert verdict.reason.endswith("Neutron's server says that it is not alive")
    assert str(bench.changes[-1]).endswith(f": suspect -> dead: {bench.changes[-1].reason}")


def test_a_silence_shorter_than_the_hold_off_is_no_death(bench: Bench) -> None:
    for _turn in range(5):
        while bench.verdict("net2").silence:
            bench.run(0.5)
        bench.kill("net2", L3)
        bench.run(TUNED.agent_down_time + 0.5 * TUNED.hold_off)
        assert not bench.evacuated()
        bench.revive("net2")
        bench.run(6)
    assert "dead" not in {change.after.value for change in bench.changes}


# --- witnesses ---------------------------------------------------------------------------------------------------------------------------


def test_silent_on_the_bus_and_heard_by_neutron_is_a_suspicion(bench: Bench) -> None:
    key = AgentKey(L3, "net2")
    bench.silent.add(key)
    for _turn in range(100):
        bench.processed[key] = WALL + bench.now
        bench.run(0.5)
    assert bench.verdict("net2").state is State.SUSPECT
    assert bench.verdict("net2").reason.endswith("but Neutron's server hears it")


def test_heard_on_the_bus_and_dead_for_neutron_is_a_suspicion(bench: Bench) -> None:
    bench.unprocessed.add(AgentKey(L3, "net2"))
    bench.run(50)
    assert bench.verdict("net2").state is State.SUSPECT
    assert "the server does not process its reports" in bench.verdict("net2").reason
    bench.unprocessed.clear()
    bench.run(5)
    assert bench.verdict("net2").state is State.ALIVE


def test_a_word_of_neutrons_from_before_the_last_report_does_not_count(bench: Bench) -> None:
    bench.kill("net2")
    bench.seconds_until_dead("net2", 30)
    bench.judge.heard(Heartbeat(AgentKey(L3, "net2"), None, starting=False, abilities=Abilities()), bench.now + 0.1)
    bench.judge.tick(bench.now + 0.1)
    assert bench.verdict("net2").state is State.RETURNING
    assert bench.verdict("net2").witnesses[1].detail == "Neutron was not asked since"


def test_a_report_after_each_word_of_neutrons_does_not_hide_that_it_processes_none(bench: Bench) -> None:
    """Agents that report as often as Neutron is asked may do so between each question and the look at what came of it."""
    key = AgentKey(L3, "net2")
    bench.processed[key] = 0.0
    for _turn in range(5):
        bench.now += 2.0
        bench.ask()
        bench.judge.heard(Heartbeat(key, None, starting=False, abilities=Abilities()), bench.now + 0.1)
        bench.judge.tick(bench.now + 0.2)
    assert bench.verdict("net2").state is State.SUSPECT
    assert "the server does not process its reports" in bench.verdict("net2").reason


def test_the_hold_off_begins_anew_when_a_witness_changes_its_mind(bench: Bench) -> None:
    key = AgentKey(L3, "net2")
    bench.kill("net2", L3)
    while "hold_off" not in bench.verdict("net2").reason:
        bench.run(0.5)
    for _turn in range(10):
        bench.run(TUNED.hold_off - 0.5)
        assert not bench.evacuated()
        at, bench.processed[key] = bench.processed[key], WALL + bench.now
        bench.run(0.5)
        assert bench.verdict("net2").reason.endswith("but Neutron's server hears it")
        bench.processed[key] = at
    bench.run(TUNED.hold_off + 1)
    assert bench.evacuated() == {"net2"}


def test_without_neutrons_word_nobody_is_dead(bench: Bench) -> None:
    bench.kill("net2")
    bench.run(5)
    bench.api = False
    bench.run(100)
    assert bench.verdict("net2").state is State.SUSPECT
    assert "503" in bench.verdict("net2").reason
    bench.api = True
    bench.run(TUNED.hold_off + 1)
    assert bench.evacuated() == {"net2"}


def test_the_process_died_but_its_host_may_still_forward(bench: Bench) -> None:
    bench.kill("net2", L3)
    bench.run(30)
    verdict = bench.verdict("net2")
    assert verdict.evacuate
    assert verdict.forwarding is Forwarding.MAY_FORWARD
    siblings = next(each for each in verdict.witnesses if each.name == "siblings")
    assert siblings.detail == "the host is up: DHCP agent, Open vSwitch agent heard"


def test_whether_a_silent_host_forwards_is_known_by_a_probe_only(bench: Bench) -> None:
    bench.kill("net2")
    bench.run(30)
    assert bench.verdict("net2").forwarding is Forwarding.NOT_KNOWN
    bench.judge.probed("net2", up=False, detail="BMC: power is off", now=bench.now)
    bench.run(1)
    assert bench.verdict("net2").forwarding is Forwarding.STOPPED
    bench.judge.probed("net2", up=True, detail="answers to ICMP", now=bench.now)
    bench.run(1)
    assert bench.verdict("net2").forwarding is Forwarding.MAY_FORWARD
    bench.run(TUNED.probe_fresh + 1)
    assert bench.verdict("net2").forwarding is Forwarding.NOT_KNOWN


# --- our own ears ------------------------------------------------------------------------------------------------------------------------


def test_a_lost_broker_is_nobodys_death(bench: Bench) -> None:
    bench.bus = False
    bench.judge.hearing.deaf("the connection to the broker is lost", bench.now)
    bench.run(4 * TUNED.agent_down_time)
    assert not bench.evacuated()
    assert bench.judge.judgement(bench.now).deaf == "the connection to the broker is lost"
    bench.bus = True
    bench.judge.hearing.listening(bench.now)
    bench.run(40)
    assert set(bench.states().values()) == {"alive"}
    bench.kill("net3")
    bench.seconds_until_dead("net3", 20)


def test_agents_that_are_slow_to_come_back_to_the_bus_have_time(bench: Bench) -> None:
    for away in (lambda: bench.judge.hearing.deaf("the connection to the broker is lost", bench.now), lambda: None):
        bench.bus = False
        away()
        bench.run(4 * TUNED.agent_down_time)
        bench.bus = True
        bench.judge.hearing.listening(bench.now)
        bench.kill("net2")
        bench.run(TUNED.unheard_after + TUNED.reconnect_grace - TUNED.report_interval)
        assert "dead" not in {change.after.value for change in bench.changes}
        assert "agents have 30 s more to come back" in bench.verdict("net2").reason
        bench.revive("net2")
        bench.run(20)
        assert set(bench.states().values()) == {"alive"}
    assert "dead" not in {change.after.value for change in bench.changes}
    bench.bus = False
    bench.run(40)
    bench.bus = True
    bench.kill("net2")
    bench.run(TUNED.unheard_after + TUNED.reconnect_grace + TUNED.hold_off + 4)
    assert bench.evacuated() == {"net2"}


def test_a_broker_that_falls_silent_without_a_word_is_nobodys_death(bench: Bench) -> None:
    bench.bus = False
    bench.run(8 * TUNED.agent_down_time)
    assert "dead" not in {change.after.value for change in bench.changes}
    assert bench.judge.judgement(bench.now).deaf.startswith("no agent at all was heard for 6 s")


def test_neutron_away_is_nobodys_death(bench: Bench) -> None:
    bench.api = False
    bench.unprocessed = set(bench.agents)
    bench.run(4 * TUNED.agent_down_time)
    bench.api = True
    bench.run(10)
    assert not bench.evacuated()
    bench.unprocessed = set()
    bench.run(5)
    assert set(bench.states().values()) == {"alive"}


def test_both_away_at_our_start_is_nobodys_death() -> None:
    bench = Bench(bus=False, api=False)
    bench.judge = Judge(TUNED)
    bench.run(50)
    assert bench.judge.judgement(bench.now).verdicts == {}
    bench.api = True
    bench.run(20)
    assert set(bench.states().values()) == {"unknown"}
    bench.bus = True
    bench.judge.hearing.listening(bench.now)
    bench.run(30)
    assert set(bench.states().values()) == {"alive"}


def test_our_own_standstill_is_nobodys_death(bench: Bench) -> None:
    for _turn in range(3):
        bench.now += 2 * TUNED.agent_down_time
        bench.processed = dict.fromkeys(bench.agents, WALL + bench.now - TUNED.agent_down_time - 5)
        bench.ask()
        bench.changes += bench.judge.tick(bench.now, WALL + bench.now)
        assert not bench.evacuated()
        bench.run(30)
    assert "dead" not in {change.after.value for change in bench.changes}
    bench.kill("net2")
    bench.seconds_until_dead("net2", 20)


def test_a_hosts_sleep_that_the_monotonic_clock_did_not_count_is_a_gap(bench: Bench) -> None:
    bench.judge.tick(bench.now + 0.5, WALL + bench.now + 300)
    assert bench.judge.hearing.since == bench.now + 0.5
    assert "the clock jumped by 300 s" in bench.judge.hearing.why


def test_while_heartbeats_come_late_nobody_is_judged(bench: Bench) -> None:
    bench.kill("net2")
    for _turn in range(12):
        bench.late += 0.5
        bench.run(1)
    bench.run(60)
    assert not bench.evacuated()
    assert "6 s later than they used to" in bench.judge.judgement(bench.now).deaf
    bench.late = 0.0
    bench.run(2 * TUNED.agent_down_time)
    assert bench.evacuated() == {"net2"}


def test_while_our_queue_is_long_nobody_is_judged(bench: Bench) -> None:
    bench.kill("net2")
    bench.judge.hearing.backlog(TUNED.max_backlog + 1, bench.now)
    bench.run(60)
    assert not bench.evacuated()
    assert "messages wait in our queue" in bench.judge.judgement(bench.now).deaf
    bench.judge.hearing.backlog(0, bench.now)
    bench.run(2 * TUNED.agent_down_time)
    assert bench.evacuated() == {"net2"}


def test_agents_clocks_change_nothing_but_the_report_of_skews(bench: Bench) -> None:
    plain = Bench()
    plain.run(20)
    for number, key in enumerate(bench.agents):
        bench.clock_off[key] = 600.0 if number % 2 else -600.0
    for each in (bench, plain):
        each.run(30)
        each.kill("net2")
        each.run(30)
    assert bench.states() == plain.states()
    assert [(change.agent.id, change.after) for change in bench.changes] == [(change.agent.id, change.after) for change in plain.changes]
    assert set(map(abs, map(round, bench.judge.judgement(bench.now).skews.values()))) == {600}
    assert not plain.judge.judgement(plain.now).skews


# --- coming back -------------------------------------------------------------------------------------------------------------------------


def test_an_agent_that_comes_back_is_returning_and_then_alive(bench: Bench) -> None:
    bench.kill("net2")
    bench.seconds_until_dead("net2", 30)
    bench.revive("net2")
    bench.run(4)
    assert bench.verdict("net2").state is State.RETURNING
    assert bench.verdict("net2").reluctance
    assert not bench.evacuated()
    bench.run(TUNED.return_after + 1)
    assert bench.verdict("net2").state is State.ALIVE
    assert not bench.verdict("net2").reluctance


def test_an_agent_that_comes_and_goes_is_damped_and_the_penalty_halves(bench: Bench) -> None:
    for _turn in range(3):
        bench.kill("net2")
        bench.seconds_until_dead("net2", 30)
        bench.revive("net2")
        bench.run(20)
    verdict = bench.verdict("net2")
    assert verdict.state is State.ALIVE
    assert 2.5 < verdict.penalty < 3.0
    assert verdict.reluctance.startswith("it died and came back too often lately")
    penalty = bench.verdict("net2").penalty
    bench.run(TUNED.flap_half_life)
    assert bench.verdict("net2").penalty == pytest.approx(penalty / 2, abs=0.01)
    assert bench.verdict("net2").reluctance
    bench.run(TUNED.flap_half_life)
    assert not bench.verdict("net2").reluctance
    assert bench.verdict("net1").penalty == 0.0


def test_an_agent_that_was_just_started_has_time(bench: Bench) -> None:
    key = AgentKey(L3, "net2")
    abilities = Abilities(figures={"routers": 20})
    bench.judge.heard(Heartbeat(key, None, starting=True, abilities=abilities), bench.now)
    bench.kill("net2", L3)
    bench.run(TUNED.agent_down_time + TUNED.hold_off + 1)
    assert bench.verdict("net2").state is State.SUSPECT
    assert "just started" in bench.verdict("net2").reason
    bench.run(TUNED.start_grace_per_resource * 20)
    assert bench.verdict("net2").evacuate


def test_a_restart_that_only_neutron_tells_of_gives_time_too(bench: Bench) -> None:
    key = AgentKey(L3, "net2")
    bench.agents[key] = replace(bench.agents[key], started_at=2.0, abilities=Abilities(figures={"routers": 1000}))
    bench.run(1)
    bench.kill("net2", L3)
    bench.run(TUNED.agent_down_time + TUNED.start_grace_max - 2)
    assert not bench.evacuated()


# --- the guard ---------------------------------------------------------------------------------------------------------------------------


def test_two_of_three_at_once_freeze_everything_until_they_are_back(bench: Bench) -> None:
    bench.kill("net1")
    bench.kill("net2")
    bench.run(60)
    assert bench.states() == {"net1": "dead", "net2": "dead", "net3": "alive"}
    assert not bench.evacuated()
    assert bench.verdict("net1").held_back.startswith("mass-failure guard: 2 of 3 hosts fell silent") or "2 of 3" in bench.verdict("net1").held_back
    bench.revive("net1")
    bench.run(5)
    assert not bench.evacuated()
    bench.run(TUNED.guard_release_after)
    assert bench.evacuated() == {"net2"}


def test_all_silent_at_once_and_one_back_first_moves_nothing(bench: Bench) -> None:
    for host in ("net1", "net2", "net3"):
        bench.kill(host)
    bench.run(60)
    assert not bench.evacuated()
    bench.revive("net3")
    for _turn in range(200):
        bench.run(0.5)
        assert not bench.evacuated()
    assert bench.judge.judgement(bench.now).freezes
    bench.revive("net1")
    bench.revive("net2")
    bench.run(60)
    assert set(bench.states().values()) == {"alive"}
    assert not bench.judge.judgement(bench.now).freezes
    bench.kill("net1")
    bench.seconds_until_dead("net1", 20)


def test_a_second_death_during_the_evacuation_of_the_first_is_handled(bench: Bench) -> None:
    bench.kill("net1")
    bench.seconds_until_dead("net1", 20)
    bench.run(15)
    bench.kill("net2")
    bench.seconds_until_dead("net2", 20)
    assert bench.evacuated() == {"net1", "net2"}


def test_the_operator_releases_the_guard(bench: Bench) -> None:
    bench.kill("net1")
    bench.kill("net2")
    bench.run(60)
    assert AgentKey(L3, "net1") in bench.judge.release(bench.now)
    bench.run(1)
    assert bench.evacuated() == {"net1", "net2"}


def test_a_proof_releases_the_guard(bench: Bench) -> None:
    bench.kill("net1")
    bench.kill("net2")
    bench.run(60)
    for _turn in range(30):
        for host in ("net1", "net2"):
            bench.judge.probed(host, up=False, detail="power is off", now=bench.now)
        bench.run(1)
    assert bench.evacuated() == {"net1", "net2"}


def test_an_agent_dead_for_days_is_left_to_the_operator() -> None:
    bench = Bench()
    bench.kill("net2")
    bench.processed = {key: at - (key.host == "net2") * 2 * TUNED.retired_after for key, at in bench.processed.items()}
    bench.run(60)
    assert bench.verdict("net2").state is State.DEAD
    assert not bench.evacuated()
    assert "48 hours" in bench.verdict("net2").held_back


# --- what is said ------------------------------------------------------------------------------------------------------------------------


def test_agents_that_neutron_does_not_list_are_strangers_and_bounded(bench: Bench) -> None:
    key = AgentKey(L3, "new")
    bench.judge.heard(Heartbeat(key, None, starting=False, abilities=Abilities()), bench.now)
    assert bench.judge.judgement(bench.now).strangers == (key,)
    for number in range(MAX_STRANGERS + 5):
        bench.judge.heard(Heartbeat(AgentKey(L3, f"x{number}"), None, starting=False, abilities=Abilities()), bench.now)
    assert len(bench.judge.judgement(bench.now).strangers) == MAX_STRANGERS


def test_an_agent_that_was_deleted_is_forgotten(bench: Bench) -> None:
    del bench.agents[AgentKey(L3, "net2")]
    bench.run(1)
    assert "l3-net2" not in bench.judge.judgement(bench.now).verdicts


def test_an_empty_list_of_agents_is_not_believed(bench: Bench) -> None:
    bench.judge.listed([], bench.now)
    assert len(bench.judge.judgement(bench.now).verdicts) == len(bench.agents)
    assert set(bench.states().values()) == {"alive"}


def test_a_switch_agent_that_fell_silent_is_seen_beside_its_siblings(bench: Bench) -> None:
    bench.kill("net2", OVS)
    bench.run(30)
    siblings = next(each for each in bench.verdict("net2").witnesses if each.name == "siblings")
    assert siblings.detail == "the host is up: DHCP agent heard, Open vSwitch agent not heard"


def test_a_judgement_is_json(bench: Bench) -> None:
    bench.kill("net1")
    bench.kill("net2")
    bench.run(30)
    said = json.loads(json.dumps(bench.judge.judgement(bench.now).to_json()))
    by_agent = {each["agent"]: each for each in said["agents"]}
    assert by_agent["l3-net1"]["state"] == "dead"
    assert by_agent["l3-net1"]["witnesses"]["bus"]["says"] == "silent"
    assert by_agent["l3-net1"]["evacuate"] is False
    assert {"scope", "for_seconds", "reason", "silent"} == set(said["freezes"][0])
    assert said["deaf"] == ""


# --- in any order ------------------------------------------------------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """Agents, the bus, Neutron and the daemon fail and come back in any order; what is evacuated is held against what really happened."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(nodes=4)
        self.delivered = dict.fromkeys(self.bench.agents, -math.inf)
        self.hearing_since = self.bench.now
        heard = self.bench.judge.heard

        def listen(heartbeat: Heartbeat, now: float, wall: float | None = None) -> None:
            self.delivered[heartbeat.key] = now
            heard(heartbeat, now, wall)

        self.bench.judge.heard = listen  # type: ignore[method-assign]

    @rule(host=HOSTS, kinds=st.sampled_from([(), (L3,), (OVS,), (L3, DHCP)]))
    def kill(self, host: str, kinds: tuple[str, ...]) -> None:
        self.bench.kill(host, *kinds)

    @rule(host=HOSTS)
    def revive(self, host: str) -> None:
        self.bench.revive(host)

    @rule()
    def all_fall_silent(self) -> None:
        self.bench.silent = set(self.bench.agents)

    @rule()
    def all_come_back(self) -> None:
        self.bench.silent = set()

    @rule(told=st.booleans())
    def the_broker_goes(self, told: bool) -> None:
        self.bench.bus = False
        if told:
            self.bench.judge.hearing.deaf("the connection is lost", self.bench.now)

    @rule()
    def the_broker_comes_back(self) -> None:
        if not self.bench.bus:
            self.bench.bus = True
            self.bench.judge.hearing.deaf("the connection was lost", self.bench.now)
            self.bench.judge.hearing.listening(self.bench.now)
            self.hearing_since = self.bench.now

    @rule(answers=st.booleans())
    def neutron(self, answers: bool) -> None:
        self.bench.api = answers

    @rule(host=HOSTS, seconds=st.sampled_from([-600.0, 0.0, 600.0]))
    def a_clock_is_set(self, host: str, seconds: float) -> None:
        self.bench.clock_off |= {key: seconds for key in self.bench.agents if key.host == host}

    @rule(seconds=st.floats(TUNED.tick_gap + 0.5, 60.0))
    def we_stand_still(self, seconds: float) -> None:
        self.bench.now += seconds
        self.bench.judge.tick(self.bench.now)
        self.hearing_since = self.bench.now

    @rule(seconds=st.sampled_from([1.0, 3.0, 8.0, 13.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        for _turn in range(round(seconds)):
            self.bench.run(1.0, 1.0)
            self.check()

    def check(self) -> None:
        now = self.bench.now
        evacuated = [verdict for verdict in self.bench.judge.judgement(now).verdicts.values() if verdict.evacuate]
        for verdict in evacuated:
            key = verdict.agent.key
            silence = now - max(self.delivered[key], self.hearing_since)
            assert silence > TUNED.agent_down_time, f"{key} was heard {silence} s ago: {verdict}"
            assert now - self.bench.processed[key] + WALL > TUNED.agent_down_time, f"Neutron heard {key}: {verdict}"
        for kind in (L3, DHCP):
            last = sorted(self.delivered[verdict.agent.key] for verdict in evacuated if verdict.agent.agent_type == kind)
            at_once = [later for earlier, later in pairwise(last) if later - earlier <= TUNED.mass_failure_window]
            assert not at_once, f"of 4 agents two were evacuated that fell silent at once: {[str(verdict.agent) for verdict in evacuated]}"

    @invariant()
    def states_agree_with_what_may_be_moved(self) -> None:
        for verdict in self.bench.judge.judgement(self.bench.now).verdicts.values():
            assert not (verdict.evacuate and verdict.heard_now)
            assert verdict.state is not State.DEAD or verdict.reason

    def teardown(self) -> None:
        """Whatever happened: when all is well again nothing is held against anybody, and a real death is handled."""
        self.bench.api = True
        self.the_broker_comes_back()
        self.all_come_back()
        self.bench.run(120.0, 1.0)
        assert set(self.bench.states().values()) == {"alive"}
        assert not self.bench.judge.judgement(self.bench.now).freezes
        self.bench.kill("net1")
        self.bench.run(2 * TUNED.agent_down_time, 1.0)
        assert self.bench.evacuated() == {"net1"}


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize(
    ("bus_silent", "neutron_says_dead", "switch_heard", "probe", "state", "forwarding"),
    [
        # a probe makes nobody dead who is heard, by whomever
        (False, False, True, False, State.ALIVE, Forwarding.STOPPED),
        (False, False, True, None, State.ALIVE, Forwarding.MAY_FORWARD),
        (True, False, False, False, State.SUSPECT, Forwarding.STOPPED),
        (True, False, False, None, State.SUSPECT, Forwarding.NOT_KNOWN),
        # nor anybody alive whom neither the bus nor Neutron hears
        (True, True, False, True, State.DEAD, Forwarding.MAY_FORWARD),
        (True, True, False, None, State.DEAD, Forwarding.NOT_KNOWN),
        (True, True, False, False, State.DEAD, Forwarding.STOPPED),
        # that the host does not answer says less than that another agent of it is heard; that it is off says more
        (True, True, True, None, State.DEAD, Forwarding.MAY_FORWARD),
        (True, True, True, False, State.DEAD, Forwarding.STOPPED),
    ],
)
def test_what_the_witnesses_make_of_each_other(
    bus_silent: bool, neutron_says_dead: bool, switch_heard: bool, probe: bool | None, state: State, forwarding: Forwarding
) -> None:
    bench = Bench()
    bench.run(3 * bench.policy.agent_down_time)
    if bus_silent:
        bench.kill("net2", L3, DHCP, *(() if switch_heard else (OVS,)))
    for _second in range(round(2 * bench.policy.agent_down_time)):
        if bus_silent and not neutron_says_dead:
            bench.processed.update(dict.fromkeys(bench.agents, WALL + bench.now))
        bench.judge.probed("net2", up=probe, detail="the probe", now=bench.now)
        bench.run(1.0)
    assert (bench.verdict("net2").state, bench.verdict("net2").forwarding) == (state, forwarding)


def test_hosts_in_doubt_are_worth_a_probe_and_not_again_at_once() -> None:
    bench = Bench()
    bench.run(3 * bench.policy.agent_down_time)
    assert bench.judge.to_probe(bench.now) == []
    bench.kill("net2")
    bench.run(bench.policy.agent_down_time)
    assert bench.judge.to_probe(bench.now) == ["net2"]
    bench.judge.probed("net2", up=None, detail="no answer", now=bench.now)
    assert bench.judge.to_probe(bench.now) == []
    bench.run(bench.policy.probe_fresh / 2 + 1)
    assert bench.judge.to_probe(bench.now) == ["net2"]


def test_no_answer_takes_no_proof_back() -> None:
    bench = Bench()
    bench.judge.probed("net2", up=False, detail="off", now=bench.now)
    bench.judge.probed("net2", up=None, detail="no answer", now=bench.now + 1)
    assert bench.judge.known_down("net2", bench.now + 1)
    bench.judge.probed("net2", up=True, detail="up", now=bench.now + 2)
    assert not bench.judge.known_down("net2", bench.now + 2)
