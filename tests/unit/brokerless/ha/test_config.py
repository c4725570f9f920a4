# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The configuration file: what the seed understood, what is new, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from brokerless.ha.config import ConfigError, Settings, read_settings
from brokerless.ha.policy import Fencing

SEED = (Path(__file__).parents[3] / "rpcdaemon_2013.conf").read_text(encoding="utf-8")


def settings(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "rpcdaemon.conf"
    path.write_text(text, encoding="utf-8")
    return read_settings(str(path))


def test_the_seeds_file_means_what_it_meant(tmp_path: Path) -> None:
    found = settings(tmp_path, SEED)
    assert found.daemon.plugins == ("L3Agent", "DHCPAgent")
    assert (found.daemon.rpchost, found.daemon.check_interval) == ("127.0.0.1", 1.0)
    assert found.l3_agent is not None
    assert found.dhcp_agent is not None
    assert (found.l3_agent.conffile, found.l3_agent.timeout, found.dhcp_agent.queue_expire) == ("/etc/neutron/neutron.conf", 20.0, 60.0)
    assert found.dump is None, "the plugin is not among those to load"


def test_what_is_not_gone_by_is_named(tmp_path: Path) -> None:
    assert settings(tmp_path, SEED).left_aside() == ["section [Dump] is not used: plugins does not load Dump"]
    other = "plugins = L3Agent DHCPAgent Dump\n[Dump]\nqueue = nova\n[DHCPAgent]\nconffile = /etc/other.conf\nqueue_expire = 5\n"
    assert settings(tmp_path, f"[Daemon]\n{other}").left_aside() == [
        "conffile of [DHCPAgent], /etc/other.conf, is not used: both plugins go by that of [L3Agent], ",
        "queue_expire of [DHCPAgent], 5.0, is not used: both plugins go by that of [L3Agent], 60.0",
        "queue of [Dump], nova, is not used: the exchange that the other plugins listen to is, neutron",
    ]
    assert settings(tmp_path, "[Daemon]\nplugins = Dump\n[Dump]\nqueue = nova\n").left_aside() == []


def test_a_pause_that_would_look_like_a_standstill_is_refused(tmp_path: Path) -> None:
    found = settings(tmp_path, "[Daemon]\nplugins = L3Agent\n")
    assert found.policy(10.0, 3.0).tick_gap == 3.0
    with pytest.raises(ConfigError, match="check_interval is 1 s, but must be less than tick_gap"):
        found.policy(3.0, 1.0)


@pytest.mark.parametrize(("bus", "taps"), [("rabbit", False), ("tap", True), ("tap:/etc/x.conf", True)])
def test_where_it_listens_can_be_chosen(tmp_path: Path, bus: str, taps: bool) -> None:
    assert settings(tmp_path, f"[Daemon]\nplugins = L3Agent\nbus = {bus}\n").daemon.taps is taps


@pytest.mark.parametrize("bus", ["zmq", "tap:", "tap:x.conf", ""])
def test_where_it_can_not_listen_is_refused(tmp_path: Path, bus: str) -> None:
    with pytest.raises(ConfigError, match=r"section \[Daemon\]: bus is "):
        settings(tmp_path, f"[Daemon]\nplugins = L3Agent\nbus = {bus}\n")


def test_the_section_of_defaults_holds_for_all_sections(tmp_path: Path) -> None:
    found = settings(tmp_path, "[DEFAULT]\nloglevel = ERROR\nconffile = /etc/n.conf\n[Daemon]\nplugins = l3agent,dump\n")
    assert found.daemon.loglevel == "ERROR"
    assert found.l3_agent is not None
    assert found.dump is not None
    assert (found.l3_agent.conffile, found.dump.loglevel) == ("/etc/n.conf", "ERROR")


def test_thresholds_follow_from_neutrons_intervals_unless_they_are_chosen(tmp_path: Path) -> None:
    found = settings(tmp_path, "[Daemon]\nplugins = L3Agent\n[Policy]\nhold_off = 3\nfencing = require\nfencing_by_host = net1:none, net2:try\n")
    policy = found.policy(10.0, 3.0)
    assert (policy.agent_down_time, policy.hold_off, policy.return_after) == (10.0, 3.0, 6.0)
    assert policy.fencing is Fencing.REQUIRE
    assert policy.fencing_by_host == {"net1": Fencing.NONE, "net2": Fencing.TRY}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no section [Daemon]"),
        ("[Daemon]\n", "section [Daemon]: plugins is empty; there are L3Agent, DHCPAgent, Dump"),
        ("[Daemon]\nplugins = L3Agent\nplugin = Dump\n", "section [Daemon]: unknown key 'plugin'; there are after_move, "),
        ("[Daemon]\nplugins = L3Agent\n[L3agent]\n", "unknown section [L3agent]; there are DHCPAgent, Daemon, Dump, L3Agent, Policy"),
        ("[Daemon]\nplugins = L3Agent\ncheck_interval = often\n", "check_interval is 'often': it must be a number"),
        ("[Daemon]\nplugins = L3Agent\ncheck_interval = 0\n", "section [Daemon]: check_interval is 0; it must be more than 0"),
        ("[Daemon]\nplugins = L3Agent\nloglevel = LOUD\n", "loglevel is 'LOUD'; it may be DEBUG, INFO"),
        ("[Daemon]\nplugins = L3Agent\nleader = tooz\n", "leader is tooz, and coordination_url is not set"),
        ("[Daemon]\nplugins = L3Agent\n[L3Agent]\ntimeout = -1\n", "section [L3Agent]: timeout is -1; it must be more than 0"),
        ("[Daemon]\nplugins = L3Agent\n[Policy]\nfencing = maybe\n", "fencing is 'maybe': it may be none, try, require"),
        ("[Daemon]\nplugins = L3Agent\n[Policy]\nadopt_orphans = perhaps\n", "adopt_orphans is 'perhaps': it must be true or false"),
        ("plugins = L3Agent\n", "File contains no section headers"),
        ("[Daemon]\nplugins = L3Agent\nplugins = Dump\n", "option 'plugins' in section 'Daemon' already exists"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        settings(tmp_path, text)
    assert words in str(error.value)
    assert "rpcdaemon.conf" in str(error.value)
    assert "\n" not in str(error.value)


def test_thresholds_that_can_not_be_are_named_with_the_file(tmp_path: Path) -> None:
    found = settings(tmp_path, "[Daemon]\nplugins = L3Agent\n[Policy]\noverdue_after = 100\n")
    with pytest.raises(ConfigError, match=r"rpcdaemon.conf, section \[Policy\]: overdue_after"):
        found.policy(75.0, 30.0)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"configuration file .*rpcdaemon.conf: .*No such file"):
        read_settings(str(tmp_path / "rpcdaemon.conf"))
