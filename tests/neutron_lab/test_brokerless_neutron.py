# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Neutron as it is, on `zmq://` and on `rabbit://`: the same story happens to the cloud."""

from __future__ import annotations

import functools

import pytest
from brokerless_lab import BrokerlessLab
from cloud_story import HOSTS, CloudStory
from lab import Lab
from neutron_services import LabSettings

SETTINGS = LabSettings(agent_down_time=10, report_interval=2.0, rpc_workers=2)

pytestmark = pytest.mark.timeout(900)


@functools.cache
def told_with_rabbitmq() -> list[str]:
    with Lab(SETTINGS) as lab:
        return CloudStory(lab).tell()


@functools.cache
def told_without_a_broker() -> list[str]:
    with BrokerlessLab(HOSTS, SETTINGS) as lab:
        assert not hasattr(lab, "rabbitmq")
        return CloudStory(lab).tell()


def test_with_rabbitmq() -> None:
    assert len(told_with_rabbitmq()) > 15


def test_the_same_happens_without_a_broker() -> None:
    assert told_without_a_broker() == told_with_rabbitmq()
