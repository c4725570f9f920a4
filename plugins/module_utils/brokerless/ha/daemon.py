# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The daemon: the bus, Neutron's API, the leadership, the executor and the operator's commands around the watch, which decides.

One loop does everything that touches the watch. What may take long runs in threads, which put what comes of it into the loop's queue.
"""

from __future__ import annotations

import functools
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ..rpc.receiver.metrics_endpoint import FiguresDesk, MetricsEndpoint
from .audit import AuditFile
from .bus.base import Event, HeardReport, HearingBegan, HearingInterrupted, Lag, Overheard, Source
from .bus.recording import Recorder
from .config import Settings
from .control import CommandServer, Reply
from .decisions import Decisions
from .executor import Executor, Happening
from .hooks import Hooks
from .journal import FileJournal, HostWish, Journal, JournalError, OpenMove, QueueJournal
from .leader.lease import Leadership
from .metrics import Deaths, metric_families
from .neutron_api import ApiError, NeutronApi
from .plan import Action, Plan
from .plugins import Plugin
from .policy import PolicySettings
from .probes import Prober
from .recorded_watch import RecordedWatch
from .settling import Settling
from .snapshot import DHCP, L3, Agent, Snapshot, SnapshotError, agent_from_api, snapshot_from_api
from .watch import Watch

LOG = logging.getLogger("rpcdaemon")
READERS = 4
"""So many lists are asked for at a time."""
JOURNAL_QUEUE = "rpcdaemon.journal"
KEEP_SECONDS = 1.0

Job: TypeAlias = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the daemon is made of. `urls` are RabbitMQ's, empty without one."""

    settings: Settings
    policy: PolicySettings
    api: NeutronApi
    plugins: list[Plugin]
    leadership: Leadership
    urls: tuple[str, ...]
    source: Callable[[Callable[[Event], None]], Source]
    warnings: tuple[str, ...] = ()
    recorder: Recorder | None = None
    """Where all that is judged by is recorded."""
    notes: tuple[str, ...] = ()
    """What is logged at the start: where what it goes by is from, and what of the configuration file it does not go by."""


def log_of(agent_type: str) -> logging.Logger:
    """Return what tells of agents of a type and of what they host; its level is that of their plugin's section."""
    return logging.getLogger({L3: "rpcdaemon.l3agent", DHCP: "rpcdaemon.dhcpagent"}.get(agent_type, "rpcdaemon"))


