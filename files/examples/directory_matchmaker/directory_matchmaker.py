# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A MatchMaker of one's own: it reads a directory that holds a file for each host, named like the host, with a topic on each line.

Such a directory is what a configuration management or a shared file system easily keeps up to date:

    /etc/brokerless/hosts.d/compute1    compute
    /etc/brokerless/hosts.d/control1    scheduler
                                        conductor

In the configuration of the receivers:

    rpc_zmq_matchmaker = directory
    rpc_zmq_matchmaker_options = path:/etc/brokerless/hosts.d
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from brokerless.rpc.matchmaker.base import MatchMaker, MatchMakerError, Route, Settings
from brokerless.rpc.topics import Address, TopicError, check_host, check_topic

LOOK_SECONDS = 1.0
MAX_FILES = 10_000
MAX_FILE_BYTES = 64 << 10
"""What comes from outside has bounds."""


def read_directory(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the hosts of each topic. Raises `MatchMakerError`, naming the file and the fault; a file whose name begins with a dot is no host's."""
    hosts_of: dict[str, list[str]] = {}
    try:
        files = sorted(file for file in path.iterdir() if not file.name.startswith("."))
        if len(files) > MAX_FILES:
            raise MatchMakerError(f"directory {path} has {len(files)} files; at most {MAX_FILES} are read")
        for file in files:
            with file.open(encoding="utf-8") as lines:
                for topic in lines.read(MAX_FILE_BYTES).split():
                    hosts_of.setdefault(check_topic(topic), []).append(check_host(file.name))
    except TopicError as error:
        raise MatchMakerError(f"{file}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise MatchMakerError(f"directory {path} can't be read: {error}") from error
    return {topic: tuple(dict.fromkeys(hosts)) for topic, hosts in hosts_of.items()}


class MatchMakerDirectory(MatchMaker):
    """A topic means the hosts in whose files it stands: round robin over them for a bare topic, all of them for a fanout."""

    name: ClassVar[str] = "directory"
    follows: ClassVar[bool] = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        path = settings.options.get("path")
        if not path:
            raise MatchMakerError("MatchMaker directory needs a directory: set rpc_zmq_matchmaker_options = path:/etc/brokerless/hosts.d")
        self._path = Path(path)
        self._topics: Mapping[str, tuple[str, ...]] = read_directory(self._path)
        self._hosts = frozenset[str]().union(*self._topics.values())
        self._problem = ""
        self._end = threading.Event()

    @property
    def source(self) -> str:
        return str(self._path)

    @property
    def problem(self) -> str:
        return self._problem

    def hosts(self) -> frozenset[str]:
        return self._hosts

    def route_bare(self, address: Address) -> Route:
        hosts = self._topics.get(address.topic, ())
        return Route(hosts, problem="" if hosts else f"{self} has no host for topic {address.topic!r}")

    def route_fanout(self, address: Address) -> Route:
        return self.route_bare(address)

    # A thread looks after the source. What routes read, it replaces as a whole.

    def follow(self, changed: Callable[[], None]) -> None:
        threading.Thread(target=self._look, args=(changed,), name="matchmaker-directory", daemon=True).start()

    def close(self) -> None:
        self._end.set()

    def _look(self, changed: Callable[[], None]) -> None:
        while not self._end.wait(LOOK_SECONDS):
            before = (self._topics, self._problem)
            try:
                self._topics, self._problem = read_directory(self._path), ""
            except MatchMakerError as error:
                self._problem = f"{error}; what was read before stays in use"
            if (self._topics, self._problem) != before:
                self._hosts = frozenset[str]().union(*self._topics.values())
                changed()
