# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""`rpcdaemon`: the daemon, and the operator's commands to the one that leads."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from ..ha.broker_urls import broker_urls, shown
from ..ha.bus.base import Source, Tell
from ..ha.bus.rabbit import ROUTING_KEYS, RabbitBus, RabbitSettings
from ..ha.bus.recording import Recorder, recordings_of
from ..ha.bus.tap import TapBus, TapSettings
from ..ha.config import DEFAULT_CONFIG_FILE, FIRST_CONFIG_FILE, ConfigError, Settings, level_of, read_settings
from ..ha.control import NobodyLeads, ask
from ..ha.daemon import Daemon, Parts, log_of
from ..ha.leader.lease import Leadership
from ..ha.leader.rabbit import RabbitLeaderSettings, RabbitLeadership
from ..ha.leader.single import SingleLeader
from ..ha.neutron_api import CredentialsError, NeutronApi, NeutronSettings, connect, read_conffile
from ..ha.plugins import load_plugins
from ..ha.policy import PolicySettings
from ..ha.replay import Decision, replay
from ..ha.snapshot import DHCP, L3
from ..rpc.options import load_options
from ..rpc.receiver.systemd_notify import SystemdNotifier
from ..rpc.topics import parse_address
from ..soft_import import MissingDependency
from ..version import VERSION
from .rpcdaemon_shown import show_decisions, show_plan, show_status

LOG = logging.getLogger("rpcdaemon")
LOG_FORMAT = "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s %(message)s"
REFUSALS = (ConfigError, CredentialsError, MissingDependency, ValueError, OSError)
"""Why the daemon may not start: each says in one line what is wrong."""
EXIT_OK, EXIT_WARNING, EXIT_CRITICAL, EXIT_UNKNOWN = range(4)
"""What `check` ends with, as monitoring plugins do (Nagios Plugin Development Guidelines, return codes)."""
LEASE_MARGIN = 10.0
"""So many seconds the lease of the leader is longer than a call of Neutron's API may take."""
DRAIN_LOOK_SECONDS = 2.0
RECORDING_FILES = 4


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rpcdaemon", description="Keeps Neutron's virtual routers and DHCP alive when a network node dies. Without a command: the daemon."
    )
    parser.add_argument("-c", dest="config", metavar="FILE", help=f"the configuration file; default {DEFAULT_CONFIG_FILE}")
    parser.add_argument("-d", dest="foreground", action="store_true", help="stay in the foreground, without a pidfile, and log to standard error")
    parser.add_argument("--check", action="store_true", help="say whether the daemon could start with the configuration file, and connect to nothing")
    parser.add_argument("--debug", action="store_true", help="log at DEBUG, whatever the configuration file says")
    parser.add_argument(
        "--wait", type=float, default=10.0, metavar="SECONDS", help="how long a command waits for the leader's answer; default %(default)g"
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands, which the daemon that leads obeys, but for replay")
    _command(commands, "status", "agents, what is known of them, and what is under way")
    plan = _command(commands, "plan", "what it would do now, and why")
    plan.add_argument("--what-if", metavar="HOST[,HOST]", help="as if these hosts had died")
    plan.add_argument("--rebalance", action="store_true", help="as `rebalance` would")
    _command(commands, "check", "for monitoring: exit code 0 if all is well, 1 for warnings, 2 for alarms, 3 if nobody leads")
    drain = _command(commands, "drain", "move everything off a host, and nothing to it until `undrain`", host=True, writes=True)
    drain.add_argument("--no-wait", action="store_true", help="return at once")
    drain.add_argument("--timeout", type=float, default=3600.0, metavar="SECONDS", help="how long to wait until it is empty; default %(default)g")
    _command(commands, "undrain", "use a host again, and move its share back", host=True, writes=True)
    _command(commands, "cordon", "move nothing to a host until `undrain`", host=True)
    rebalance = _command(commands, "rebalance", "even out the numbers of routers", writes=True)
    rebalance.add_argument("--budget", type=int, metavar="MOVES", help="make no more moves than this")
    _command(commands, "release", "let the mass-failure guard go: evacuate what is dead, though it is much")
    recorded = _command(commands, "replay", "judge and plan what was recorded, with this configuration file, offline")
    recorded.add_argument("files", nargs="+", type=Path, metavar="RECORDING", help="the file that [Dump] record names, or files of it, oldest first")
    return parser


def _command(commands: Any, name: str, explained: str, *, host: bool = False, writes: bool = False) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=explained, description=explained)
    if host:
        command.add_argument("host", metavar="HOST", help="as Neutron calls it")
    if writes:
        command.add_argument("--dry-run", action="store_true", help="show the plan and change nothing")
    command.add_argument("--json", action="store_true", help="for scripts")
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon or a command. Returns the exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        path = parsed.config or (FIRST_CONFIG_FILE if Path(FIRST_CONFIG_FILE).exists() else DEFAULT_CONFIG_FILE)
        settings = read_settings(path)
        if parsed.command == "replay":
            return _replay(parsed, settings)
        if parsed.command:
            return _obey(parsed, settings)
        if parsed.check:
            return _could_start(settings)
        return _serve(settings, foreground=parsed.foreground, debug=parsed.debug)
    except NobodyLeads as error:
        _complain(error)
        return EXIT_UNKNOWN
    except REFUSALS as error:
        _complain(error)
        return EXIT_UNKNOWN if parsed.command == "check" else 1


