# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The 53 unit tests of oslo.messaging that drive a driver: they name `fake:`, and here another driver answers to that name.

Each test gets a namespace of its own, as each has a `fake:` of its own upstream. Twelve can't pass on any wire, by what they compare; they pass only
where objects are handed over inside of one process.
"""

from __future__ import annotations

import unittest
from collections.abc import Iterable
from typing import Any

from oslo_messaging import transport
from oslo_messaging._drivers import impl_fake
from stevedore.driver import DriverManager

MODULES = ("oslo_messaging.tests.rpc.test_server", "oslo_messaging.tests.notify.test_listener")
LISTENER = "oslo_messaging.tests.notify.test_listener.TestNotifyListener."
SERVER = "oslo_messaging.tests.rpc.test_server."
SAME_OBJECT = "compares the context that arrives with the object that was sent, which has no ==: on a wire it is another one"
EXACT_TEXT = "compares str() of the exception exactly, to which oslo.messaging's own deserialisation adds the remote traceback"
DRIVING = (
    SERVER + "TestMultipleServers.test_multiple_servers",
    *(SERVER + f"TestRPCServer.test_{name}" for name in ("call", "cast", "client_call_timeout", "context", "direct_call")),
)
UNREACHABLE = {
    **{
        LISTENER + f"test_{name}": SAME_OBJECT
        for name in (
            "batch_size",
            "batch_size_exception_path",
            "batch_timeout",
            "one_topic",
            "requeue",
            "two_endpoints",
            "two_exchanges",
            "two_pools",
            "two_pools_three_listener",
            "two_topics",
        )
    },
    SERVER + "TestRPCServer.test_failure": EXACT_TEXT,
    SERVER + "TestRPCServer.test_expected_failure": EXACT_TEXT,
}
"""Why each test that fails does."""

_namespaces = {"now": "none"}


def swap_driver(url: str) -> None:
    """Let the driver of `url` answer where a test asks for `fake:`."""
    fake = impl_fake.FakeDriver

    def made(conf: Any, asked: Any, default_exchange: str | None = None, allowed_remote_exmods: Iterable[str] | None = None) -> Any:
        if asked.transport != "fake":
            return fake(conf, asked, default_exchange, allowed_remote_exmods)
        real = transport.TransportURL.parse(conf, url)
        real.virtual_host = _namespaces["now"]
        driver = DriverManager("oslo.messaging.drivers", real.transport).driver
        return driver(conf, real, default_exchange=default_exchange, allowed_remote_exmods=allowed_remote_exmods)

    impl_fake.FakeDriver = made


def is_generic(test: unittest.TestCase) -> bool:
    """Tell whether a test of `MODULES` drives a driver."""
    name = test.id().partition("(")[0]
    return name in DRIVING or name in UNREACHABLE


def use_namespace_of(test: unittest.TestCase) -> None:
    """Keep the transports of a test to themselves."""
    _namespaces["now"] = test.id().rpartition(".")[2]
