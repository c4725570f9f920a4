# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace

from brokerless.ha.mass_failure import MassFailureGuard, Member, Scope
from brokerless.ha.policy import PolicySettings
from brokerless.ha.snapshot import DHCP, L3, AgentKey
from hypothesis import given
from hypothesis import strategies as st

POLICY = PolicySettings()


def member(host: str, since: float | None = None, *, dead: bool | None = None, zone: str = "nova", kind: str = L3, proven: bool = False) -> Member:
    return Member(AgentKey(kind, host), zone, since, (since is not None) if dead is None else dead, proven)


def guard(policy: PolicySettings = POLICY) -> MassFailureGuard:
    return MassFailureGuard(policy, [L3, DHCP])


def frozen(members: list[Member], policy: PolicySettings = POLICY) -> list[str]:
    it = guard(policy)
    it.update(members, 1000.0)
    return [str(freeze.scope) for freeze in it.freezes]


def alive(number: int, zone: str = "nova") -> list[Member]:
    return [member(f"alive-{zone}-{each}", zone=zone) for each in range(number)]


def test_one_may_always_die() -> None:
    assert not frozen([member("a", 900.0)])
    assert not frozen([member("a", 900.0), member("b")])


def test_a_third_may_die_at_once_and_no_more() -> None:
    assert not frozen([member("a", 900.0), *alive(2)])
    assert frozen([member("a", 900.0), member("b", 930.0), *alive(1)]) == ["L3 agents", "L3 agents in zone nova", "hosts"]
    assert not frozen([*(member(f"d{each}", 900.0) for each in range(3)), *alive(6)])


def test_apart_in_time_they_are_not_at_once() -> None:
    assert not frozen([member("a", 900.0), member("b", 900.0 + POLICY.mass_failure_window + 1), *alive(1)])


def test_late_reports_count_beside_a_death_but_are_none() -> None:
    assert frozen([member("a", 900.0), member("b", 930.0, dead=False), *alive(1)])
    assert not frozen([member("a", 900.0, dead=False), member("b", 930.0, dead=False), *alive(1)])


def test_a_number_is_a_limit_too() -> None:
    many = [*(member(f"d{each}", 900.0) for each in range(11)), *alive(89)]
    assert frozen(many) == ["L3 agents", "L3 agents in zone nova"]
    assert not frozen(many, replace(POLICY, mass_failure_number=11))


def test_a_zone_is_frozen_alone() -> None:
    members = [member("a", 900.0, zone="az1"), member("b", 901.0, zone="az1"), *alive(1, "az1"), *alive(6, "az2")]
    it = guard()
    it.update(members, 1000.0)
    assert [str(freeze.scope) for freeze in it.freezes] == ["L3 agents in zone az1"]
    assert it.freeze_of(L3, "az1") is not None
    assert it.freeze_of(L3, "az2") is None
    assert it.freeze_of(DHCP, "az1") is None


def test_silent_hosts_of_other_agents_are_a_sign_too() -> None:
    compute = [member(f"c{each}", 905.0 if each < 5 else None, dead=False, kind="Open vSwitch agent") for each in range(10)]
    assert frozen([member("a", 900.0), *alive(4), *compute]) == ["hosts"]
    assert not frozen([*alive(4), *compute])


def test_a_host_of_which_one_agent_is_heard_is_not_silent() -> None:
    hosts = [member(f"h{each}", 900.0 if each == 0 else None, kind=kind) for each in range(2) for kind in (L3, DHCP)]
    both = [*hosts, member("h1", 901.0, kind="Metadata agent", dead=False)]
    assert not frozen(both)


def test_too_few_survivors_freeze_however_slowly_they_died() -> None:
    slowly = [member(f"d{each}", 1000.0 * each) for each in range(4)]
    assert frozen([*slowly, *alive(1)]) == ["L3 agents"]
    assert not frozen([*slowly[:3], *alive(1)])
    assert not frozen([*(replace(each, proven=True) for each in slowly), *alive(1)])


def test_it_lets_go_when_for_long_enough_no_limit_was_exceeded() -> None:
    it = guard()
    two = [member("a", 900.0), member("b", 901.0), *alive(1)]
    it.update(two, 1000.0)
    one = [member("a"), member("b", 901.0), *alive(1)]
    it.update(one, 1010.0)
    it.update(one, 1010.0 + POLICY.guard_release_after - 1)
    assert it.freezes
    it.update(two, 1010.0 + POLICY.guard_release_after)
    it.update(one, 1010.0 + POLICY.guard_release_after + 1)
    assert it.freezes
    assert it.freezes[0].since == 1000.0
    it.update(one, 1010.0 + 2 * POLICY.guard_release_after + 1)
    assert not it.freezes


def test_it_holds_while_they_are_silent_also_if_none_counts_as_dead_for_now() -> None:
    it = guard()
    it.update([member("a", 900.0), member("b", 901.0), *alive(1)], 1000.0)
    for now in range(1001, 1500):
        it.update([member("a", 900.0, dead=False), member("b", 901.0, dead=False), *alive(1)], float(now))
    assert it.freezes


def test_the_operator_lets_go_of_those_that_are_silent_until_they_were_heard() -> None:
    it = guard()
    two = [member("a", 900.0), member("b", 901.0), *alive(1)]
    it.update(two, 1000.0)
    assert [key.host for key in it.release(two)] == ["a", "b"]
    it.update(two, 1001.0)
    assert not it.freezes
    it.update([member("a"), member("b", 901.0), *alive(1)], 1002.0)
    it.update([member("a", 2000.0), member("b", 901.0), *alive(1)], 2100.0)
    assert not it.freezes
    it.update([member("a"), member("b"), *alive(1)], 2200.0)
    it.update([member("a", 3000.0), member("b", 3001.0), *alive(1)], 3100.0)
    assert it.freezes


def test_a_freeze_says_what_and_why() -> None:
    it = guard()
    it.update([member("a", 900.0), member("b", 901.0), *alive(1)], 1000.0)
    said = json.loads(json.dumps([freeze.to_json(1060.0) for freeze in it.freezes]))
    assert said[0]["scope"] == "L3 agents"
    assert said[0]["for_seconds"] == 60.0
    assert said[0]["reason"] == (
        "2 of 3 L3 agents fell silent within 60 s (a, b), at most 1 may: the bus, Neutron's server or a switch is likelier to be broken than all of "
        "them"
    )
    assert said[0]["silent"] == [{"agent_type": L3, "host": "a"}, {"agent_type": L3, "host": "b"}]
    assert str(Scope("")) == "hosts"


@given(st.lists(st.none() | st.floats(0.0, 500.0), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_what_is_not_frozen_is_within_the_limits_in_any_order(since: list[float | None], order: object) -> None:
    members = [member(f"h{number}", each) for number, each in enumerate(since)]
    shuffled = list(members)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert frozen(members) == frozen(shuffled)
    silent = sorted(each for each in since if each is not None)
    most = max((sum(first <= each <= first + POLICY.mass_failure_window for each in silent) for first in silent), default=0)
    allowed = max(1, int(POLICY.mass_failure_share * len(members)))
    too_few = len(silent) > 1 and len(members) - len(silent) < POLICY.survivors_share * len(members)
    assert bool(frozen(members)) is (most > allowed or too_few)
