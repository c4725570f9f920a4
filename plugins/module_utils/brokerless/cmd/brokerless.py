# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The program `brokerless`: look at this host's receiver, call and cast by hand, check ring files.

Answers go to standard output, as tables or with `--json` as one JSON object. A failure is one line on standard error and exit code 1; a command line
that can't be understood is exit code 2.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ..rpc import impl_zmq
from ..rpc.driver.connection import NotAccepted, NotAnswered, close_connections, process_connection
from ..rpc.errors import RemoteError, RPCException
from ..rpc.ipc import IpcError, socket_path
from ..rpc.matchmaker.ring_file import RingError, read_ring
from ..rpc.options import OptionError, load_options
from ..rpc.receiver.gatekeeper import checked_own_keys, new_key_pair
from ..rpc.receiver.keys import KeyFileError, OwnKeys
from ..rpc.remote_exceptions import REMOTE_SUFFIX
from ..rpc.topics import Address, TopicError, parse_topic
from ..soft_import import MissingDependency
from ..version import VERSION
from . import tables
from .call_arguments import ArgumentError, parse_arguments

if TYPE_CHECKING:
    from oslo_config import cfg

    from ..rpc.driver.connection import Driver

PING_TIMEOUT = 5.0
"""Seconds that a ping waits for its answer unless told otherwise."""

PINGS_AT_ONCE = 32

CHECK_TOPIC = "brokerless-check"
"""What `check` consumes for the moment that it takes."""

DRIVER_LOG = logging.getLogger("brokerless.driver")

CLOSING_SECONDS = 1.0
"""How long the end of a command may take; by then nothing is under way any more that anyone waits for."""

ANSWER_SECONDS = 5.0
ABSENCE_SECONDS = 0.5
"""How long a receiver may take to answer a question: one that is there, and one whose socket is not, as it may just be starting."""

SETTLING_BEATS = 12
"""For so many heartbeats after a cast's time the driver may still learn what became of it."""

USAGE, FAILURE, SUCCESS = 2, 1, 0


class CommandFailed(Exception):
    """A command could not do what it was told to; the text is one line for the operator."""


class Partial(Exception):
    """A command has an answer to show and failed in part; the text is one line for the operator."""

    def __init__(self, data: Mapping[str, Any], message: str) -> None:
        super().__init__(message)
        self.data = data


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    try:
        options = _parse(arguments)
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else USAGE
    try:
        return _run(options)
    except BrokenPipeError:
        # Who read our output has gone; Python must not complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except KeyboardInterrupt:
        return FAILURE


def _run(options: argparse.Namespace) -> int:
    command: Callable[[argparse.Namespace], Mapping[str, Any]] = options.run
    trouble = None
    try:
        data = command(options)
    except Partial as error:
        data, trouble = error.data, str(error)
    except (CommandFailed, IpcError, KeyFileError, OptionError, RingError, TopicError, RPCException, MissingDependency, OSError) as error:
        _complain(str(error))
        return FAILURE
    except (NotAnswered, NotAccepted) as error:
        _complain(error.reason)
        return FAILURE
    if options.json:
        sys.stdout.write(json.dumps(data, indent=2) + "\n")
    else:
        try:
            tables.show(options.table(data), sys.stdout)
        except MissingDependency as error:
            _complain(f"{error}; --json works without it")
            return FAILURE
    sys.stdout.flush()
    if trouble is not None:
        _complain(trouble)
        return FAILURE
    return SUCCESS


