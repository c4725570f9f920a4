# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.brokerless.openstack.plugins.modules.name_resolution_info import fault_of, main, nameservers


def test_names_are_resolved_as_programs_do(run_module: Any) -> None:
    result = run_module(main, names=["localhost", "127.0.5.1", "no-such-host.invalid", "a..b"], own_names=["localhost", "127.0.5.1"])
    assert result["changed"] is False
    assert "127.0.0.1" in result["addresses"]["localhost"]
    assert result["addresses"]["127.0.5.1"] == ["127.0.5.1"]
    assert result["addresses"]["no-such-host.invalid"] == []
    assert [fault.partition(":")[0] for fault in result["faults"]] == ["no-such-host.invalid", "a..b"]


@pytest.mark.parametrize(
    ("addresses", "is_own", "fault"),
    [
        (["192.168.2.1", "2001:db8::1"], False, ""),
        (["fe80::1%eth0"], False, ""),
        (["127.0.1.1"], True, ""),
        (["127.0.1.1"], False, "compute1: 127.0.1.1, which is this host itself"),
        (["::1", "192.168.2.1"], False, "compute1: ::1, which is this host itself"),
        ([], False, "compute1: Name or service not known"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(addresses: list[str], is_own: bool, fault: str) -> None:
    assert fault_of("compute1", addresses, "Name or service not known", is_own) == fault


def test_nameservers_are_those_of_the_file() -> None:
    assert nameservers("# x\nsearch lab\nnameserver 10.0.0.1\n nameserver\t2001:db8::53 \nnameserver\n") == ["10.0.0.1", "2001:db8::53"]