def _complain(error: Exception) -> None:
    sys.stderr.write(f"rpcdaemon: {error}\n")


# --- the daemon ------------------------------------------------------------------------------------------------------------------------------


def _serve(settings: Settings, *, foreground: bool, debug: bool) -> int:
    parts = make_parts(settings)
    with contextlib.ExitStack() as closing:
        if not foreground:
            lock = _locked_pidfile(Path(settings.daemon.pidfile).absolute(), closing)
            _log_to(settings, debug=debug)
            _go_into_background()
            lock.seek(0)
            lock.truncate()
            lock.write(f"{os.getpid()}\n")
            lock.flush()
        else:
            _log_to(settings, debug=debug, foreground=True)
        notifier = SystemdNotifier(os.environ)
        try:
            daemon = Daemon(parts, lambda: notifier.notify("WATCHDOG=1"))
        except REFUSALS as error:
            # in the background nobody is told but by the log
            LOG.critical("rpcdaemon can't start: %s", error)
            raise
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_told: daemon.stop())
        if not foreground:
            signal.signal(signal.SIGHUP, lambda *_told: _log_to(settings, debug=debug))
        LOG.info("rpcdaemon %s, plugins %s, %s", VERSION, " ".join(settings.daemon.plugins), settings.source)
        for note in parts.notes:
            LOG.info("%s", note)
        notifier.notify("READY=1")
        daemon.run()
        LOG.info("rpcdaemon ends")
    return 0


def _could_start(settings: Settings) -> int:
    """Find out what would keep the daemon from starting; tell what it would warn of."""
    parts = make_parts(settings)
    for warning in (*parts.warnings, *parts.policy.warnings()):
        sys.stderr.write(f"rpcdaemon: {warning}\n")
    return EXIT_OK


def make_parts(settings: Settings) -> Parts:
    """Return what the daemon is made of, by its configuration. Raises what `REFUSALS` names."""
    recorder = _recorder(settings)
    plugins = load_plugins(settings, recorder)
    conf, neutron = read_conffile(settings.plugin_settings.conffile)
    timeout = settings.plugin_settings.timeout
    urls = bus_urls(settings, neutron)
    connection, credentials = connect(conf, settings.plugin_settings.conffile, settings.daemon.cloud, settings.daemon.region)
    policy = settings.policy(neutron.agent_down_time, neutron.report_interval)
    api = NeutronApi(connection, timeout, settings.daemon.name)
    warnings = tuple(
        f"Neutron's own failover is on ({name} in {settings.plugin_settings.conffile}): both would move the same; switch one off"
        for name in neutron.failover
    )
    return Parts(
        settings=settings,
        policy=policy,
        api=api,
        plugins=plugins,
        leadership=_leadership(settings, urls, timeout),
        urls=urls,
        source=_source(settings, urls, overhear=any(plugin.overhears for plugin in plugins)),
        warnings=warnings,
        recorder=recorder,
        notes=(
            f"conffile {settings.plugin_settings.conffile or '(none)'}: {_intervals(policy)}; credentials for Neutron's API: {credentials}",
            f"RabbitMQ: {', '.join(map(shown, urls)) or 'none, so that no command reaches this daemon'}; heartbeats: {settings.daemon.bus}",
            *(f"{settings.source}: {each}" for each in settings.left_aside()),
        ),
    )


