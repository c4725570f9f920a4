# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Several workers of one receiver: processes that this one starts, watches, and starts again when they die.

To systemd they are one service: it is ready when all of them are, and its watchdog is fed while each of them feeds it.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .systemd_notify import Notifier

LOG = logging.getLogger("brokerless.receiver")
RESTART_SECONDS = 1.0
"""How long it takes until a worker that died is started again."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that a process gets when its parent dies."""


class WorkerNotifier:
    """Tells the parent what a receiver tells systemd."""

    def __init__(self, line: socket.socket, watchdog_seconds: float | None) -> None:
        self._line = line
        self.watchdog_seconds = watchdog_seconds

    def notify(self, *states: str) -> None:
        """Send states such as `READY=1`."""
        with contextlib.suppress(OSError):
            self._line.send("\n".join(states).encode())


@dataclass
class _Worker:
    """One worker's process, or with `pid` 0 when it shall be started again."""

    number: int
    pid: int = 0
    line: socket.socket | None = None
    start_at: float = 0.0
    ready: bool = False
    fed_watchdog: bool = field(default=False)


RunWorker = Callable[[int, WorkerNotifier], int]
"""Runs the worker of a number in a process of its own, and returns its exit code."""


class Workers:
    """The parent of the workers."""

    def __init__(self, count: int, run_worker: RunWorker, notifier: Notifier) -> None:
        self._run_worker = run_worker
        self._notifier = notifier
        self._workers = [_Worker(number) for number in range(count)]
        self._stopping = False
        self._exit_code = 0
        self._told_ready = False

    def run(self) -> int:
        """Work until SIGTERM or SIGINT, and return the exit code: that of a worker which could not start, else 0."""
        with contextlib.ExitStack() as closing:
            wake_read, wake_write = socket.socketpair()
            for end in (wake_read, wake_write):
                end.setblocking(False)
                closing.callback(end.close)
            closing.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False))
            for number in SIGNALS:
                signal.signal(number, _noted_by_the_wakeup_fd)
            with selectors.DefaultSelector() as selector:
                selector.register(wake_read, selectors.EVENT_READ)
                while not (self._stopping and all(worker.pid == 0 for worker in self._workers)):
                    self._start_what_is_due(selector)
                    for key, _events in selector.select(self._wait()):
                        if key.data is not None:
                            self._listen(key.data)
                        else:
                            self._handle_signals(wake_read.recv(4096))
                    self._bury(selector)
        return self._exit_code

    def _wait(self) -> float | None:
        due = [worker.start_at for worker in self._workers if not worker.pid and not self._stopping]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _start_what_is_due(self, selector: selectors.BaseSelector) -> None:
        for worker in self._workers:
            if not worker.pid and not self._stopping and time.monotonic() >= worker.start_at:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
                # a signal must not reach the child while it still has this process's handlers, which would do nothing there
                before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
                worker.pid = os.fork()
                if not worker.pid:
                    for number in SIGNALS:
                        signal.signal(number, signal.SIG_DFL)
                    signal.set_wakeup_fd(-1)
                    signal.pthread_sigmask(signal.SIG_SETMASK, before)
                    self._be(worker.number, theirs)
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                theirs.close()
                ours.setblocking(False)
                worker.line = ours
                selector.register(ours, selectors.EVENT_READ, worker)

    def _be(self, number: int, line: socket.socket) -> None:
        """Be the worker, to the end of the process."""
        code = 1
        try:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            code = self._run_worker(number, WorkerNotifier(line, self._notifier.watchdog_seconds))
        except Exception:
            LOG.exception("worker %d failed", number)
        finally:
            logging.shutdown()
            os._exit(code)

    def _listen(self, worker: _Worker) -> None:
        try:
            states = worker.line.recv(4096).decode().split("\n") if worker.line is not None else []
        except OSError:
            return
        if "READY=1" in states:
            worker.ready = True
            if not self._told_ready and all(worker.ready for worker in self._workers):
                self._told_ready = True
                self._notifier.notify("READY=1", f"STATUS={len(self._workers)} workers are listening")
        if "WATCHDOG=1" in states:
            worker.fed_watchdog = True
            if all(worker.fed_watchdog for worker in self._workers):
                self._notifier.notify("WATCHDOG=1")
                for fed in self._workers:
                    fed.fed_watchdog = False

    def _handle_signals(self, signals: bytes) -> None:
        if signal.SIGHUP in signals:
            self._pass_on(signal.SIGHUP)
        if (signal.SIGTERM in signals or signal.SIGINT in signals) and not self._stopping:
            self._notifier.notify("STOPPING=1")
            self._stop()

    def _stop(self) -> None:
        self._stopping = True
        self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, number)

    def _bury(self, selector: selectors.BaseSelector) -> None:
        for worker in self._workers:
            if not worker.pid:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                worker.pid = 0
                self._mourn(worker, os.waitstatus_to_exitcode(status), selector)

    def _mourn(self, worker: _Worker, code: int, selector: selectors.BaseSelector) -> None:
        if worker.line is not None:
            self._listen(worker)
            selector.unregister(worker.line)
            worker.line.close()
            worker.line = None
        if self._stopping:
            return
        if not worker.ready:
            # it has said why; as with a single receiver, what can't start is not tried again here
            self._exit_code = code if code > 0 else 1
            self._stop()
            return
        how = f"was killed by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        LOG.error("worker %d (port start + %d) %s; starting it again in %g s", worker.number, worker.number, how, RESTART_SECONDS)
        worker.start_at = time.monotonic() + RESTART_SECONDS


def _noted_by_the_wakeup_fd(_number: int, _frame: object) -> None:
    """Python writes the signal's number into the wake-up socket, where the loop finds it."""
