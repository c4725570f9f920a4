# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from brokerless.ha.policy import Fencing, PolicyError, PolicySettings
from hypothesis import given
from hypothesis import strategies as st


def test_the_defaults_are_those_of_neutrons_intervals() -> None:
    assert PolicySettings() == PolicySettings.for_intervals(75, 30)
    assert PolicySettings().acts_after == 90
    assert PolicySettings.for_intervals(10, 3).acts_after == 12


@given(st.integers(1, 1000), st.integers(2, 10))
def test_by_default_we_act_no_later_than_neutron_and_the_guard_sees_all_in_time(report: int, times: int) -> None:
    policy = PolicySettings.for_intervals(times * report, report)
    assert policy.acts_after <= 2 * policy.agent_down_time
    assert policy.unheard_after + policy.hold_off <= 2 * policy.agent_down_time
    late = policy.acts_after - report < policy.overdue_after
    assert bool(policy.warnings()) is late
    assert not late or times == 2


def test_what_is_chosen_is_not_derived() -> None:
    policy = PolicySettings.for_intervals(10, 3, hold_off=9.0, fencing=Fencing.TRY, fencing_by_host={"net1": Fencing.NONE})
    assert policy.hold_off == 9.0
    assert (policy.fencing_of("net1"), policy.fencing_of("net2")) == (Fencing.NONE, Fencing.TRY)
    assert policy.warnings() == [
        "an agent is dead up to 24 s after its last heartbeat: later than Neutron's own failover, which acts from 20 s on",
    ]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"hold_off": -1.0}, "hold_off is -1.0, but must be at least 0"),
        ({"hold_off": float("nan")}, "hold_off is nan, but must be at least 0"),
        ({"mass_failure_share": 1.5}, "mass_failure_share is 1.5, but must be at least 0 and at most 1"),
        ({"drain_in_flight": 0}, "drain_in_flight is 0, but must be at least 1"),
        (
            {"agent_down_time": 50.0},
            "agent_down_time is 50 s, but must be at least twice report_interval (30 s): one late report would be a death",
        ),
        (
            {"overdue_after": 80.0},
            "overdue_after (80 s) must be less than agent_down_time (75 s), and unheard_after (112.5 s) at least as much",
        ),
    ],
)
def test_what_is_not_acceptable_is_named(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        PolicySettings(**chosen)
    assert str(caught.value) == message


def test_every_setting_says_what_it_means() -> None:
    for option in fields(PolicySettings):
        assert option.metadata["help"].endswith((".", ")."))
        assert set(option.metadata) == {"help", "unit", "at_least", "at_most"}
