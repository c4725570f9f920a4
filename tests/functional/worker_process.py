# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The processes of a bench: each holds one object, and the bench asks for what its methods return.

with contextlib.ExitStack() as running:
    consumer = running.enter_context(Worker(Consumer, "tcp://127.0.0.1:5555"))
    consumer.ask("count")
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

START_SECONDS = 60.0
ANSWER_SECONDS = 300.0

_spawning = multiprocessing.get_context("spawn")


class Failed(Exception):
    """A process of the bench ended, did not answer, or answered with an exception; the message has its traceback."""


class Worker:
    """A process with an object made by `make(*arguments)` there; as a context it starts and ends with it."""

    def __init__(self, make: Callable[..., object], *arguments: Any) -> None:
        """Start the process; `make` is a class or a function of a module that the process can import."""
        self._name = getattr(make, "__qualname__", str(make))
        self._end, theirs = _spawning.Pipe()
        self._process = _spawning.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process.pid is not None
        return self._process.pid

    def start_asking(self, method: str, *arguments: Any) -> None:
        """Let the object's method begin; `answer` waits for what it returns."""
        self._end.send((method, arguments))

    def answer(self, timeout: float = ANSWER_SECONDS) -> Any:
        """Return what the method returned that was asked last. Raises `Failed`."""
        try:
            if not self._end.poll(timeout):
                raise Failed(f"{self._name} did not answer within {timeout:g} s")
            fault, result = self._end.recv()
        except (EOFError, OSError) as error:
            raise Failed(f"{self._name} (pid {self.pid}) ended") from error
        if fault:
            raise Failed(f"{self._name}: {fault}")
        return result

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of the object, and return what it returns. Raises `Failed`."""
        self.start_asking(method, *arguments)
        return self.answer()

    def __enter__(self) -> Self:
        """Wait until the object is made."""
        try:
            self.answer(START_SECONDS)
        except Failed:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the process: when the pipe is closed it ends by itself, and is killed if it does not."""
        self._end.close()
        self._process.join(5.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(end: Connection, make: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        served = make(*arguments)
        end.send(("", None))
        while True:
            method, values = end.recv()
            try:
                result, fault = getattr(served, method)(*values), ""
            except Exception:  # noqa: BLE001 - whatever it is, the bench shows it
                result, fault = None, traceback.format_exc()
            end.send((fault, result))
    except (EOFError, OSError):
        pass
    except Exception:  # noqa: BLE001 - as above
        end.send((traceback.format_exc(), None))
    # Threads of the rivals wait for messages that never come.
    os._exit(0)
