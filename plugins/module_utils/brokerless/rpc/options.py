# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The options, in one table, and how a configuration file is read. Names are the deployment guide's; those of Redis have a group of their own."""

from __future__ import annotations

import math
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..soft_import import soft_import
from ..version import VERSION
from .protocol import MAX_TTL
from .topics import TopicError, check_host

if TYPE_CHECKING:
    from oslo_config import cfg
else:
    cfg = soft_import("oslo_config.cfg", "oslo.config")

DEFAULT_CONFIG_FILE = "/etc/brokerless/brokerless.conf"
REDIS_GROUP = "matchmaker_redis"
PORT_COUNT = 51
"""How many ports are reserved by default from `rpc_zmq_start_port` on: 9500 to 9550."""


class OptionError(ValueError):
    """A configuration file can't be read or an option in it is not acceptable; the message names the file or the option and the fault."""


def options() -> list[cfg.Opt]:
    """Return the table of options, for `register_opts` and for oslo-config-generator."""
    return [
        cfg.StrOpt(
            "rpc_backend",
            default="brokerless.rpc.impl_zmq",
            help="The module that Nova-style services import for RPC.",
        ),
        cfg.StrOpt(
            "rpc_zmq_bind_address",
            default="*",
            help="Where the receiver listens: * for all addresses (IPv4 and IPv6), one IPv4 or IPv6 address, or the name of a network adapter, "
            "which means all addresses that it has.",
        ),
        cfg.PortOpt(
            "rpc_zmq_start_port",
            min=1,
            default=9500,
            help="The first TCP port of the reserved range; worker N of the receiver listens on this port + N. All hosts must agree on it.",
        ),
        cfg.IntOpt(
            "rpc_zmq_port_count",
            min=1,
            max=65535,
            default=PORT_COUNT,
            help="How many ports are reserved from rpc_zmq_start_port on. No port outside the range is ever bound.",
        ),
        cfg.IntOpt(
            "rpc_zmq_receiver_workers",
            min=1,
            max=32,
            default=1,
            help="How many processes share the work of the receiver, for hosts where one core is not enough. A topic is always with the same one, "
            "so all hosts and services must agree on the number.",
        ),
        cfg.StrOpt(
            "rpc_zmq_matchmaker",
            default="localhost",
            help="The MatchMaker, which decides which hosts a topic means: a short name (localhost, stub, ring, fanout-ring, mesh, broker, "
            "scheduler, redis), the class name of the deployment guide (MatchMakerRing), or package.module.Class for one of your own.",
        ),
        cfg.StrOpt(
            "rpc_zmq_matchmaker_ringfile",
            default="/etc/nova/matchmaker_ring.json",
            deprecated_opts=[cfg.DeprecatedOpt("matchmaker_ringfile"), cfg.DeprecatedOpt("ringfile", group="matchmaker_ring")],
            help="The JSON file that lists the hosts of each base topic. It is watched, and read again when it changes.",
        ),
        cfg.DictOpt(
            "rpc_zmq_matchmaker_options",
            default={},
            help="What a MatchMaker of your own goes by, as name:value pairs that it alone understands; the built-in ones have no use for it.",
        ),
        cfg.StrOpt(
            "rpc_zmq_broker_ip",
            default="127.0.0.1",
            help="The host whose receiver acts as broker, for MatchMakers that need one. 127.0.0.1 means this host's own receiver.",
        ),
        cfg.StrOpt(
            "rpc_zmq_ipc_dir",
            default="/var/run/openstack",
            help="The directory of the UNIX socket between services and their host's receiver. It must exist; mode 0750 keeps strangers out.",
        ),
        cfg.StrOpt(
            "rpc_zmq_host",
            default=socket.gethostname(),
            sample_default="the host's name",
            help="The name of this host, as other hosts and the ring file call it. It must resolve on every peer.",
        ),
        cfg.DictOpt(
            "rpc_zmq_host_addresses",
            default={},
            help="Addresses of hosts that the resolver does not know, as name:address pairs (an IPv6 address in brackets); they go before DNS.",
        ),
        cfg.IntOpt(
            "rpc_zmq_topic_backlog",
            min=1,
            default=4096,
            help="The most messages that may wait for one topic: in a receiver for its consumers, and in a service for their acknowledgement. "
            "A full backlog pushes back on senders.",
        ),
        cfg.IntOpt(
            "rpc_zmq_max_outstanding",
            min=1,
            default=100_000,
            help="The most messages of one service, over all topics, that may be on their way. A service waits before it sends more; what comes to "
            "the receiver all the same goes back as failed.",
        ),
        cfg.IntOpt(
            "rpc_zmq_notification_store",
            min=0,
            default=10_000,
            help="The most notifications that a receiver keeps until somebody listens to them; the oldest makes room for a new one.",
        ),
        cfg.IntOpt(
            "rpc_zmq_max_message_size",
            min=1024,
            max=1 << 30,
            default=16 << 20,
            help="The largest message in bytes. Larger ones are refused at the sender, and a peer that sends one is disconnected.",
        ),
        cfg.BoolOpt(
            "rpc_zmq_curve",
            default=False,
            help="Encrypt what travels between receivers, and let only hosts connect whose public key is in rpc_zmq_curve_hosts_dir. "
            "All hosts must agree on it.",
        ),
        cfg.StrOpt(
            "rpc_zmq_curve_secret_file",
            default="/etc/brokerless/curve.secret",
            help="The file with this host's own CURVE keys, mode 0600 or 0640, as `brokerless key new` makes it. It is read at start-up.",
        ),
        cfg.StrOpt(
            "rpc_zmq_curve_hosts_dir",
            default="/etc/brokerless/curve_hosts",
            help="The allow-list: a directory with a file HOST.pub for each host, one public key per line. All of them are accepted from the host; "
            "the first is the one that it is expected to have. The directory is watched, and read again when it changes.",
        ),
        cfg.IntOpt(
            "rpc_zmq_max_waiting_bytes",
            min=1 << 20,
            default=256 << 20,
            help="The most bytes of messages' bodies that may wait in a receiver for consumers and their acknowledgement. "
            "More pushes back on senders.",
        ),
        cfg.IntOpt("rpc_zmq_contexts", min=1, max=64, default=1, help="The number of I/O threads of the ZeroMQ context."),
        cfg.FloatOpt(
            "rpc_zmq_heartbeat_interval",
            min=0.05,
            default=1.0,
            help="Seconds between heartbeats of receivers to each other and to their services. One that is silent for three of them is down.",
        ),
        cfg.StrOpt("rpc_zmq_metrics_address", default="127.0.0.1", help="The address on which the receiver shows its metrics to Prometheus."),
        cfg.PortOpt(
            "rpc_zmq_metrics_port",
            default=0,
            help="The TCP port for the metrics, within the reserved range (9550, its last one, for example); 0 shows none.",
        ),
        cfg.IntOpt("rpc_thread_pool_size", min=1, default=1024, help="The most requests that one service process works on at the same time."),
        cfg.FloatOpt("rpc_response_timeout", min=0.001, max=MAX_TTL, default=60.0, help="Seconds that a call waits for its answer."),
        cfg.FloatOpt(
            "rpc_cast_timeout",
            min=0.001,
            max=MAX_TTL,
            default=30.0,
            help="Seconds after which a cast that could not be handed over is an error.",
        ),
        cfg.FloatOpt(
            "rpc_notification_timeout",
            min=0.001,
            max=MAX_TTL,
            default=3600.0,
            help="Seconds after which a notification to which nobody listened is dropped.",
        ),
        cfg.ListOpt(
            "allowed_rpc_exception_modules",
            default=["builtins", "nova.exception", "cinder.exception", "brokerless.rpc.errors"],
            help="Modules whose exceptions are raised at the caller by their own class. All others arrive as RemoteError.",
        ),
        cfg.FloatOpt(
            "matchmaker_heartbeat_freq", min=0.05, default=300.0, help="Seconds between a consumer's registrations at a dynamic MatchMaker."
        ),
        cfg.FloatOpt("matchmaker_heartbeat_ttl", min=0.1, default=600.0, help="Seconds after which a registration that was not renewed is dead."),
    ]