def _source(settings: Settings, urls: tuple[str, ...], *, overhear: bool) -> Callable[[Tell], Source]:
    """Return what makes the source of heartbeats. Raises `OptionError` if the receiver's configuration file can't be read, and `TopicError`."""
    if settings.daemon.taps:
        file = settings.daemon.bus.removeprefix("tap").removeprefix(":")
        conf = load_options([file] if file else [])
        workers = conf.rpc_zmq_receiver_workers
        tap = TapSettings(conf.rpc_zmq_ipc_dir, conf.rpc_zmq_host, str(parse_address(settings.daemon.tap_topic)), workers)
        return lambda tell: TapBus(tap, tell)
    dump = settings.dump
    rabbit = RabbitSettings(
        urls,
        exchange=dump.queue if dump and not (settings.l3_agent or settings.dhcp_agent) else settings.daemon.exchange,
        routing_keys=tuple(dict.fromkeys((*ROUTING_KEYS, *(dump.routing_keys if dump else ())))),
        overhear=overhear,
        queue_expire=settings.plugin_settings.queue_expire,
    )
    return lambda tell: RabbitBus(rabbit, tell)


def _recorder(settings: Settings) -> Recorder | None:
    """Return what records, None if nothing does; nothing is opened yet."""
    dump = settings.dump
    if dump is None or not dump.record:
        return None
    return Recorder(Path(dump.record).absolute(), (dump.record_size << 20) // RECORDING_FILES, RECORDING_FILES)


def _intervals(policy: PolicySettings) -> str:
    return f"agent_down_time {policy.agent_down_time:g} s, report_interval {policy.report_interval:g} s"


def bus_urls(settings: Settings, neutron: NeutronSettings) -> tuple[str, ...]:
    """Return where RabbitMQ is; nowhere if nothing needs it and the file names none. Raises `ConfigError`."""
    written = settings.daemon.rpchost or neutron.transport_url
    if not written and settings.daemon.taps and settings.daemon.leader == "single":
        return ()
    written = written or "127.0.0.1"
    try:
        return broker_urls(written)
    except ValueError as error:
        raise ConfigError(f"{settings.source}, section [Daemon], rpchost: {error}") from error


def _leadership(settings: Settings, urls: tuple[str, ...], timeout: float) -> Leadership:
    lease = settings.daemon.lease or timeout + LEASE_MARGIN
    if settings.daemon.leader == "single":
        return SingleLeader()
    if settings.daemon.leader == "tooz":
        from ..ha.leader.tooz import ToozLeaderSettings, ToozLeadership  # noqa: PLC0415 - an extra that only those need who chose it

        return ToozLeadership(ToozLeaderSettings(settings.daemon.coordination_url, lease=lease))
    return RabbitLeadership(RabbitLeaderSettings(urls, queue_type=settings.daemon.leader_queue_type, lease=lease))


def _log_to(settings: Settings, *, debug: bool, foreground: bool = False) -> None:
    """Log to the file, or to standard error in the foreground, at the levels of the configuration file, or at DEBUG."""
    level = "DEBUG" if debug else settings.daemon.loglevel
    path = None if foreground else Path(settings.daemon.logfile).absolute()
    logging.basicConfig(filename=path, level=level_of(level), format=LOG_FORMAT, datefmt="%Y-%m-%d %H:%M:%S", force=True)
    logging.getLogger("rpcdaemon").setLevel(level_of(level))
    for agent_type, section in ((L3, settings.l3_agent), (DHCP, settings.dhcp_agent)):
        if section is not None:
            log_of(agent_type).setLevel(level_of("DEBUG" if debug else section.loglevel))
    for chatty in ("amqp", "urllib3", "keystoneauth", "openstack", "stevedore"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, level_of(level)))


