# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import oslo_messaging
import pytest
from brokerless.rpc.driver import connection
from brokerless.rpc.oslo_driver.driver import ZmqDriver
from brokerless.rpc.topics import TopicError
from oslo_config import cfg
from oslo_messaging import Target


def transport_of(url: str) -> oslo_messaging.Transport:
    conf = cfg.ConfigOpts()
    conf([])
    return oslo_messaging.get_rpc_transport(conf, url)


def test_oslo_messaging_finds_the_driver_by_its_scheme() -> None:
    for url in ("zmq://", "zmq:///cell1", "zmq+anything://"):
        assert isinstance(transport_of(url)._driver, ZmqDriver)


def test_to_make_a_transport_connects_nothing() -> None:
    before = dict(connection._connections)
    transport_of("zmq:///cell1").cleanup()
    assert connection._connections == before


def test_options_can_be_in_the_url() -> None:
    transport = transport_of("zmq:///?rpc_zmq_ipc_dir=/run/elsewhere&rpc_cast_timeout=5")
    assert transport.conf.oslo_messaging_zmq.rpc_cast_timeout == 5.0
    assert transport._driver._settings.rpc_zmq_ipc_dir == "/run/elsewhere"


def test_a_virtual_host_that_no_namespace_can_be_is_refused() -> None:
    with pytest.raises(TopicError, match="255"):
        transport_of("zmq:///" + "x" * 256)


def test_hosts_in_the_url_are_said_to_be_of_no_use(caplog: pytest.LogCaptureFixture) -> None:
    transport_of("zmq://user:secret@broker1:5672/")
    assert "are not used" in caplog.text
    assert "secret" not in caplog.text


def test_a_fanout_can_not_be_called(tmp_path: Path) -> None:
    driver = transport_of(f"zmq:///?rpc_zmq_ipc_dir={tmp_path}")._driver
    with pytest.raises(oslo_messaging.InvalidTarget, match="fanout"):
        driver.send(Target(topic="t", fanout=True), {}, {"method": "m"}, wait_for_reply=True, timeout=1)


def test_what_json_can_not_carry_is_refused_before_anything_is_sent() -> None:
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(ValueError, match=r"[Cc]ircular"):
        transport_of("zmq://")._driver.send(Target(topic="t"), {}, {"method": "m", "args": {"circle": circle}})


def test_require_features_refuses_nothing() -> None:
    transport_of("zmq://")._driver.require_features(requeue=True)
