# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from pathlib import Path

import pytest
from brokerless.ha.bus.base import Overheard
from brokerless.ha.config import ConfigError, read_settings
from brokerless.ha.plugins import Dump, load_plugins
from brokerless.ha.snapshot import DHCP, L3

REPORT = Overheard(0.0, "neutron", "q-reports-plugin", {"method": "report_state", "args": {"agent_state": {"agent_state": {"host": "net1"}}}})
OTHER = Overheard(0.0, "neutron", "q-plugin", {"method": "sync_routers", "args": {"host": "net2"}})


def told(caplog: pytest.LogCaptureFixture, expression: str, level: str = "DEBUG") -> list[str]:
    with caplog.at_level(logging.DEBUG):
        dump = Dump(expression, level)
        for event in (REPORT, OTHER):
            dump.overheard(event)
    return [record.getMessage().split(" ", 1)[0] for record in caplog.records]


@pytest.mark.parametrize(
    ("expression", "methods"),
    [
        ("", ["report_state", "sync_routers"]),
        ("method == 'report_state'", ["report_state"]),
        ("args.agent_state.agent_state.host == 'net1'", ["report_state"]),
        ("routing_key == 'q-plugin' && args.host == 'net2'", ["sync_routers"]),
        ("starts_with(args.host, 'net')", ["sync_routers"]),
        ("method == 'nothing'", []),
    ],
)
def test_messages_are_told_that_the_filter_lets_through(caplog: pytest.LogCaptureFixture, expression: str, methods: list[str]) -> None:
    assert told(caplog, expression) == methods


def test_nothing_is_told_above_the_level_debug(caplog: pytest.LogCaptureFixture) -> None:
    assert told(caplog, "", "INFO") == []


@pytest.mark.parametrize("expression", ["method ==", "__import__('os').system('true')", "open('/etc/passwd')["])
def test_a_filter_that_is_none_is_refused_and_nothing_runs(expression: str) -> None:
    with pytest.raises(ConfigError, match="is no JMESPath expression"):
        Dump(expression, "DEBUG")


def test_plugins_say_what_they_care_for_and_an_unknown_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rpcdaemon.conf"
    path.write_text("[Daemon]\nplugins = L3Agent DHCPAgent Dump\n", encoding="utf-8")
    plugins = load_plugins(read_settings(str(path)))
    assert [plugin.manages for plugin in plugins] == [{L3}, {DHCP}, set()]
    path.write_text("[Daemon]\nplugins = L3Agent Weather\n[Weather]\nwhere = here\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"there is no plugin 'Weather'; there are L3Agent, DHCPAgent, Dump"):
        load_plugins(read_settings(str(path)))
