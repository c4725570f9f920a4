# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Who is compared: each is a sending process, what lies between, and consuming processes, all on this machine."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from oslo import OsloConsumer, OsloSender, packages_of
from ours import OurConsumer, OurSender
from rabbitmq import RabbitmqConsumer, RabbitmqSender
from rabbitmq_server import RabbitmqServer
from raw_zmq import CompiledProxy, Forwarder, Places, RawConsumer, RawSender
from receiver_keys import keyed_hosts
from receiver_process import Receiver, hosts, short_directory
from upstream_suite import VERSIONS, environment
from worker_process import Worker

FANOUT_CONSUMERS = 10
OSLO_RABBIT = "oslo.messaging, rabbit://"
TOPIC = "bench"


@dataclass(frozen=True)
class Contender:
    """A contender that is running. `rival` names the one that it is compared with, empty for a rival; `does` says what can be measured of it.

    The first of the consumers gets calls and casts, all of them get fanouts.
    """

    name: str
    rival: str
    sender: Worker
    consumers: list[Worker]
    does: frozenset[str] = frozenset({"calls", "casts", "fanouts"})
    between: tuple[int, ...] = ()
    """The process ids of the broker, or of the receivers, whose memory is compared."""


def contenders(running: contextlib.ExitStack, only: Callable[[str], bool]) -> list[Contender]:
    """Start those whose names `only` lets through; they end with `running`."""
    directory = running.enter_context(short_directory())
    numbers = itertools.count()
    made: list[Contender] = []

    def raw(name: str, forwarders: int, forward: Callable[[Places, Places], object] = Forwarder, does: str = "calls casts") -> None:
        if only(name):
            places = [_places(directory, next(numbers)) for _place in range(forwarders + 1)]
            made.append(_raw(running, name, places, forward, frozenset(does.split())))

    raw("pyzmq, direct", 0, does="calls casts fanouts")
    raw("pyzmq, 1 Python forwarder", 1)
    raw("pyzmq, 2 Python forwarders", 2)
    raw("zmq_proxy (C++)", 1, CompiledProxy, "casts")
    if only("RabbitMQ, confirmed"):
        broker = running.enter_context(RabbitmqServer())
        consumers = [running.enter_context(Worker(RabbitmqConsumer, broker.url, bool(number))) for number in range(FANOUT_CONSUMERS)]
        made.append(Contender("RabbitMQ, confirmed", "", running.enter_context(Worker(RabbitmqSender, broker.url)), consumers, between=(broker.pid,)))
    if only("ours, 1 receiver"):
        (alone,) = running.enter_context(hosts(["alone"]))
        made.append(_ours(running, "ours, 1 receiver", "pyzmq, 1 Python forwarder", f"{TOPIC}.alone", [alone]))
    if only("ours, 2 receivers"):
        pair = running.enter_context(hosts(["control1", "compute1"], ring={TOPIC: ["compute1"]}))
        made.append(_ours(running, "ours, 2 receivers", "pyzmq, 2 Python forwarders", f"{TOPIC}.compute1", pair))
        sender = running.enter_context(Worker(OurSender, str(pair[0].config_file), TOPIC))
        does = frozenset({"calls", "casts"})
        made.append(Contender("ours, 2 receivers, bare topic", "pyzmq, 2 Python forwarders", sender, made[-1].consumers[:1], does))
    if only("ours, 2 receivers, CURVE"):
        keyed = running.enter_context(keyed_hosts(["control1", "compute1"], ring={TOPIC: ["compute1"]}))
        made.append(_ours(running, "ours, 2 receivers, CURVE", "pyzmq, 2 Python forwarders", f"{TOPIC}.compute1", list(keyed)))
    made += _oslo(running, only)
    return made


def _oslo(running: contextlib.ExitStack, only: Callable[[str], bool]) -> Iterator[Contender]:
    """Start those that go by oslo.messaging: the same program, over another URL."""

    def contender(name: str, rival: str, urls: Sequence[str], between: Sequence[int]) -> Contender:
        packages = packages_of(environment(VERSIONS[0]))
        consumers = [running.enter_context(Worker(OsloConsumer, packages, urls[-1], f"s{number}")) for number in range(FANOUT_CONSUMERS)]
        return Contender(name, rival, running.enter_context(Worker(OsloSender, packages, urls[0])), consumers, between=tuple(between))

    if only(OSLO_RABBIT):
        broker = running.enter_context(RabbitmqServer())
        yield contender(OSLO_RABBIT, "", [broker.url.replace("amqp://", "rabbit://").removesuffix("/")], [broker.pid])
    for name, names in (("oslo.messaging, zmq://, 1 receiver", ["control1"]), ("oslo.messaging, zmq://, 2 receivers", ["control1", "compute1"])):
        if only(name):
            receivers = running.enter_context(hosts(names, ring={TOPIC: names}, rpc_zmq_matchmaker="mesh"))
            urls = [f"zmq:///?rpc_zmq_ipc_dir={receiver.ipc_directory}&rpc_zmq_host={receiver.host}" for receiver in receivers]
            yield contender(name, OSLO_RABBIT, urls, [receiver.pid for receiver in receivers])


def _places(directory: Path, number: int) -> Places:
    return Places(f"ipc://{directory}/calls{number}", f"ipc://{directory}/casts{number}")


def _raw(
    running: contextlib.ExitStack, name: str, places: list[Places], forward: Callable[[Places, Places], object], does: frozenset[str]
) -> Contender:
    fanouts = places[0].casts + "-fanouts"
    count = FANOUT_CONSUMERS if "fanouts" in does else 1
    consumers = [running.enter_context(Worker(RawConsumer, None if number else places[-1], fanouts)) for number in range(count)]
    for here, there in reversed(list(itertools.pairwise(places))):
        running.enter_context(Worker(forward, here, there))
    return Contender(name, "", running.enter_context(Worker(RawSender, places[0], fanouts, count)), consumers, does)


def _ours(running: contextlib.ExitStack, name: str, rival: str, topic: str, receivers: list[Receiver]) -> Contender:
    here, there = str(receivers[0].config_file), str(receivers[-1].config_file)
    consumers = [running.enter_context(Worker(OurConsumer, there, TOPIC, bool(number))) for number in range(FANOUT_CONSUMERS)]
    return Contender(name, rival, running.enter_context(Worker(OurSender, here, topic)), consumers)