class Daemon:
    """rpcdaemon. `run` works until `stop` is called."""

    def __init__(self, parts: Parts, on_tick: Callable[[], None] = lambda: None) -> None:
        """Make it; nothing is connected yet. Raises `BindError` if Prometheus can't be answered where it shall.

        `on_tick` is called by the loop about every `check_interval`, as long as it turns.
        """
        self._parts = parts
        self._on_tick = on_tick
        self._settings = parts.settings.daemon
        managed = frozenset[str]().union(*(plugin.manages for plugin in parts.plugins))
        self.watch = RecordedWatch(parts.policy, managed, parts.recorder) if parts.recorder else Watch(parts.policy, managed)
        self._inbox: queue.SimpleQueue[Event | Job] = queue.SimpleQueue()
        self._source = parts.source(self._inbox.put)
        self._readers = ThreadPoolExecutor(READERS + 2, thread_name_prefix="reader")
        self._lists = ThreadPoolExecutor(READERS, thread_name_prefix="list")
        self._audit = AuditFile(self._settings.audit_file)
        self._decisions = Decisions(self._audit.write)
        self._reign: _Reign | None = None
        # what waits for RabbitMQ, one after the other: a term begins only when the one before has ended
        self._terms = ThreadPoolExecutor(1, thread_name_prefix="term")
        self._beginning: Future[_Reign] | None = None
        self._keeping: Future[None] | None = None
        self._stopping = threading.Event()
        self._next_tick = self._kept_at = 0.0
        self._heartbeats = 0
        self._api_faults: dict[str, str] = {}
        self.lag = 0.0
        self._prober = Prober(self._settings.probe, self._settings.probe_timeout, self._probed) if self._settings.probe else None
        self._deaths = Deaths()
        self._desk = FiguresDesk(lambda: self._inbox.put(lambda: self._desk.answer(self._figures)))
        self._metrics = self._show_metrics()

    # --- the loop --------------------------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Listen, judge and act until `stop` is called; then end what is under way, and leave."""
        for warning in (*self._parts.warnings, *self._parts.policy.warnings()):
            LOG.warning("%s", warning)
        self._parts.leadership.start()
        self._source.start()
        try:
            while not self._stopping.is_set():
                self._turn()
        finally:
            self._source.close()
            if self._reign is not None:
                LOG.info("ending %d moves that are under way", len(self._reign.executor.under_way()))
                self._end_reign("this daemon ends", finish=True)
            if self._beginning is not None:
                self._beginning.add_done_callback(_end_unused)
            self._terms.shutdown(wait=True)
            self._parts.leadership.close()
            for pool in (self._readers, self._lists):
                pool.shutdown(wait=False, cancel_futures=True)
            if self._prober is not None:
                self._prober.close()
            self._audit.close()
            if self._parts.recorder is not None:
                self._parts.recorder.close()
            if self._metrics is not None:
                self._metrics.close()

    def _show_metrics(self) -> MetricsEndpoint | None:
        if not self._settings.metrics_port:
            return None
        shown = functools.partial(metric_families, started_at=time.time())
        return MetricsEndpoint(self._settings.metrics_address, self._settings.metrics_port, self._desk, shown, "metrics_")

    def stop(self) -> None:
        """Let `run` end. May be called by a signal's handler."""
        self._stopping.set()
        self._inbox.put(lambda: None)

    def _turn(self) -> None:
        """Take what came, for as long as until the next tick, and tick."""
        while (left := self._next_tick - time.monotonic()) > 0:
            try:
                item = self._inbox.get(timeout=left)
            except queue.Empty:
                break
            if callable(item):
                item()
            else:
                self._heard(item)
            if self._stopping.is_set():
                return
        self._next_tick = time.monotonic() + self._settings.check_interval
        self._tick(time.monotonic())
        self._on_tick()

    def _tick(self, now: float) -> None:
        for change in self.watch.tick(now, time.time()):
            managed = change.agent.agent_type in self.watch.managed
            log_of(change.agent.agent_type).log(logging.WARNING if managed else logging.INFO, "%s", change)
            self._deaths.changed(change, self.watch.judgement, now)
            self._decisions.transition(change)
        self._tell_alarms()
        self._follow_leadership(now)
        reign = self._reign
        needs = self.watch.needs(now, busy=reign is not None and not reign.executor.idle, leads=reign is not None)
        if needs.agents:
            self._ask("agents", self._read_agents)
        if needs.settling:
            self._ask("settling", functools.partial(self._read_settling, needs.settling))
        if needs.poll:
            self._ask("poll", self._read_poll)
        if needs.snapshot:
            LOG.info("reading what agents host: %s", needs.snapshot)
            self._ask("snapshot", self._read_snapshot)
        if reign is not None:
            if self._prober is not None:
                for host in self.watch.judge.to_probe(now):
                    self._prober.ask(host)
            for move in self.watch.to_finish(now):
                reign.finish(move)
            self._let_settle(reign, now)
            reign.executor.tick()

    def _heard(self, event: Event) -> None:
        if isinstance(event, HearingBegan):
            LOG.info("we hear the agents: %s", event.source)
        elif isinstance(event, HearingInterrupted):
            LOG.warning("we may have missed something: %s", event.reason)
        elif isinstance(event, Lag):
            self.lag = event.seconds
        self.watch.hear(event, time.time())
        if isinstance(event, Overheard):
            self._heartbeats += isinstance(event, HeardReport)
            for plugin in self._parts.plugins:
                plugin.overheard(event)

    def _probed(self, host: str, up: bool | None, detail: str) -> None:
        """Called by the threads that probe."""
        self._inbox.put(lambda: self.watch.probed(host, up, detail, time.monotonic()))

    def _tell_alarms(self) -> None:
        """Log each alarm once, and once that it is over."""
        begun, over = self._decisions.alarms(self.watch.alarms())
        for text in begun:
            LOG.warning("ALARM %s", text)
        for text in over:
            LOG.info("over: %s", text)

    # --- questions to Neutron ----------------------------------------------------------------------------------------------------------------

    def _ask(self, question: str, read: Callable[[], Job]) -> None:
        """Let a reader ask, and the loop take in what comes of it."""

        def asked() -> None:
            try:
                result = read()
            except (ApiError, SnapshotError) as error:
                fault = str(error)
                result = functools.partial(self._unanswered, question, fault)
            except Exception as error:
                LOG.exception("a fault of rpcdaemon in reading %s", question)
                fault = f"a fault of rpcdaemon: {error}"
                result = functools.partial(self._unanswered, question, fault)
            self._inbox.put(result)

        self._readers.submit(asked)

    def _unanswered(self, question: str, fault: str) -> None:
        if question not in self._api_faults:
            LOG.warning("Neutron's API gave no answer about %s: %s", question, fault)
        self._api_faults[question] = fault
        self.watch.unanswered(question, fault)

    def _answered(self, question: str) -> None:
        if self._api_faults.pop(question, None):
            LOG.info("Neutron's API answers again about %s", question)

    def _read_agents(self) -> Job:
        asked_at = time.monotonic()
        agents = [agent_from_api(each) for each in self._parts.api.agents()]

        def take() -> None:
            self._answered("agents")
            self.watch.listed(agents, time.monotonic(), asked_at)

        return take

    def _read_poll(self) -> Job:
        api = self._parts.api
        found: set[str] = set()
        if DHCP in self.watch.managed:
            found |= {f"{each['id']} {len(each.get('subnets') or ())}" for each in api.networks()}
        else:
            found |= {f"{each['id']} {bool(each.get('external_gateway_info'))}" for each in api.routers()}

        def take() -> None:
            self._answered("poll")
            self.watch.polled(found)

        return take

    def _read_snapshot(self) -> Job:
        began = time.monotonic()
        snapshot = read_snapshot(self._parts.api, self.watch.managed, self._lists)
        seconds = time.monotonic() - began

        def take() -> None:
            self._answered("snapshot")
            LOG.debug("read %d routers and %d networks in %.1f s", len(snapshot.routers), len(snapshot.networks), seconds)
            self._plan(snapshot)

        return take

    def _read_settling(self, routers: tuple[str, ...]) -> Job:
        """Read what tells whether routers work that were moved: one list, and another if they have floating IPs."""
        known = self.watch.snapshot.routers
        ports = self._parts.api.ports_of(routers)
        floating = [router for router in routers if router in known and known[router].floating_ips]
        floating_ips = self._parts.api.floating_ips_of(floating) if floating else []

        def take() -> None:
            self._answered("settling")
            for settled in self.watch.read_settling(routers, ports, floating_ips, time.monotonic()):
                LOG.info("%s", settled)
                self._deaths.settled(settled.seconds)
                self._audit.write("settled", id=settled.router, target=settled.agent.host, seconds=round(settled.seconds, 3))

        return take

    def _let_settle(self, reign: _Reign, now: float) -> None:
        """Let go of routers that work, and of those that had their time; what a drain had for them next is then planned anew."""
        for settled in self.watch.overdue(now):
            LOG.warning("%s; look at the L3 agent and the switch agent there", settled)
            self._audit.write("unsettled", id=settled.router, target=settled.agent.host, seconds=round(settled.seconds, 3), missing=settled.missing)
            if self.watch.plan.settle:
                reign.executor.replace(Plan(""))
        reign.release(self.watch.settling)

    # --- plans -------------------------------------------------------------------------------------------------------------------------------

    def _plan(self, snapshot: Snapshot) -> None:
        reign = self._reign
        began = time.monotonic()
        plan, said = self.watch.looked(snapshot, began, reign.executor.under_way() if reign else ())
        for words in said:
            LOG.warning("%s", words)
        self._deaths.planned(plan, time.monotonic())
        if not plan and not plan.unplaced:
            return
        LOG.info("plan: %d actions, %d without a place, made in %.2f s", len(plan.actions), len(plan.unplaced), time.monotonic() - began)
        self._decisions.plan(plan, self.watch.snapshot)
        if reign is not None and not self._settings.dry_run:
            reign.executor.replace(plan)

    def _happened(self, happening: Happening) -> None:
        """Called by the executor's threads."""
        self._inbox.put(lambda: self._take_in(happening))

    def _take_in(self, happening: Happening) -> None:
        action, outcome = happening.action, happening.outcome
        log = log_of(action.agent_type)
        way = f"{action.kind} {action.thing}" + (f" from {action.source.host}" if action.source else "")
        way += f" to {action.target.host}" if action.target else ""
        self._audit.write(
            happening.what,
            action=action.kind,
            id=action.thing,
            source=action.source.host if action.source else "",
            target=action.target.host if action.target else "",
            text=happening.text,
            result=outcome.result if outcome else "",
            doubt=outcome.doubt if outcome else "",
            seconds=round(happening.seconds, 3),
        )
        if happening.what == "ended" and outcome is not None:
            doubt = f"; {outcome.doubt}" if outcome.doubt else ""
            log.log(
                logging.INFO if outcome.good else logging.WARNING,
                "%s: %s in %.1f s: %s%s",
                way,
                outcome.result,
                happening.seconds,
                outcome.text,
                doubt,
            )
            self.watch.ended(action, outcome, time.monotonic())
            self._deaths.ended(action, happening.seconds, self.watch.snapshot, time.monotonic())
            if self._reign is not None:
                self._tell_open_moves(self._reign)
                self._reign.settling.add(action.thing)
                self._reign.release(self.watch.settling)
        elif happening.what == "began":
            log.info("%s begins: %s", way, happening.text)
        else:
            log.debug("%s: %s %s (%.3f s)", way, happening.what, happening.text, happening.seconds)

    # --- leadership --------------------------------------------------------------------------------------------------------------------------

    def _follow_leadership(self, now: float) -> None:
        leadership = self._parts.leadership
        if self._reign is not None and (not leadership.is_leader(now) or leadership.term != self._reign.number):
            self._end_reign(leadership.lost or "another term began", finish=False)
        if self._beginning is not None and self._beginning.done():
            begun, self._beginning = self._beginning, None
            self._begun(begun)
        elif self._reign is None and self._beginning is None and leadership.is_leader(now) and leadership.may_write(now, 0.0):
            term = leadership.term or 0
            self._beginning = self._terms.submit(lambda: _Reign(self._parts, self.watch, term, self._happened, self._commanded))
        reign = self._reign
        if reign is not None and now - self._kept_at >= KEEP_SECONDS and (self._keeping is None or self._keeping.done()):
            self._kept_at = now
            self._keeping = self._terms.submit(reign.keep)
            self._tell_open_moves(reign)

    def _tell_open_moves(self, reign: _Reign) -> None:
        """Let the watch know what was begun and is not under way."""
        busy = {action.thing for action in reign.executor.under_way()}
        self.watch.open_moves(move for move in reign.open_moves() if move.router not in busy)

    def _begun(self, begun: Future[_Reign]) -> None:
        try:
            reign = self._reign = begun.result()
        except JournalError as error:
            LOG.error("this replica leads, and can't act: %s", error)  # noqa: TRY400 - it is not our fault
            return
        self._audit.write("leads", term=reign.number, instance=self._settings.name)
        LOG.info("%s leads in term %d; %d moves were left unfinished", self._settings.name, reign.number, len(reign.open_moves()))
        for wish in reign.wishes():
            self.watch.wish(wish, wish.host)

    def _end_reign(self, why: str, *, finish: bool) -> None:
        reign, self._reign = self._reign, None
        if reign is None:
            return
        LOG.warning("%s leads no more: %s", self._settings.name, why)
        self._audit.write("leads no more", reason=why)
        self._terms.submit(reign.end, finish=finish)
        self.watch.leads_no_more(time.monotonic())

    # --- the operator ------------------------------------------------------------------------------------------------------------------------

    def _commanded(self, command: Mapping[str, Any], reply: Reply) -> None:
        """Called by the thread that takes commands."""

        def obey() -> None:
            try:
                reply(self._obey(command))
            except (JournalError, ValueError) as error:
                reply({"error": str(error)})

        self._inbox.put(obey)

    def _obey(self, command: Mapping[str, Any]) -> dict[str, Any]:
        what, host = str(command.get("command", "")), str(command.get("host", ""))
        now = time.monotonic()
        if what == "status":
            return self.status()
        if what == "plan":
            purpose = str(command.get("purpose", ""))
            plan = self.watch.plan_of(purpose, host, now, command.get("budget")) if purpose else self.watch.plan
            return {"plan": plan.to_json(self.watch.snapshot), "snapshot": bool(self.watch.snapshot.agents)}
        if what == "release":
            return {"released": [str(key) for key in self.watch.release(now)]}
        if what in {"drain", "undrain", "cordon"}:
            return self._set_wish(what, host)
        if what == "rebalance":
            return self._rebalance(command.get("budget"), now)
        raise ValueError(f"unknown command {what!r}")

    def _set_wish(self, what: str, host: str) -> dict[str, Any]:
        if host not in {agent.host for agent in self.watch.snapshot.agents.values()} | {
            verdict.agent.host for verdict in self.watch.judgement.verdicts.values()
        }:
            raise ValueError(f"Neutron has no agent on host {host!r}")
        if self._reign is None:
            raise ValueError("this replica leads no more")
        wish = None if what == "undrain" else HostWish(host, "draining" if what == "drain" else "cordoned", time.time())
        if wish is None:
            self._reign.journal.end(f"host:{host}")
        else:
            self._reign.journal.put(wish)
        self.watch.wish(wish, host)
        self._audit.write("wish", host=host, wish=what)
        LOG.info("the operator wants: %s %s", what, host)
        if wish is None and not self._settings.dry_run:
            self._reign.executor.replace(self.watch.plan_of("undrain", host, time.monotonic()))
        return {"host": host, "hosts": self.watch.hosted(host)}

    def _rebalance(self, budget: Any, now: float) -> dict[str, Any]:
        if self._reign is None:
            raise ValueError("this replica leads no more")
        plan = self.watch.rebalance(now, budget if isinstance(budget, int) else None)
        self._decisions.plan(plan, self.watch.snapshot)
        if not self._settings.dry_run:
            self._reign.executor.replace(plan)
        return {"plan": plan.to_json(self.watch.snapshot)}

    def _figures(self) -> dict[str, Any]:
        """Return what Prometheus is shown, as a copy."""
        watch, reign = self.watch, self._reign
        verdicts = [each for each in watch.judgement.verdicts.values() if each.agent.agent_type in watch.managed]
        return {
            **self._deaths.figures(),
            "leader": reign is not None,
            "deaf": bool(watch.judgement.deaf),
            "guard_frozen": len(watch.judgement.freezes),
            "lag_seconds": self.lag,
            "open_moves": len(watch.broken),
            "under_way": len(reign.executor.under_way()) if reign else 0,
            "waiting": reign.executor.waiting if reign else 0,
            "settling": len(watch.settling.waiting),
            "unsettled": len(watch.settling.late()),
            "unplaced": len(watch.plan.unplaced),
            "api_faults": len(self._api_faults),
            "dry_run": self._settings.dry_run,
            "heartbeats": self._heartbeats,
            "agents": Counter((each.agent.agent_type, each.state.value) for each in verdicts),
            "alarms": Counter((alarm["name"], alarm["level"]) for alarm in watch.alarms()),
            "outcomes": dict(watch.tally.outcomes),
            "calls": {(call,): number for call, number in self._parts.api.calls.copy().items()},
        }

    def status(self) -> dict[str, Any]:
        """Return what `rpcdaemon status` shows; it is JSON."""
        watch, reign = self.watch, self._reign
        hearing = watch.judge.hearing
        now = time.monotonic()
        return {
            "instance": self._settings.name,
            "dry_run": self._settings.dry_run,
            "leads": reign is not None,
            "term": self._parts.leadership.term,
            "why_not": "" if reign is not None else self._parts.leadership.lost,
            "hearing": {
                "trouble": watch.judgement.deaf,
                "for_seconds": None if hearing.since is None else round(now - hearing.since, 1),
                "lag_seconds": round(self.lag, 3),
                "heartbeats": self._heartbeats,
            },
            "judgement": watch.judgement.to_json(),
            "hosted": {
                agent.id: len(watch.snapshot.hosted_by(agent.id)) for agent in watch.snapshot.agents.values() if agent.agent_type in {L3, DHCP}
            },
            "hosts": {wish: sorted(watch.hosts_that_are(wish)) for wish in ("draining", "cordoned")},
            "plan": watch.plan.to_json(watch.snapshot),
            "under_way": [str(action) for action in reign.executor.under_way()] if reign else [],
            "waiting": reign.executor.waiting if reign else 0,
            "settling": watch.settling.waiting,
            "broken": [move.router for move in watch.broken],
            "outcomes": {f"{action}: {result}": count for (action, result), count in sorted(watch.tally.outcomes.items())},
            "alarms": watch.alarms(),
            "api": {"calls": sum(self._parts.api.calls.values()), "faults": dict(self._api_faults)},
        }