def _complain(message: str) -> None:
    sys.stderr.write(f"brokerless: {tables.printable(' '.join(message.split()))}\n")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    anywhere = argparse.ArgumentParser(add_help=False)
    anywhere.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object instead of tables")
    parser = argparse.ArgumentParser(prog="brokerless", description=" ".join((__doc__ or "").split("\n\n", maxsplit=1)[0].split()))
    parser.add_argument("--version", action="version", version=f"brokerless {VERSION}")
    parser.add_argument("--config-file", action="append", default=[], metavar="FILE", help="an option file; later ones go over earlier ones")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        among: Any,
        name: str,
        run: Callable[[argparse.Namespace], Mapping[str, Any]],
        table: Callable[[Mapping[str, Any]], tables.Shown],
        explained: str,
    ) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = among.add_parser(name, parents=[anywhere], help=explained, description=explained)
        made.set_defaults(run=run, table=table)
        return made

    add(commands, "status", _status, tables.status, "show the receiver of this host: its peers, consumers, queues and figures")
    checked = add(
        commands, "check", _check, tables.check, "call oneself through this host's receiver, and ask it whether anything is wrong; for monitoring"
    )
    checked.add_argument("--timeout", type=_seconds, default=PING_TIMEOUT, metavar="SECONDS", help=f"how long to wait (default: {PING_TIMEOUT:g})")
    ping = add(commands, "ping", _ping, tables.ping, "ask who consumes a topic: compute, compute.machine1, or fanout~compute for all of its hosts")
    ping.add_argument("topic", metavar="TOPIC")
    ping.add_argument("--timeout", type=_seconds, default=PING_TIMEOUT, metavar="SECONDS", help=f"how long to wait (default: {PING_TIMEOUT:g})")
    sending = [
        ("call", _call, tables.call, "call a method and show the value that it returns", "how long to wait (default: rpc_response_timeout)"),
        ("cast", _cast, tables.cast, "have a method run by one consumer, without an answer", "how long it may wait (default: rpc_cast_timeout)"),
        ("fanout-cast", _fanout_cast, tables.cast, "have a method run by every consumer", "how long it may wait (default: rpc_cast_timeout)"),
    ]
    for name, run, table, explained, waiting in sending:
        made = add(commands, name, run, table, explained)
        made.add_argument("topic", metavar="TOPIC")
        made.add_argument("method", metavar="METHOD")
        made.add_argument("arguments", metavar="NAME=VALUE", nargs="*", help="an argument; the value is JSON if it can be read as JSON, else text")
        made.add_argument("--timeout", type=_seconds, metavar="SECONDS", help=waiting)
        made.add_argument("--rpc-version", metavar="MAJOR.MINOR", help="the version of the consumer's API that is asked for (default: 1.0)")
    rings = commands.add_parser("ring", help="check a ring file, or show the ring in use").add_subparsers(metavar="check|show", required=True)
    add(rings, "check", _ring_check, tables.ring_check, "read a ring file as a receiver would, and say what is wrong with it").add_argument(
        "file", metavar="FILE"
    )
    shown = add(rings, "show", _ring_show, tables.ring_show, "show the ring that the receiver uses, or where a message for TOPIC would go now")
    shown.add_argument("topic", metavar="TOPIC", nargs="?")
    keys = commands.add_parser("key", help="make CURVE keys for this host, or show their public part").add_subparsers(
        metavar="new|show", required=True
    )
    for name, run, explained in [
        ("new", _key_new, "make new keys and write them to FILE, which must not exist, with mode 0600; show the public key"),
        ("show", _key_show, "show the public keys in FILE, which other hosts must accept"),
    ]:
        add(keys, name, run, tables.key, explained).add_argument("file", metavar="FILE")

    options, rest = parser.parse_known_args(arguments)
    if hasattr(options, "arguments"):
        # argparse takes no NAME=VALUE that stands behind an option
        options.arguments += [text for text in rest if not text.startswith("-")]
        rest = [text for text in rest if text.startswith("-")]
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if hasattr(options, "arguments"):
        try:
            options.arguments = parse_arguments(options.arguments)
        except ArgumentError as error:
            parser.error(str(error))
    if getattr(options, "topic", None) is not None and options.run is _ring_show:
        options.table = tables.route
    return options


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return seconds


