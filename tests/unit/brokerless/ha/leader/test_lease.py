# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What a lease allows, and until when."""

from __future__ import annotations

import pytest
from brokerless.ha.leader.lease import Lease

WALL = 1_000_000.0


@pytest.fixture
def lease() -> Lease:
    """A lease of ten seconds, begun at 0 and confirmed at 10."""
    lease = Lease(10.0)
    lease.begin(0.0, WALL, 5, 0.0, WALL)
    for second in range(1, 11):
        lease.confirm(float(second), WALL + second, float(second), WALL + second)
    return lease


def test_nothing_is_held_at_first() -> None:
    lease = Lease()
    assert lease.term is None
    assert lease.lost == "no leader has been agreed on yet"
    assert not lease.is_leader(0, WALL)
    assert not lease.may_write(0, WALL, 0)


def test_a_new_leader_waits_for_a_whole_lease() -> None:
    lease = Lease(10.0)
    lease.begin(0.0, WALL, 5, 1.0, WALL + 1)
    assert lease.is_leader(1.0, WALL + 1)
    for second in range(1, 12):
        lease.confirm(second, WALL + second, second, WALL + second)
        assert lease.may_write(second, WALL + second, 1.0) is (second >= 11)


def test_it_need_not_wait_for_one_that_resigned() -> None:
    lease = Lease(10.0)
    lease.begin(0.0, WALL, 5, 0.0, WALL)
    lease.write_from(0.5)
    assert lease.may_write(0.5, WALL + 0.5, 1.0)


def test_writing_stops_at_half_the_lease_and_earlier_for_long_calls(lease: Lease) -> None:
    assert lease.may_write(15.0, WALL + 15, 5.0)
    assert not lease.may_write(15.0, WALL + 15, 5.1)
    assert not lease.may_write(15.1, WALL + 15.1, 0.0)
    assert lease.may_write(11.0, WALL + 11, 9.0)
    assert not lease.may_write(11.0, WALL + 11, 9.1)
    assert lease.is_leader(20.0, WALL + 20)
    assert not lease.is_leader(20.1, WALL + 20.1)


def test_a_machine_that_slept_counts_by_the_wall_clock(lease: Lease) -> None:
    assert not lease.may_write(10.1, WALL + 600, 1.0)
    assert not lease.is_leader(10.1, WALL + 600)
    assert lease.may_write(10.1, WALL - 600, 1.0), "a clock that is set back takes nothing away and gives nothing"
    assert not lease.may_write(15.1, WALL - 600, 1.0)


def test_what_ran_out_is_not_revived(lease: Lease) -> None:
    lease.confirm(20.5, WALL + 20.5, 20.5, WALL + 20.5)
    assert lease.term is None
    assert lease.lost.endswith("ended: it was not confirmed for 10.5 s, and the lease is 10 s")
    assert not lease.is_leader(20.5, WALL + 20.5)


def test_a_plan_of_another_term_is_not_written(lease: Lease) -> None:
    term = lease.term
    assert term is not None
    assert lease.may_write(10.0, WALL + 10, 1.0, term)
    assert not lease.may_write(10.0, WALL + 10, 1.0, term - 1)


def test_an_older_confirmation_changes_nothing(lease: Lease) -> None:
    lease.confirm(3.0, WALL + 3, 10.0, WALL + 10)
    assert lease.may_write(15.0, WALL + 15, 1.0)


def test_terms_rise_whatever_the_clock_says() -> None:
    lease = Lease(10.0)
    first = lease.begin(0.0, WALL, 0, 0.0, WALL)
    lease.lose("cut")
    assert lease.lost == f"term {first} ended: cut"
    second = lease.begin(1.0, WALL - 5000, 0, 1.0, WALL - 5000)
    third = lease.begin(1.0, WALL, 7_000_000, 1.0, WALL)
    assert first < second < third
    assert third == 7_000_001


def test_losing_nothing_keeps_the_reason() -> None:
    lease = Lease(10.0)
    lease.begin(0.0, WALL, 0, 0.0, WALL)
    lease.lose("first")
    lease.lose("second")
    lease.write_from(3.0)
    assert lease.lost.endswith("first")
