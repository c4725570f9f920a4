# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ipaddress
import socket

import pytest
from brokerless.rpc.receiver.bind_addresses import BindError, adapters_of_this_host, bind_endpoints, endpoint
from hypothesis import given
from hypothesis import strategies as st

ADAPTERS = {"lo": ["127.0.0.1", "::1"], "eth0": ["192.0.2.7", "2001:db8::7", "fe80::7%eth0"], "eth1": []}


@pytest.mark.parametrize(
    ("bind_address", "endpoints"),
    [
        ("*", ["tcp://*:9500"]),
        ("::", ["tcp://*:9500"]),
        ("0.0.0.0", ["tcp://0.0.0.0:9500"]),
        ("127.0.1.2", ["tcp://127.0.1.2:9500"]),
        ("::1", ["tcp://[::1]:9500"]),
        ("[::1]", ["tcp://[::1]:9500"]),
        ("2001:DB8:0::7", ["tcp://[2001:db8::7]:9500"]),
        ("fe80::7%eth0", ["tcp://[fe80::7%eth0]:9500"]),
        ("lo", ["tcp://127.0.0.1:9500", "tcp://[::1]:9500"]),
        ("eth0", ["tcp://192.0.2.7:9500", "tcp://[2001:db8::7]:9500", "tcp://[fe80::7%eth0]:9500"]),
    ],
)
def test_what_a_bind_address_means(bind_address: str, endpoints: list[str]) -> None:
    assert bind_endpoints(bind_address, 9500, ADAPTERS) == endpoints


@pytest.mark.parametrize("bind_address", ["eth9", "", "300.1.1.1", "127.0.0.1:9500", "control1", "LO", "[]", "::1::"])
def test_what_is_neither_address_nor_adapter_is_named_with_the_adapters_there_are(bind_address: str) -> None:
    with pytest.raises(BindError) as caught:
        bind_endpoints(bind_address, 9500, ADAPTERS)
    assert str(caught.value) == (
        f"rpc_zmq_bind_address {bind_address!r} is neither *, nor an address, nor a network adapter of this host (adapters: eth0, eth1, lo)"
    )


def test_a_host_without_adapters_is_said_to_have_none() -> None:
    with pytest.raises(BindError, match=r"\(adapters: none\)$"):
        bind_endpoints("eth0", 9500, {})


def test_an_adapter_without_an_address_is_named() -> None:
    with pytest.raises(BindError, match=r"^rpc_zmq_bind_address 'eth1': this network adapter has no address$"):
        bind_endpoints("eth1", 9500, ADAPTERS)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_an_endpoint_is_read_back_as_its_address_and_port(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
    host, _colon, number = endpoint(str(address), port).removeprefix("tcp://").rpartition(":")
    assert ipaddress.ip_address(host.strip("[]")) == address
    assert host.startswith("[") == (address.version == 6)
    assert int(number) == port


def test_all_adapters_of_this_host_are_found_also_those_without_an_address() -> None:
    assert {name for _index, name in socket.if_nameindex()} <= set(adapters_of_this_host())


def test_the_loopback_adapter_of_this_host_can_be_bound() -> None:
    adapters = adapters_of_this_host()
    assert "127.0.0.1" in adapters["lo"]
    assert "tcp://127.0.0.1:9500" in bind_endpoints("lo", 9500, adapters)


def test_addresses_of_this_host_are_numeric_and_link_local_ones_have_their_scope() -> None:
    for adapter, addresses in adapters_of_this_host().items():
        for text in addresses:
            address = ipaddress.ip_address(text)
            if isinstance(address, ipaddress.IPv6Address):
                assert address.scope_id == (adapter if address.is_link_local else None)
