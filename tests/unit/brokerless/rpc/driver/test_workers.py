# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter

import pytest
from brokerless.rpc.driver.workers import worker_of
from brokerless.rpc.topics import Address


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_a_topic_is_with_one_worker_however_it_is_addressed(workers: int) -> None:
    ways = [Address("compute"), Address("compute", server="c1"), Address("compute", server="c2"), Address("compute", fanout=True)]
    assert len({worker_of(address, workers) for address in ways}) == 1


def test_topics_are_spread_and_every_process_agrees() -> None:
    spread = Counter(worker_of(Address(f"topic-{number}"), 4) for number in range(400))
    assert sorted(spread) == [0, 1, 2, 3]
    assert min(spread.values()) > 60
    # all hosts must agree, so this may never change
    assert [worker_of(Address(topic), 4) for topic in ("compute", "scheduler", "network")] == [3, 2, 0]
    assert worker_of(Address("compute"), 64) != worker_of(Address("compute", exchange="nova"), 64)
