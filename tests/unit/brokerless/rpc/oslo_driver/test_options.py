# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import pytest
from brokerless.rpc.oslo_driver.options import GROUP, DriverSettings, driver_options, list_options, settings_of
from brokerless.rpc.topics import TopicError
from oslo_config import cfg


def _group(**overrides: object) -> object:
    conf = cfg.ConfigOpts()
    conf.register_opts(driver_options(), group=GROUP)
    conf([])
    for name, value in overrides.items():
        conf.set_override(name, value, group=GROUP)
    return conf[GROUP]


def test_each_setting_is_an_option_of_the_group() -> None:
    assert {option.dest for option in driver_options()} == {field.name for field in dataclasses.fields(DriverSettings)}
    assert list_options() == [(GROUP, driver_options())]


def test_settings_are_what_is_configured() -> None:
    settings = settings_of(_group(rpc_zmq_ipc_dir="/run/x", rpc_zmq_host="machine1"))
    assert (settings.rpc_zmq_ipc_dir, settings.rpc_zmq_host, settings.rpc_cast_timeout) == ("/run/x", "machine1", 300.0)


def test_a_host_that_can_not_be_one_is_refused() -> None:
    with pytest.raises(TopicError, match="host"):
        settings_of(_group(rpc_zmq_host="two words"))
