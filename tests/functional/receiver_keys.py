# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Keys for the receivers of tests: each host's own key file, and one allow-list for each host."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from brokerless.rpc.receiver.gatekeeper import new_key_pair
from brokerless.rpc.receiver.keys import OwnKeys, read_own_keys
from receiver_process import Receiver, mesh_of, running, short_directory


class KeyedReceiver(Receiver):
    """A receiver with CURVE on; its keys are made with its files, its allow-list is empty."""

    def __init__(self, directory: Path, host: str = "control1", *rest: Any, **options: Any) -> None:
        self.secret_file = directory / host / "curve.secret"
        self.hosts_directory = directory / host / "curve_hosts"
        own = {"rpc_zmq_curve": True, "rpc_zmq_curve_secret_file": self.secret_file, "rpc_zmq_curve_hosts_dir": self.hosts_directory}
        super().__init__(directory, host, *rest, **(own | options))
        self.hosts_directory.mkdir()
        self.write_own(OwnKeys(new_key_pair()))

    @property
    def own(self) -> OwnKeys:
        """The keys in this host's own file."""
        return read_own_keys(self.secret_file)

    def write_own(self, keys: OwnKeys) -> None:
        """Replace this host's own key file, as a whole."""
        new = self.secret_file.with_suffix(".new")
        new.touch(0o600)
        new.write_text(keys.to_text(), encoding="utf-8")
        new.replace(self.secret_file)

    def allow(self, host: str, *public_keys: str) -> None:
        """Let `host` connect with any of the keys."""
        new = self.hosts_directory / ".new"
        new.write_text("\n".join([*public_keys, ""]), encoding="utf-8")
        new.replace(self.hosts_directory / f"{host}.pub")


def publish(receiver: KeyedReceiver, among: Sequence[KeyedReceiver]) -> None:
    """Write the keys that a host's own file says are to be accepted into the allow-list of each host."""
    for other in among:
        other.allow(receiver.host, *receiver.own.accepted)


@contextlib.contextmanager
def keyed_hosts(names: Sequence[str], ring: Mapping[str, Sequence[str]] | None = None, **options: object) -> Iterator[list[KeyedReceiver]]:
    """As `hosts` of receiver_process, with CURVE; they know each other's keys, too."""
    with short_directory() as directory:
        receivers = mesh_of(KeyedReceiver, directory, names, ring, **options)
        for receiver in receivers:
            publish(receiver, receivers)
        with running(receivers):
            yield receivers
