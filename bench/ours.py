# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Ours, as a service uses it: `impl_zmq` in the sending and in the consuming process, over real receivers."""

from __future__ import annotations

from collections.abc import Callable

from brokerless.rpc import impl_zmq
from brokerless.rpc.options import load_options
from measures import Count, Methods, Sender

PATIENCE = 60.0


class OurSender(Sender):
    """The sending process, a service of one host."""

    def __init__(self, config_file: str, topic: str) -> None:
        """Send to `topic`, and its fanouts to the bare one."""
        self._conf = load_options([config_file])
        self._topic = topic

    def caller(self) -> Callable[[str], object]:
        """Return what calls a method that returns its argument."""
        return lambda body: impl_zmq.call(self._conf, {}, self._topic, {"method": "echo", "args": {"value": body}}, timeout=PATIENCE)

    def caster(self) -> Callable[[str], object]:
        """Return what casts to a method that counts."""
        return lambda body: impl_zmq.cast(self._conf, {}, self._topic, {"method": "take", "args": {"value": body}}, timeout=PATIENCE)

    def fanout_caster(self) -> Callable[[str], object]:
        """Return what casts to a method that counts, of every consumer of the bare topic."""
        topic = self._topic.partition(".")[0]
        return lambda body: impl_zmq.fanout_cast(self._conf, {}, topic, {"method": "take", "args": {"value": body}}, timeout=PATIENCE)


class OurConsumer:
    """A consuming process, a service of the same host or another."""

    def __init__(self, config_file: str, topic: str, fanout_only: bool = False) -> None:
        """Consume `topic` and its fanouts."""
        self._counted = Count()
        self._connection = impl_zmq.create_connection(load_options([config_file]))
        proxy = Methods(self._counted)
        if not fanout_only:
            self._connection.create_consumer(topic, proxy)
        self._connection.create_consumer(topic.partition(".")[0], proxy, fanout=True)
        self._connection.consume_in_thread()

    def count(self) -> tuple[int, float]:
        """Return how many casts and fanouts there were, and when the last one came."""
        return self._counted.read()
