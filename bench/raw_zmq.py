# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Rivals: pyzmq alone, with a socket for each sending thread, no serialisation and no dispatch, directly or through forwarding processes.

They promise nothing: what is under way when a process ends is lost, and nobody is told.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import zmq
from measures import Count, Sender


@dataclass(frozen=True)
class Places:
    """The endpoints at which whoever is next takes calls and casts."""

    calls: str
    casts: str


class RawSender(Sender):
    """The sending process."""

    def __init__(self, places: Places, fanouts: str, subscribers: int) -> None:
        """Send calls and casts to `places`; publish fanouts at an endpoint, to that many subscribers."""
        self._places = places
        self._fanouts = fanouts
        self._subscribers = subscribers
        self._context = zmq.Context()
        self._made: list[zmq.Socket[bytes]] = []
        """What a thread leaves behind stays open, so that nothing is dropped that is under way."""

    def _connected(self, kind: int, place: str) -> zmq.Socket[bytes]:
        made = self._context.socket(kind)
        made.setsockopt(zmq.LINGER, -1 if kind == zmq.PUSH else 0)
        made.connect(place)
        self._made.append(made)
        return made

    def caller(self) -> Callable[[str], object]:
        """Return what sends a body and waits until it comes back."""
        requests = self._connected(zmq.REQ, self._places.calls)

        def call(body: str) -> bytes:
            requests.send(body.encode())
            return requests.recv()

        return call

    def caster(self) -> Callable[[str], object]:
        """Return what sends a body; it waits while libzmq's queues are full."""
        pushes = self._connected(zmq.PUSH, self._places.casts)
        return lambda body: pushes.send(body.encode())

    def fanout_caster(self) -> Callable[[str], object]:
        """Return what publishes a body, once all subscribers are there."""
        publisher = self._context.socket(zmq.XPUB)
        publisher.setsockopt(zmq.SNDHWM, 0)
        publisher.setsockopt(zmq.XPUB_VERBOSE, 1)
        publisher.bind(self._fanouts)
        for _subscriber in range(self._subscribers):
            publisher.recv()
        return lambda body: publisher.send(body.encode())


class RawConsumer:
    """A consuming process: answers calls, and counts casts and fanouts."""

    def __init__(self, places: Places | None, fanouts: str) -> None:
        """Serve at `places`, if there are any, and subscribe to the fanouts that are published at an endpoint."""
        self._counted = Count()
        self._ready = threading.Event()
        threading.Thread(target=self._run, args=(places, fanouts), daemon=True).start()
        self._ready.wait()

    def count(self) -> tuple[int, float]:
        """Return how many casts and fanouts there were, and when the last one came."""
        return self._counted.read()

    def _run(self, places: Places | None, fanouts: str) -> None:
        context = zmq.Context()
        calls, casts, subscribed = (context.socket(kind) for kind in (zmq.ROUTER, zmq.PULL, zmq.SUB))
        subscribed.setsockopt(zmq.SUBSCRIBE, b"")
        subscribed.setsockopt(zmq.RCVHWM, 0)
        subscribed.setsockopt(zmq.RECONNECT_IVL, 20)
        subscribed.connect(fanouts)
        if places is not None:
            calls.bind(places.calls)
            casts.bind(places.casts)
        poller = zmq.Poller()
        for readable in (calls, casts, subscribed):
            poller.register(readable, zmq.POLLIN)
        self._ready.set()
        while True:
            for readable, _event in poller.poll():
                if readable is calls:
                    _pass_on(calls, calls)
                else:
                    _each(readable, lambda _frames: self._counted.one())


class Forwarder:
    """A forwarding process written in Python: takes at one pair of places and sends to the next."""

    def __init__(self, here: Places, there: Places) -> None:
        """Forward from now on."""
        ready = threading.Event()
        threading.Thread(target=self._run, args=(here, there, ready), daemon=True).start()
        ready.wait()

    @staticmethod
    def _run(here: Places, there: Places, ready: threading.Event) -> None:
        context = zmq.Context()
        front, back, pulled, pushed = (context.socket(kind) for kind in (zmq.ROUTER, zmq.DEALER, zmq.PULL, zmq.PUSH))
        front.bind(here.calls)
        back.connect(there.calls)
        pulled.bind(here.casts)
        pushed.connect(there.casts)
        onward = {front: back, back: front, pulled: pushed}
        poller = zmq.Poller()
        for readable in onward:
            poller.register(readable, zmq.POLLIN)
        ready.set()
        while True:
            for readable, _event in poller.poll():
                _pass_on(readable, onward[readable])


class CompiledProxy:
    """A forwarding process for casts that is libzmq's own `zmq_proxy`, written in C++."""

    def __init__(self, here: Places, there: Places) -> None:
        """Forward from now on."""
        context = zmq.Context()
        pulled, pushed = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        pulled.bind(here.casts)
        pushed.connect(there.casts)
        threading.Thread(target=zmq.proxy, args=(pulled, pushed), daemon=True).start()


def _each(readable: zmq.Socket[bytes], handle: Callable[[list[bytes]], object]) -> None:
    """Handle all messages that are there."""
    try:
        while True:
            handle(readable.recv_multipart(zmq.NOBLOCK))
    except zmq.Again:
        return


def _pass_on(readable: zmq.Socket[bytes], writable: zmq.Socket[bytes]) -> None:
    _each(readable, writable.send_multipart)
