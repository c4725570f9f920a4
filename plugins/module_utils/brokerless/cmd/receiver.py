# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""`brokerless-receiver`, the daemon of each host; installed as `nova-rpc-zmq-receiver` too."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..rpc.ipc import IpcError, checked_ipc_directory, ipc_endpoint
from ..rpc.options import DEFAULT_CONFIG_FILE, OptionError, load_options
from ..rpc.receiver.bind_addresses import BindError, adapters_of_this_host, bind_endpoints
from ..rpc.receiver.daemon import ReceiverDaemon, make_matchmaker
from ..rpc.receiver.gatekeeper import read_keys
from ..rpc.receiver.systemd_notify import Notifier, SystemdNotifier
from ..rpc.receiver.workers import Workers
from ..soft_import import MissingDependency
from ..version import VERSION

if TYPE_CHECKING:
    from oslo_config import cfg

    from ..rpc.matchmaker.base import MatchMaker

LOG = logging.getLogger("brokerless.receiver")
REFUSALS = (OptionError, BindError, IpcError, MissingDependency, ValueError, OSError)
"""Why a receiver may not start: each says in one line what is wrong."""
LOG_FORMAT = "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s %(message)s"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="brokerless-receiver",
        description="The receiver of a host: takes RPC messages from its services to other hosts' receivers and the other way round.",
    )
    parser.add_argument(
        "--config-file", action="append", default=[], metavar="FILE", help=f"options in [DEFAULT], may be repeated; default {DEFAULT_CONFIG_FILE}"
    )
    parser.add_argument("--log-file", metavar="FILE", help="append the log to FILE instead of writing it to standard error")
    parser.add_argument("--debug", action="store_true", help="log more")
    parser.add_argument("--check", action="store_true", help="check the options and the ring, say what they are, and leave")
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the receiver. Returns the exit code: 0 after SIGTERM, 1 when it can't work, with one line that says why."""
    parsed = _parser().parse_args(arguments)
    try:
        logging.basicConfig(
            filename=parsed.log_file, level=logging.DEBUG if parsed.debug else logging.INFO, format=LOG_FORMAT, datefmt="%Y-%m-%d %H:%M:%S"
        )
        conf = load_options(parsed.config_file)
        matchmaker = make_matchmaker(conf)
        if parsed.check:
            places = bind_endpoints(conf.rpc_zmq_bind_address, conf.rpc_zmq_start_port, adapters_of_this_host())
            ipc_endpoint(checked_ipc_directory(conf.rpc_zmq_ipc_dir))
            curve = f"CURVE, {len(read_keys(conf)[1].hosts)} hosts allowed" if conf.rpc_zmq_curve else "no CURVE"
            sys.stdout.write(f"host {conf.rpc_zmq_host} listens on {', '.join(places)}; {matchmaker} with {len(matchmaker.hosts())} hosts; {curve}\n")
            return 0
    except REFUSALS as error:
        return _refuse(error)
    notifier = SystemdNotifier(os.environ)
    if conf.rpc_zmq_receiver_workers == 1:
        return _work(conf, matchmaker, notifier, 0)
    return Workers(conf.rpc_zmq_receiver_workers, lambda worker, line: _work(conf, matchmaker, line, worker), notifier).run()


def _work(conf: cfg.ConfigOpts, matchmaker: MatchMaker, notifier: Notifier, worker: int) -> int:
    """Be the receiver, or one of its workers, to the end."""
    try:
        daemon = ReceiverDaemon(conf, make_matchmaker(conf, worker) if worker else matchmaker, notifier, worker)
    except REFUSALS as error:
        return _refuse(error)
    name = f"worker {worker} of host" if conf.rpc_zmq_receiver_workers > 1 else "host"
    LOG.info("%s %s, %s, %d hosts; ready", name, conf.rpc_zmq_host, matchmaker, len(matchmaker.hosts()))
    # What is there now stays, and what comes lives for milliseconds: to look for garbage at every 700th object finds none, for a tenth of the time.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    daemon.run()
    return 0


def _refuse(error: Exception) -> int:
    sys.stderr.write(f"brokerless-receiver: {error}\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
