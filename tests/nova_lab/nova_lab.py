# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A Nova with two cells and no message broker: each host has a receiver, each cell a virtual host of `zmq://`, which is its namespace.

    with NovaLab() as lab:
        lab.ask("services")

On host `control` run the conductor and the scheduler above the cells; on host `cell1` a conductor and a compute, and the same on `cell2`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

from lab_programs import NOVA_LOCK_FILE, install_runtime, kept_database, nova_environment, run, run_directory
from mariadb_server import MariadbServer, install
from nova_services import NovaService, Placement, nova_conf
from openstack_service import START_SECONDS, Tables
from receiver_process import Receiver, mesh_of, wait_until

CONTROL = "control"
CELLS = ("cell1", "cell2")


class NovaLab:
    """The lab; a context."""

    def __init__(self) -> None:
        """Nothing is started yet."""
        self.receivers: dict[str, Receiver] = {}
        """By host."""
        self.services: dict[tuple[str, str], NovaService] = {}
        """By host and program."""
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start everything, and return when all services are up; a lab that does not start leaves nothing behind."""
        install_runtime(nova_environment())
        kept = _kept_databases()
        with contextlib.ExitStack() as unless_it_starts:
            self._open = unless_it_starts
            self.directory = self._open.enter_context(run_directory("nova-"))
            self._start(kept)
            self._open = unless_it_starts.pop_all()
        return self

    def _start(self, kept: Path) -> None:
        self.mariadb = self._open.enter_context(MariadbServer(self.directory, kept))
        self.placement = Placement(self.directory, _url(self.mariadb, "placement"))
        self._open.callback(self.placement.stop)
        self.placement.start()
        hosts = (CONTROL, *CELLS)
        for receiver in mesh_of(Receiver, self.directory / "receivers", hosts, ring={"nova": hosts}, network="127.85.0", rpc_zmq_matchmaker="mesh"):
            self.receivers[receiver.host] = self._open.enter_context(receiver)
        for cell in CELLS:
            # oslo.messaging's URL of a transport without hosts
            self.mariadb.query(
                f"update nova_api.cell_mappings set transport_url = 'zmq:///{cell}', database_connection = '{_url(self.mariadb, f'nova_{cell}')}' "
                f"where name = '{cell}';"
            )
        self.mariadb.query(f"update nova_api.cell_mappings set database_connection = '{_url(self.mariadb, 'nova_cell0')}' where name = 'cell0';")
        for host, program in [(CONTROL, "nova-conductor"), (CONTROL, "nova-scheduler"), *((cell, "nova-conductor") for cell in CELLS)]:
            self._launch(host, program)
        for cell in CELLS:
            self._launch(cell, "nova-compute")
        wait_until(self._all_up, "all services are up", START_SECONDS)

    def _all_up(self) -> bool:
        found = {(service["host"], service["binary"]) for service in self.ask("services") if service["up"]}
        return found >= set(self.services)

    def _launch(self, host: str, program: str) -> None:
        service = self.services[host, program] = NovaService(program, self.directory, self.configuration(host, program))
        self._open.callback(service.stop)
        service.launch()

    def configuration(self, host: str, program: str = "questions") -> Path:
        """Write the nova.conf of a program on a host, and return the file."""
        place = self.directory / host
        place.mkdir(exist_ok=True)
        bus: Tables = {
            "DEFAULT": {"transport_url": "zmq:///" + (host if host in CELLS else "")},
            "oslo_messaging_zmq": {"rpc_zmq_ipc_dir": self.receivers[host].ipc_directory, "rpc_zmq_host": host},
        }
        database = _url(self.mariadb, f"nova_{host}" if host in CELLS else "nova_cell0")
        file = place / f"{program}.conf"
        text = nova_conf(host, place, bus, self.placement.url, "" if program == "nova-compute" else database, _url(self.mariadb, "nova_api"))
        file.write_text(text, encoding="utf-8")
        return file

    def ask(self, question: str, *arguments: str) -> Any:
        """Ask in a process with Nova's own libraries, on the control host; nova_questions.py has the questions."""
        script = str(Path(__file__).with_name("nova_questions.py"))
        command = [str(nova_environment() / "bin" / "python"), script, str(self.configuration(CONTROL)), question, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={"OS_NOVA_DISABLE_EVENTLET_PATCHING": "1"})
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    def __exit__(self, *error: Any) -> None:
        """End everything, and take away its directory, which run_directory keeps the logs of."""
        self._open.__exit__(*error)


def _url(server: MariadbServer, database: str) -> str:
    return server.url.replace("/neutron?", f"/{database}?")


def _kept_databases() -> Path:
    """Return MariaDB's data with the tables of Nova's API, of cell0 and of the cells, which hold nothing yet."""

    def make(data: Path) -> None:
        installed = data / "installed"
        installed.mkdir()
        install(installed)
        with tempfile.TemporaryDirectory(prefix="bl-", dir=data) as place, MariadbServer(Path(place), installed) as server:
            names = ("nova_api", "nova_cell0", *(f"nova_{cell}" for cell in CELLS))
            server.query("".join(f"create database {name} character set utf8mb3;" for name in ("placement", *names)))

            def manage(database: str, *arguments: str) -> None:
                configuration = Path(place) / "nova.conf"
                bus: Tables = {"DEFAULT": {"transport_url": "fake://"}}
                text = nova_conf(CONTROL, Path(place), bus, "http://127.0.0.1:9", _url(server, database), _url(server, "nova_api"))
                configuration.write_text(text, encoding="utf-8")
                run([str(nova_environment() / "bin" / "nova-manage"), "--config-file", str(configuration), *arguments], "Nova made no tables")

            manage("nova_cell0", "api_db", "sync")
            manage("nova_cell0", "cell_v2", "map_cell0", "--database_connection", _url(server, "nova_cell0"))
            for database in names[1:]:
                manage(database, "db", "sync", "--local_cell")
            for cell in CELLS:
                database_connection = _url(server, f"nova_{cell}")
                options = ["--name", cell, "--transport-url", f"zmq:///{cell}", "--database_connection", database_connection]
                manage("nova_cell0", "cell_v2", "create_cell", *options)
            server.stop()
            shutil.rmtree(installed)
            for entry in server.data.iterdir():
                shutil.move(entry, data / entry.name)

    return kept_database("nova", make, NOVA_LOCK_FILE.read_text(encoding="utf-8"))
