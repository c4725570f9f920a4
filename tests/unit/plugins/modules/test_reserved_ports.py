# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brokerless.openstack.plugins.modules import reserved_ports
from ansible_collections.brokerless.openstack.plugins.modules.reserved_ports import PortsError, main, parse_ports, setting_in, show_ports


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's list, a file here; those of sysctl lie in the folder sysctl.d beside it."""
    (tmp_path / "sysctl.d").mkdir()
    (tmp_path / "kernel").write_text("\n")
    monkeypatch.setattr(reserved_ports, "KERNEL", tmp_path / "kernel")
    monkeypatch.setattr(reserved_ports, "FOLDERS", (tmp_path / "sysctl.d",))
    monkeypatch.setattr(reserved_ports, "EXTRA_FILE", tmp_path / "sysctl.conf")
    return tmp_path / "kernel"


@pytest.fixture
def reserve(run_module: Any, kernel: Path) -> Any:
    """A function that reserves ports, first in check mode, which must foretell all of it, and returns the result."""

    def run(**arguments: Any) -> dict[str, Any]:
        given = {"path": str(kernel.parent / "sysctl.d" / "99-ours.conf"), **arguments}
        before = {path: path.read_bytes() for path in kernel.parent.rglob("*") if path.is_file()}
        foretold = run_module(main, check=True, **given)
        assert {path: path.read_bytes() for path in kernel.parent.rglob("*") if path.is_file()} == before
        happened: dict[str, Any] = run_module(main, **given)
        assert {**foretold, "invocation": None} == {**happened, "invocation": None}
        return happened

    return run


@pytest.mark.parametrize(
    ("text", "shown"), [("", ""), ("53", "53"), ("9500-9550", "9500-9550"), ("9501, 9500,53 ,9502-9503", "53,9500-9503"), ("65535,1", "1,65535")]
)
def test_ports_are_read_and_shown_in_the_fewest_words(text: str, shown: str) -> None:
    assert show_ports(parse_ports(text)) == shown


@pytest.mark.parametrize("text", ["0", "65536", "9-8", "http", "1-2-3", "-5", "999999"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(PortsError, match="is no port"):
        parse_ports(text)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("net.ipv4.ip_local_reserved_ports=7\n", "7"),
        ("-net/ipv4/ip_local_reserved_ports = 7,8\n", "7-8"),
        ("net.ipv4.ip_local_reserved_ports = 7\nnet.ipv4.ip_local_reserved_ports = 9\n", "9"),
        ("# net.ipv4.ip_local_reserved_ports = 7\nnet.ipv4.ip_forward = 1\n", ""),
        ("net.ipv4.ip_local_reserved_ports = what\n", ""),
    ],
)
def test_a_file_for_sysctl_is_read_as_the_system_reads_it(text: str, ports: str) -> None:
    assert show_ports(setting_in(text)) == ports


def test_ports_are_reserved_now_and_at_each_boot(reserve: Any, kernel: Path) -> None:
    result = reserve(ports="9500-9550")
    assert (result["changed"], result["reserved"], result["others"]) == (True, "9500-9550", "")
    file = kernel.parent / "sysctl.d" / "99-ours.conf"
    assert file.read_text().splitlines()[-1] == "net.ipv4.ip_local_reserved_ports = 9500-9550"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert kernel.read_text() == "9500-9550\n"
    assert reserve(ports="9500-9550")["changed"] is False


def test_what_others_reserved_stays(reserve: Any, kernel: Path) -> None:
    (kernel.parent / "sysctl.d" / "10-theirs.conf").write_text("net.ipv4.ip_local_reserved_ports = 8080,9550-9551\n")
    kernel.write_text("7000,8080,9550-9551\n")
    result = reserve(ports="9500-9550")
    assert (result["reserved"], result["others"]) == ("7000,8080,9500-9551", "8080,9550-9551")
    boot = (kernel.parent / "sysctl.d" / "99-ours.conf").read_text().splitlines()[-1]
    assert boot == "net.ipv4.ip_local_reserved_ports = 8080,9500-9551", "what they reserved until the next boot only is not kept longer"
    assert reserve(ports="9500-9550")["changed"] is False


def test_another_range_gives_the_old_one_free_and_absence_all_of_it(reserve: Any, kernel: Path) -> None:
    (kernel.parent / "sysctl.d" / "10-theirs.conf").write_text("net.ipv4.ip_local_reserved_ports = 9550\n")
    reserve(ports="9500-9550")
    assert reserve(ports="9600-9610")["reserved"] == "9550,9600-9610"
    assert kernel.read_text() == "9550,9600-9610\n"
    assert reserve(state="absent")["reserved"] == "9550"
    assert not (kernel.parent / "sysctl.d" / "99-ours.conf").exists()
    assert reserve(state="absent")["changed"] is False


def test_what_was_lost_at_run_time_is_reserved_again(reserve: Any, kernel: Path) -> None:
    reserve(ports="9500")
    kernel.write_text("\n")
    assert reserve(ports="9500")["changed"] is True
    assert kernel.read_text() == "9500\n"


def test_no_ports_and_wrong_ports_are_refused(run_module: Any, kernel: Path) -> None:
    assert "names no port" in run_module(main, ports=" ")["msg"]
    assert "'x' is no port" in run_module(main, ports="1,x")["msg"]
    assert run_module(main)["failed"]
