# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The only replica."""

from __future__ import annotations

from brokerless.ha.leader.single import SingleLeader


def test_it_leads_from_start_to_close() -> None:
    leader = SingleLeader()
    assert not leader.is_leader(0.0)
    assert leader.lost
    leader.start()
    term = leader.term
    assert term is not None
    assert leader.is_leader(0.0)
    assert leader.may_write(0.0, 1e9, term)
    assert not leader.may_write(0.0, 0.0, term - 1)
    assert leader.lost == ""
    leader.close()
    assert not leader.may_write(0.0, 0.0)
    assert leader.term is None
