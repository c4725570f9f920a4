# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Keys for the receivers of tests: each host's own key file, and one allow-list for each host."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from brokerless.rpc.driver.connection import close_connections
from brokerless.rpc.receiver.gatekeeper import new_key_pair
from brokerless.rpc.receiver.keys import OwnKeys, read_own_keys
from receiver_process import Receiver, free_port, short_directory


class KeyedReceiver(Receiver):
    """A receiver with CURVE on; its keys are made with its files, its allow-list is empty."""

    def __init__(
        self,
        directory: Path,
        host: str = "control1",
        address: str = "127.0.0.1",
        port: int | None = None,
        ring: Mapping[str, Sequence[str]] | None = None,
        **options: object,
    ) -> None:
        self.secret_file = directory / host / "curve.secret"
        self.hosts_directory = directory / host / "curve_hosts"
        own = {"rpc_zmq_curve": True, "rpc_zmq_curve_secret_file": self.secret_file, "rpc_zmq_curve_hosts_dir": self.hosts_directory}
        super().__init__(directory, host, address, port, ring, **(own | options))
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
    """Start one receiver with CURVE for each name, on loopback addresses 127.0.1.1 and up, that know each other's addresses and keys."""
    addresses = {name: f"127.0.1.{number}" for number, name in enumerate(names, start=1)}
    port = free_port(list(addresses.values()))
    known = ",".join(f"{name}:{address}" for name, address in addresses.items())
    with short_directory() as directory, contextlib.ExitStack() as running:
        receivers = [
            KeyedReceiver(directory, name, address, port, ring, rpc_zmq_host_addresses=known, **options) for name, address in addresses.items()
        ]
        for receiver in receivers:
            publish(receiver, receivers)
        for receiver in receivers:
            running.enter_context(receiver)
        # The links of the test's own process end first, while there is someone to say goodbye to.
        running.callback(close_connections)
        yield receivers