class _Reign:
    """What there is while this replica leads: the journal, the executor, and an ear for commands."""

    def __init__(
        self, parts: Parts, watch: Watch, term: int, tell: Callable[[Happening], None], on_command: Callable[[Mapping[str, Any], Reply], None]
    ) -> None:
        """Take over. Raises `JournalError` if the journal can't be had: without it nothing may be moved."""
        settings = parts.settings.daemon
        self.number = term
        self.term = f"{settings.name}/{term}"
        self._parts = parts
        self._watch = watch
        self.journal: Journal = (
            QueueJournal(parts.urls, JOURNAL_QUEUE) if parts.urls and settings.leader != "single" else FileJournal(_journal_path(settings.state_dir))
        )
        hooks = Hooks(settings.fence_command, settings.before_move, settings.after_move, settings.command_timeout)
        self.settling: set[str] = set()
        """Routers that were moved, and that the executor may wait for."""
        self.executor = Executor(parts.api, self.journal, self, tell, hooks, settings.pause)
        self._commands = CommandServer(parts.urls, on_command) if parts.urls else None
        if self._commands is not None:
            self._commands.start()

    def may_write(self, seconds: float) -> str:
        leadership = self._parts.leadership
        if self._parts.settings.daemon.dry_run:
            return "nothing is changed in a dry run"
        if leadership.may_write(time.monotonic(), seconds, self.number):
            return ""
        return f"this replica may not write: {leadership.lost or 'its leadership was not confirmed lately enough'}"

    def still_wanted(self, action: Action) -> str:
        return self._watch.still_wanted(action)

    def choose(self, action: Action, refused: dict[str, str]) -> Agent | None:
        return self._watch.choose(action, refused)

    def finish(self, move: OpenMove) -> None:
        """Go on with a broken move."""
        if not self._parts.settings.daemon.dry_run:
            self.executor.finish(move)

    def release(self, settling: Settling) -> None:
        """Let the executor wait no longer for routers that are not watched any more, or have had their time."""
        for router in [each for each in self.settling if not settling.waits_for(each)]:
            self.settling.discard(router)
            self.executor.settled(router)

    def open_moves(self) -> list[OpenMove]:
        """Return the moves in the journal."""
        return [entry for entry in self.journal.entries() if isinstance(entry, OpenMove)]

    def wishes(self) -> list[HostWish]:
        """Return the operator's wishes in the journal."""
        return [entry for entry in self.journal.entries() if isinstance(entry, HostWish)]

    def keep(self) -> None:
        """Keep the journal's connection alive; one that is lost is made anew."""
        try:
            self.journal.keep()
        except JournalError as error:
            LOG.warning("%s", error)

    def end(self, *, finish: bool) -> None:
        """Lead no more: end what is under way, with `finish` of its own."""
        if self._commands is not None:
            self._commands.close()
        self.executor.stop(finish=finish)
        self.journal.close()