def redis_options() -> list[cfg.Opt]:
    """Return the table of the options in group [matchmaker_redis], for the MatchMaker `redis`."""
    return [
        cfg.HostAddressOpt("host", default="127.0.0.1", help="The host of Redis, if no url is set."),
        cfg.PortOpt("port", min=1, default=6379, help="The TCP port of Redis, if no url is set."),
        cfg.IntOpt("db", min=0, default=0, help="The number of the database in Redis, if no url is set."),
        cfg.StrOpt("username", help="The user at Redis, if it has users (ACL)."),
        cfg.StrOpt("password", secret=True, help="The password at Redis. The file that holds it is for the receiver's eyes only."),
        cfg.StrOpt(
            "url",
            secret=True,
            help="Where Redis is, as one URL: redis://redis1:6379/0, with TLS rediss://redis1:6379/0?ssl_ca_certs=/etc/ssl/redis-ca.pem, or by a "
            "UNIX socket unix:///run/redis/redis-server.sock?db=0. It goes before host, port and db.",
        ),
        cfg.StrOpt(
            "key_prefix", default="brokerless", help="The beginning of the names of all keys. Clouds that share one Redis each need their own."
        ),
        cfg.FloatOpt("timeout", min=0.1, default=5.0, help="Seconds that Redis may take to answer, before it is given up and tried again."),
    ]


