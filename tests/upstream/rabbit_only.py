# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The two functional tests of oslo.messaging that it skips for any URL but RabbitMQ's: the same bodies, with a URL that says it begins like that."""

from __future__ import annotations

from oslo_messaging.tests.functional.test_functional import CallTestCase


class SaysRabbit(str):
    """A URL that claims to be of RabbitMQ where it is asked by its beginning, and is what it is where it is used."""

    __slots__ = ()

    def startswith(self, prefix: str | tuple[str, ...], *where: int) -> bool:
        """Return whether it begins so, or `prefix` is RabbitMQ's scheme."""
        return prefix == "rabbit://" or super().startswith(prefix, *where)


class RabbitOnlyTestCase(CallTestCase):
    """Those two."""

    def setUp(self) -> None:
        """Prepare as upstream, and then lie about the URL."""
        super().setUp()
        self.rpc_url = SaysRabbit(self.rpc_url)


def load_tests(loader: object, tests: object, pattern: object) -> object:
    """Return the two tests only; all others ran already."""
    import unittest

    return unittest.TestSuite(map(RabbitOnlyTestCase, ["test_mandatory_call", "test_monitor_long_call"]))