class _Receiver:
    """This host's receiver, asked through one connection that is closed at the end.

    What the driver logs meanwhile goes nowhere: standard error is for one line. Its errors are kept in `errors`.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.conf: cfg.ConfigOpts = load_options(options.config_file)
        self.errors: list[str] = []
        self._log = _Collector(self.errors)

    def __enter__(self) -> _Receiver:
        DRIVER_LOG.addHandler(self._log)
        self.connection: Driver = process_connection(self.conf)
        return self

    def __exit__(self, *error: object) -> None:
        close_connections(CLOSING_SECONDS)
        DRIVER_LOG.removeHandler(self._log)

    def hand_over(self, options: argparse.Namespace) -> Mapping[str, Any]:
        """Wait until a cast that was just made has come to its end, and return what is shown of it. Raises `CommandFailed` if it was lost."""
        ttl = self.conf.rpc_cast_timeout if options.timeout is None else options.timeout
        left = self.connection.settle(ttl + SETTLING_BEATS * self.conf.rpc_zmq_heartbeat_interval)
        if self.errors or left:
            raise CommandFailed(self.errors[-1] if self.errors else f"it is not known what became of the cast for topic {options.topic!r}")
        return {"topic": options.topic, "method": options.method, "handed_over": True}


class _Collector(logging.Handler):
    """Keeps the texts of errors."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        self._errors.append(record.getMessage())


def _status(options: argparse.Namespace) -> Mapping[str, Any]:
    with _Receiver(options) as receiver:
        return _inspect(receiver, "status")


def _check(options: argparse.Namespace) -> Mapping[str, Any]:
    with _Receiver(options) as receiver:
        status = _inspect(receiver, "status")
        service = impl_zmq.create_connection(receiver.conf)
        service.create_consumer(CHECK_TOPIC, object())
        service.consume_in_thread()
        try:
            answer = _ping_once(receiver.conf, str(Address(CHECK_TOPIC, server=status["host"])), options.timeout)
        finally:
            service.close()
    data = {
        **{name: status[name] for name in ("host", "version", "matchmaker", "curve")},
        "round_trip_ms": answer["round_trip_ms"],
        "peers_not_up": [peer["host"] for peer in status["peers"] if peer["state"] != "up"],
    }
    said = {"MatchMaker": status["matchmaker"]["error"], "CURVE": (status["curve"] or {}).get("error")}
    if any(said.values()):
        raise Partial(data, "; ".join(f"{who}: {fault}" for who, fault in said.items() if fault))
    return data


def _inspect(receiver: _Receiver, question: str, argument: str = "") -> dict[str, Any]:
    patience = ANSWER_SECONDS if socket_path(receiver.conf.rpc_zmq_ipc_dir).exists() else ABSENCE_SECONDS
    answer: dict[str, Any] = receiver.connection.inspect(question, argument, patience)
    if "error" in answer:
        raise CommandFailed(str(answer["error"]))
    return answer


def _ping(options: argparse.Namespace) -> Mapping[str, Any]:
    address = parse_topic(options.topic)
    with _Receiver(options) as receiver:
        # Asked first also so that connecting to the receiver is no part of the first round trip.
        route = _inspect(receiver, "route", options.topic)
        if not address.fanout:
            return {"topic": options.topic, "answers": [_ping_once(receiver.conf, str(address), options.timeout)], "silent": []}
        hosts = [host["host"] for host in route["hosts"]]
        if not hosts:
            raise CommandFailed(route["problem"] or f"no host is known for topic {address.topic!r}")

        def ping_host(host: str) -> dict[str, Any]:
            try:
                return _ping_once(receiver.conf, str(Address(address.topic, server=host)), options.timeout)
            except (CommandFailed, RPCException) as error:
                return {"host": host, "reason": str(error)}

        with ThreadPoolExecutor(min(len(hosts), PINGS_AT_ONCE)) as pool:
            results = list(pool.map(ping_host, hosts))
    silent = [result for result in results if "reason" in result]
    data = {"topic": options.topic, "answers": [result for result in results if "reason" not in result], "silent": silent}
    if silent:
        names = ", ".join(result["host"] for result in silent)
        raise Partial(
            data, f"{len(silent)} of {len(hosts)} hosts of topic {address.topic!r} did not answer: {names}; the first: {silent[0]['reason']}"
        )
    return data