def _end_unused(begun: Future[_Reign]) -> None:
    if not begun.cancelled() and begun.exception() is None:
        begun.result().end(finish=False)


def _journal_path(state_dir: str) -> Path:
    path = Path(state_dir)
    try:
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise JournalError(f"state_dir {state_dir}: {error}") from error
    return path / "journal"


def read_snapshot(api: NeutronApi, managed: frozenset[str], pool: ThreadPoolExecutor) -> Snapshot:
    """Read all that a plan needs. Raises `ApiError` or `SnapshotError`."""
    agents = api.agents()
    asked = {
        "routers": pool.submit(api.routers),
        "networks": pool.submit(api.networks),
        "subnets": pool.submit(api.subnets),
        "ports": pool.submit(api.router_ports),
        "floating_ips": pool.submit(api.floating_ips),
    }
    hosting = {str(each["id"]): pool.submit(api.hosted_by, str(each["id"]), str(each["agent_type"])) for each in _hosting(agents, managed)}
    return snapshot_from_api(
        agents=agents,
        hosting={agent: future.result() for agent, future in hosting.items()},
        **{name: future.result() for name, future in asked.items()},
    )


def _hosting(agents: list[Mapping[str, Any]], managed: frozenset[str]) -> Iterator[Mapping[str, Any]]:
    for each in agents:
        if each.get("agent_type") in managed & {L3, DHCP}:
            yield each
