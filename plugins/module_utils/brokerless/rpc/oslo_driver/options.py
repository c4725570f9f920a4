# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The options of the driver, in group [oslo_messaging_zmq]. They are those of the runtime's table that concern a service's process."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...soft_import import soft_import
from ..options import options
from ..topics import check_host

if TYPE_CHECKING:
    from oslo_config import cfg
else:
    cfg = soft_import("oslo_config.cfg", "oslo.config")

GROUP = "oslo_messaging_zmq"
CAST_SECONDS = 300.0
"""How long a cast waits by default, as in oslo.messaging's own driver of 2017 (rpc_message_ttl): a service may take minutes to be restarted."""


@dataclass(frozen=True, slots=True)
class DriverSettings:
    """What the driver goes by; each field is the option of that name, read when the transport is made. Times are in seconds."""

    rpc_zmq_ipc_dir: str
    rpc_zmq_host: str
    rpc_zmq_receiver_workers: int
    rpc_zmq_topic_backlog: int
    rpc_zmq_max_outstanding: int
    rpc_zmq_max_message_size: int
    rpc_zmq_heartbeat_interval: float
    rpc_thread_pool_size: int
    rpc_cast_timeout: float
    rpc_notification_timeout: float


@functools.cache
def driver_options() -> list[cfg.Opt]:
    """Return the options of group [oslo_messaging_zmq], the same objects each time."""
    names = [field.name for field in dataclasses.fields(DriverSettings)]
    table = [option for option in options() if option.dest in names]
    cfg.set_defaults(table, rpc_cast_timeout=CAST_SECONDS)
    return table


def set_defaults(**defaults: object) -> None:
    """Let a program that brings its own receiver, or tests, say what holds where nobody configures anything: before transports are made."""
    cfg.set_defaults(driver_options(), **defaults)


def list_options() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options by group, as oslo-config-generator asks for them through the entry point `oslo.config.opts`."""
    return [(GROUP, driver_options())]


def settings_of(group: Any) -> DriverSettings:
    """Read the settings from the options' group. Raises a `TopicError` for what can't be a host's name, and oslo.config's `ValueError`s."""
    settings = DriverSettings(**{field.name: getattr(group, field.name) for field in dataclasses.fields(DriverSettings)})
    check_host(settings.rpc_zmq_host)
    return settings