def _ping_once(conf: cfg.ConfigOpts, topic: str, timeout: float) -> dict[str, Any]:
    started = time.perf_counter()
    with _what_was_raised_there():
        answer = impl_zmq.ping(conf, topic, timeout)
    elapsed = time.perf_counter() - started
    return {"host": answer.get("host"), "pid": answer.get("pid"), "round_trip_ms": round(elapsed * 1000, 3)}


def _message(options: argparse.Namespace) -> dict[str, Any]:
    message = {"method": options.method, "args": options.arguments}
    return message if options.rpc_version is None else {**message, "version": options.rpc_version}


def _call(options: argparse.Namespace) -> Mapping[str, Any]:
    with _Receiver(options) as receiver, _what_was_raised_there():
        value = impl_zmq.call(receiver.conf, None, options.topic, _message(options), options.timeout)
    return {"topic": options.topic, "method": options.method, "value": value}


@contextlib.contextmanager
def _what_was_raised_there() -> Iterator[None]:
    """Turn what a remote method raised, which may be of any class, into `CommandFailed` without the traceback."""
    try:
        yield
    except RemoteError as error:
        raise CommandFailed(f"{error.exc_type}: {error.value}") from error
    except Exception as error:
        if not hasattr(error, "remote_message"):
            raise
        raise CommandFailed(f"{type(error).__name__.removesuffix(REMOTE_SUFFIX)}: {error.remote_message}") from error


def _cast(options: argparse.Namespace) -> Mapping[str, Any]:
    with _Receiver(options) as receiver:
        impl_zmq.cast(receiver.conf, None, options.topic, _message(options), options.timeout)
        return receiver.hand_over(options)


def _fanout_cast(options: argparse.Namespace) -> Mapping[str, Any]:
    with _Receiver(options) as receiver:
        impl_zmq.fanout_cast(receiver.conf, None, options.topic, _message(options), timeout=options.timeout)
        return receiver.hand_over(options)


def _ring_check(options: argparse.Namespace) -> Mapping[str, Any]:
    ring = read_ring(options.file)
    return {"file": options.file, "topics": {topic: list(hosts) for topic, hosts in ring.topics.items()}, "hosts": sorted(ring.hosts())}


def _ring_show(options: argparse.Namespace) -> Mapping[str, Any]:
    with _Receiver(options) as receiver:
        if options.topic is not None:
            return _inspect(receiver, "route", options.topic)
        status = _inspect(receiver, "status")
    matchmaker = status["matchmaker"]
    if not matchmaker["file"]:
        raise CommandFailed(f"the receiver of {status['host']} uses MatchMaker {matchmaker['name']}, which has no ring file; give a TOPIC")
    ring = read_ring(matchmaker["file"])
    states = {peer["host"]: peer["state"] for peer in status["peers"]} | {status["host"]: "this host"}
    topics = [
        {"topic": topic, "hosts": [{"host": host, "state": states.get(host, "unknown")} for host in hosts]}
        for topic, hosts in sorted(ring.topics.items())
    ]
    return {"matchmaker": matchmaker["name"], "file": matchmaker["file"], "error": matchmaker["error"], "topics": topics}


def _key_new(options: argparse.Namespace) -> Mapping[str, Any]:
    keys = OwnKeys(new_key_pair())
    try:
        descriptor = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise CommandFailed(f"key file {options.file} can't be made: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(keys.to_text())
    return {"file": options.file, "public_keys": list(keys.accepted)}


def _key_show(options: argparse.Namespace) -> Mapping[str, Any]:
    return {"file": options.file, "public_keys": list(checked_own_keys(options.file).accepted)}
