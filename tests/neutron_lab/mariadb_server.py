# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A real MariaDB server for the lab, on a private port of the loopback address, that may start with a copy of data kept from before."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from pathlib import Path

from receiver_process import free_port
from server_process import ADDRESS, ServerProcess, system_programs

DATABASE = "neutron"
USER = "neutron"
PASSWORD = "lab"


def install(data: Path) -> None:
    """Make an empty server's data, with the database and the user, in an empty directory."""
    programs, share = _places()
    lines = ["create database mysql;", "use mysql;"]
    lines += [(share / name).read_text(encoding="utf-8") for name in ("mysql_system_tables.sql", "mysql_system_tables_data.sql")]
    lines += ["flush privileges;", f"create database {DATABASE} character set utf8mb3;"]
    lines += [f"create user {USER}@'{ADDRESS}' identified by '{PASSWORD}';", f"grant all on *.* to {USER}@'{ADDRESS}';"]
    done = subprocess.run(
        [str(programs / "mariadbd"), *_options(data), "--bootstrap"],
        input="\n".join(lines) + "\n",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"MariaDB made no data: {done.stdout[-3000:]}"


def _places() -> tuple[Path, Path]:
    programs = system_programs("mariadb")
    return programs, programs.parent / "files" / "usr" / "share" / "mysql"


def _options(data: Path) -> list[str]:
    """The data of tests may be lost in a power cut, and are small."""
    programs, share = _places()
    options = ["--no-defaults", "--user=root", f"--basedir={programs.parent / 'files' / 'usr'}", f"--lc-messages-dir={share}", f"--datadir={data}"]
    options += ["--skip-log-bin", "--character-set-server=utf8mb3", "--innodb-log-file-size=16M", "--innodb-buffer-pool-size=128M"]
    return [*options, "--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync", "--innodb-doublewrite=0", "--max-connections=500"]


class MariadbServer(ServerProcess):
    """A MariaDB server; started again it has the same data."""

    def __init__(self, place: Path, kept: Path) -> None:
        """The data begin as a copy of the directory `kept`. Nothing is started yet."""
        super().__init__("MariaDB", place)
        self.port = free_port([ADDRESS])
        self.data = self.directory / "data"
        shutil.copytree(kept, self.data)

    @property
    def url(self) -> str:
        """What Neutron's option `[database] connection` wants."""
        return f"mysql+pymysql://{USER}:{PASSWORD}@{ADDRESS}:{self.port}/{DATABASE}?charset=utf8mb3"

    def start(self) -> None:
        """Start the server, and return when it greets its clients. Fails with its log if it ends instead."""
        # the socket's name is relative to the data, since that of a UNIX socket must be short
        address = [f"--bind-address={ADDRESS}", f"--port={self.port}", "--socket=server.sock", f"--pid-file={self.directory / 'pid'}"]
        self.run([str(system_programs("mariadb") / "mariadbd"), *_options(self.data), *address])
        self.wait_until_ready(self._greets)

    def _greets(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((ADDRESS, self.port), timeout=1.0) as connection:
            return bool(connection.recv(64))
        return False

    def query(self, statements: str) -> list[list[str]]:
        """Run SQL and return the rows of what it selects, every value as text, `NULL` too. Fails with the server's words."""
        command = [str(system_programs("mariadb") / "mariadb"), "--no-defaults", f"--host={ADDRESS}", f"--port={self.port}", f"--user={USER}"]
        command += [f"--password={PASSWORD}", "--batch", "--skip-column-names", DATABASE]
        done = subprocess.run(command, input=statements, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]
