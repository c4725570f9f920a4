# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""How `rpcdaemon` is started by tests."""

from __future__ import annotations

import sys

from receiver_process import runtime_environment

RPCDAEMON = (sys.executable, "-c", "from brokerless.cmd.rpcdaemon import main; raise SystemExit(main())")


def environment() -> dict[str, str]:
    """Return the environment for it: the runtime of the tests, and no credentials of whoever runs them."""
    return {name: value for name, value in runtime_environment().items() if not name.startswith("OS_")}