def list_options() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the table by group, as oslo-config-generator asks for it through the entry point `oslo.config.opts`."""
    return [("DEFAULT", options()), (REDIS_GROUP, redis_options())]


def register_options(conf: cfg.ConfigOpts) -> None:
    """Register the table on `conf`. Registering it twice does no harm."""
    for group, table in list_options():
        conf.register_opts(table, group=None if group == "DEFAULT" else group)


def load_options(config_files: Sequence[str] = (), overrides: Sequence[str] = ()) -> cfg.ConfigOpts:
    """Read the configuration files, later ones over earlier ones, and return the options.

    With no files the default one, /etc/brokerless/brokerless.conf, is read if it exists. Raises `OptionError`, naming the file or the
    option and the fault; every option's value is checked, used or not.
    """
    conf = cfg.ConfigOpts()
    register_options(conf)
    files = list(config_files) or _default_files()
    try:
        conf(args=list(overrides), project="brokerless", version=VERSION, default_config_files=files, default_config_dirs=[])
    except cfg.ConfigFilesNotFoundError as error:
        raise OptionError(f"configuration file not found: {', '.join(error.config_files)}") from error
    except cfg.ConfigFilesPermissionDeniedError as error:
        raise OptionError(f"configuration file can't be read, permission denied: {', '.join(error.config_files)}") from error
    except cfg.ConfigFileParseError as error:
        raise OptionError(f"configuration file {error.config_file}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise OptionError(f"configuration file {' or '.join(files)}: not UTF-8: {error.reason}") from error
    except OSError as error:
        raise OptionError(f"configuration file {error.filename} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise OptionError(f"configuration file {' or '.join(map(repr, files))} can't be read: {error}") from error
    _check_values(conf, files)
    _check_ports(conf)
    return conf


def _check_ports(conf: cfg.ConfigOpts) -> None:
    """Raise `OptionError` unless all that is bound lies in the reserved range."""
    last_port = conf.rpc_zmq_start_port + conf.rpc_zmq_port_count - 1
    if last_port > 65535:
        raise OptionError(
            f"rpc_zmq_start_port {conf.rpc_zmq_start_port} with rpc_zmq_port_count {conf.rpc_zmq_port_count} ends at {last_port}, past 65535"
        )
    workers = conf.rpc_zmq_receiver_workers
    if workers > conf.rpc_zmq_port_count:
        raise OptionError(f"rpc_zmq_receiver_workers {workers} need as many ports, and rpc_zmq_port_count is {conf.rpc_zmq_port_count}")
    first_free = conf.rpc_zmq_start_port + workers
    if conf.rpc_zmq_metrics_port and not first_free <= conf.rpc_zmq_metrics_port - (workers - 1) <= conf.rpc_zmq_metrics_port <= last_port:
        raise OptionError(
            f"rpc_zmq_metrics_port {conf.rpc_zmq_metrics_port} is not one of the reserved ports that the receiver itself does not listen on, "
            f"{first_free + workers - 1} to {last_port}"
        )


def _default_files() -> list[str]:
    try:
        Path(DEFAULT_CONFIG_FILE).stat()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        # It may be there: let reading it say why it can't be read.
        pass
    return [DEFAULT_CONFIG_FILE]


def _check_values(conf: cfg.ConfigOpts, files: Sequence[str]) -> None:
    for group, table in list_options():
        for option in table:
            fault = _fault(conf[group] if group != "DEFAULT" else conf, option)
            if fault:
                name = option.name if group == "DEFAULT" else f"[{group}] {option.name}"
                raise OptionError(f"option {name} in {', '.join(files) or 'the environment'}: {fault}")


def _fault(conf: cfg.ConfigOpts | cfg.ConfigOpts.GroupAttr, option: cfg.Opt) -> str:
    """Return what is wrong with the option's value, empty if nothing is. `conf` is the option's group."""
    try:
        value = getattr(conf, option.dest)
        if option.dest == "rpc_zmq_host":
            check_host(value)
    except cfg.ConfigSourceValueError as error:
        # oslo.config says first where it found the value, in words for its developers
        return str(error).rpartition(" is not valid: ")[2]
    except cfg.NoSuchOptError:
        return "its value refers with $ to an option that does not exist; a dollar sign is written $$"
    except TopicError as error:
        return str(error)
    if value == "" or (value is None and option.default is not None):
        return "it is empty; leave the line out for the default"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a number of seconds"
    return ""
