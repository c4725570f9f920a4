# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A service of OpenStack in the virtual environment that it is installed in, with its configuration file."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from receiver_process import PATIENCE, free_port, wait_until
from server_process import ADDRESS, ServerProcess

START_SECONDS = 120.0
"""How long a service may take until it serves; ten seconds on a machine that has nothing else to do."""

Tables = dict[str, dict[str, object]]
"""Options of a configuration file, by their section."""


def written(tables: Tables) -> str:
    """Return the text of a configuration file."""
    return "\n".join(f"[{table}]\n" + "".join(f"{name} = {value}\n" for name, value in options.items()) for table, options in tables.items())


class OpenStackService(ServerProcess):
    """One service, with the workers it forks."""

    def __init__(self, name: str, place: Path, configuration: Path, environment: Path) -> None:
        """`name` is the program's, in the virtual environment `environment`; `configuration` is read at every start."""
        super().__init__(name, place)
        self.configuration = configuration
        self.environment = environment

    @property
    def _command(self) -> list[str]:
        return [str(self.environment / "bin" / self.name), "--config-file", str(self.configuration)]

    @property
    def _environment(self) -> Mapping[str, str]:
        return {"PYTHONWARNINGS": "ignore"}

    def launch(self) -> None:
        """Start the service and return at once."""
        # a session of its own: the workers are in it as well, and end with it
        self.run(["setsid", *self._command], self._environment)

    def await_ready(self) -> None:
        """Return when the service that was launched serves."""
        self.wait_until_ready(lambda: True)

    def start(self) -> None:
        """Launch the service, and return when it serves. Fails with its log if it ends instead."""
        self.launch()
        self.await_ready()

    def freeze(self) -> None:
        """Let all its processes stand still (SIGSTOP)."""
        os.killpg(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Kill it: an orderly end of these services takes up to a minute and gives tests nothing."""
        self.kill()

    def _end(self, number: signal.Signals) -> None:
        while self._processes:
            process = self._processes[-1]
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            process.wait(PATIENCE)
            wait_until(lambda session=process.pid: not _session(session), f"the processes of {self.name} are gone")  # type: ignore[misc]
            self._processes.pop()


class WsgiService(OpenStackService):
    """A service that is a WSGI application, under uWSGI on a port of its own."""

    def __init__(
        self, name: str, place: Path, configuration: Path, environment: Path, module: str, path: str, processes: int, variables: Mapping[str, str]
    ) -> None:
        """`module` is the application's; it serves when it answers a GET of `path`. `variables` say where its configuration is. Takes a free port."""
        super().__init__(name, place, configuration, environment)
        self.port = free_port([ADDRESS])
        self._module = module
        self._path = path
        self._workers = processes
        self._variables = variables

    @property
    def _command(self) -> list[str]:
        # lazy-apps: services connect while they load, and connections don't survive a fork
        command = [str(self.environment / "bin" / "uwsgi"), "--http-socket", f"{ADDRESS}:{self.port}", "--module", self._module]
        command += ["--master", "--processes", str(self._workers), "--threads", "1", "--enable-threads", "--need-app", "--lazy-apps", "--die-on-term"]
        command += ["--no-orphans", "--buffer-size", "65535", "--listen", "100", "--virtualenv", str(self.environment)]
        return [*command, "--add-header", "Connection: close"]

    @property
    def _environment(self) -> Mapping[str, str]:
        return {**super()._environment, **self._variables}

    def await_ready(self) -> None:
        """Return when it answers."""
        self.wait_until_ready(self._answers, START_SECONDS)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(ADDRESS, self.port, timeout=START_SECONDS)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", self._path)
            return connection.getresponse().status == 200
        return False


def _session(leader: int) -> bool:
    """Tell whether a process of the session is alive; one that has ended and waits to be reaped is not."""
    done = subprocess.run(["ps", "-o", "stat=", "-s", str(leader)], capture_output=True, text=True, check=False)
    return any(not state.startswith("Z") for state in done.stdout.split())