def _locked_pidfile(path: Path, closing: contextlib.ExitStack) -> TextIO:
    """Open and lock the pidfile, which is removed in the end. The lock goes when the process does, however it ends."""
    try:
        file = closing.enter_context(os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+", encoding="ascii"))
    except OSError as error:
        raise ConfigError(f"pidfile {path}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ConfigError(f"pidfile {path} is locked: rpcdaemon runs already, as process {file.read().strip() or 'that has just begun'}") from None
    closing.callback(path.unlink, missing_ok=True)
    return file


def _go_into_background() -> None:
    """Become a daemon: no terminal, no parent, nothing open of either."""
    for _turn in range(2):
        if os.fork():
            os._exit(0)
        os.setsid() if _turn == 0 else None
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


# --- commands --------------------------------------------------------------------------------------------------------------------------------


def _obey(parsed: argparse.Namespace, settings: Settings) -> int:
    _conf, neutron = read_conffile(settings.plugin_settings.conffile) if not settings.daemon.rpchost else (None, NeutronSettings(75.0, 30.0, ""))
    urls = bus_urls(settings, neutron)
    if not urls:
        raise ConfigError(f"{settings.source} names no RabbitMQ (rpchost): that is how commands reach the daemon")

    def asked(command: str, **more: Any) -> dict[str, Any]:
        answer = ask(urls, {"command": command, **{name: value for name, value in more.items() if value is not None}}, parsed.wait)
        if answer.get("error"):
            raise ValueError(answer["error"])
        return answer

    if parsed.command == "check":
        return _check(asked("status"), as_json=parsed.json)
    if parsed.command == "status":
        return _shown(asked("status"), parsed.json, show_status)
    if parsed.command == "plan":
        purpose = "what-if" if parsed.what_if else "rebalance" if parsed.rebalance else ""
        return _shown(asked("plan", purpose=purpose, host=parsed.what_if), parsed.json, show_plan)
    if getattr(parsed, "dry_run", False):
        purpose = parsed.command
        return _shown(
            asked("plan", purpose=purpose, host=getattr(parsed, "host", None), budget=getattr(parsed, "budget", None)), parsed.json, show_plan
        )
    answer = asked(parsed.command, host=getattr(parsed, "host", None), budget=getattr(parsed, "budget", None))
    if parsed.command == "drain" and not parsed.no_wait:
        return _wait_until_empty(parsed, asked)
    return _shown(answer, parsed.json, show_plan if "plan" in answer else _show_answer)


def _replay(parsed: argparse.Namespace, settings: Settings) -> int:
    """Show what was decided, or would have been with this configuration."""
    _conf, neutron = read_conffile(settings.plugin_settings.conffile)
    policy = settings.policy(neutron.agent_down_time, neutron.report_interval)
    managed = frozenset[str]().union(*(plugin.manages for plugin in load_plugins(settings)))
    files: list[Path] = parsed.files
    decisions: list[Decision] = []
    logging.getLogger("rpcdaemon").setLevel(logging.CRITICAL)
    summary = replay(recordings_of(files[0]) if len(files) == 1 else files, policy, managed, decisions.append)
    if parsed.json:
        found = {"decisions": [each.to_json() for each in decisions], **asdict(summary)}
        sys.stdout.write(json.dumps(found, indent=2, default=str) + "\n")
    else:
        show_decisions(decisions, summary)
    return 0


def _shown(answer: Mapping[str, Any], as_json: bool, show: Any) -> int:
    if as_json:
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    else:
        show(answer)
    return 0


def _show_answer(answer: Mapping[str, Any]) -> None:
    for name, value in answer.items():
        sys.stdout.write(f"{name}: {', '.join(value) if isinstance(value, list) else value}\n")


def _check(status: Mapping[str, Any], *, as_json: bool) -> int:
    levels = [alarm["level"] for alarm in status["alarms"]]
    code = EXIT_CRITICAL if "critical" in levels else EXIT_WARNING if levels else EXIT_OK
    word = ("OK", "WARNING", "CRITICAL")[code]
    if as_json:
        sys.stdout.write(json.dumps({"status": word, "alarms": status["alarms"]}, indent=2) + "\n")
        return code
    said = "; ".join(alarm["text"] for alarm in status["alarms"]) or f"{status['instance']} leads and hears all agents"
    sys.stdout.write(f"RPCDAEMON {word}: {said}\n")
    return code


def _wait_until_empty(parsed: argparse.Namespace, asked: Any) -> int:
    """Wait until nothing is left on a host; tell how it goes on."""
    for status in _looks(asked, time.monotonic() + parsed.timeout):
        if not status["hosted"]:
            continue  # this leader has not looked at the cloud yet
        left = {agent["agent"]: status["hosted"].get(agent["agent"], 0) for agent in status["judgement"]["agents"] if agent["host"] == parsed.host}
        stuck = [each for each in status["plan"]["unplaced"] if (each["from"] or {}).get("host") == parsed.host]
        if not parsed.json:
            sys.stdout.write(f"{parsed.host} hosts {sum(left.values())}, {len(status['under_way'])} moves are under way\n")
            sys.stdout.flush()
        if not sum(left.values()) and not status["under_way"] and not status["settling"]:
            return _shown({"host": parsed.host, "hosts": 0}, parsed.json, _show_answer)
        if stuck and not status["under_way"] and not status["waiting"] and len(stuck) == sum(left.values()):
            _shown(
                {"host": parsed.host, "hosts": sum(left.values()), "unplaced": [f"{each['id']}: {each['reason']}" for each in stuck]},
                parsed.json,
                _show_answer,
            )
            return 1
    sys.stderr.write(f"rpcdaemon: {parsed.host} is not empty after {parsed.timeout:g} s; it goes on being drained\n")
    return 1


def _looks(asked: Any, deadline: float) -> Iterator[dict[str, Any]]:
    while time.monotonic() < deadline:
        yield asked("status")
        time.sleep(DRAIN_LOOK_SECONDS)


if __name__ == "__main__":
    raise SystemExit(main())
