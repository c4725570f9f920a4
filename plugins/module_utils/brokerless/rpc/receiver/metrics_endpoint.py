# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""A daemon's figures for Prometheus, over HTTP on an address of the host's own; and which metrics show those of a receiver.

The thread that answers HTTP never looks into the core, which the loop changes meanwhile. It asks the loop for a copy of the figures and waits. So
they are exact, a daemon that nobody scrapes has no work with it, and a loop that hangs shows as a scrape that fails, not as figures that stand
still. One thread answers one request at a time, however many come.
"""

from __future__ import annotations

import ipaddress
import itertools
import queue
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from ...soft_import import soft_import
from .bind_addresses import BindError
from .figures import BUCKETS

if TYPE_CHECKING:
    import prometheus_client
    from prometheus_client import core as families
    from prometheus_client import registry
else:
    prometheus_client = soft_import("prometheus_client", "prometheus_client")
    families = soft_import("prometheus_client.core", "prometheus_client")
    registry = soft_import("prometheus_client.registry", "prometheus_client")

ANSWER_SECONDS = 5.0
"""How long the loop may take to give its figures."""
REQUEST_SECONDS = 1.0
"""How long a client may take to say what it wants; others wait meanwhile."""

_ENDS = [*(str(bound) for bound in BUCKETS), "+Inf"]
_GAUGES = {
    "services": "Processes of this host that are connected.",
    "consumers": "Addresses that processes of this host consume, counted once for each process.",
    "in_hand": "Messages that consumers have and have not accepted yet.",
    "credit": "Messages that consumers can take beyond those that they have.",
    "links": "Connections that other hosts' receivers made.",
    "ring_hosts": "Hosts that the MatchMaker knows.",
    "ring_faulty": "1 if the ring could not be read anew and an older one is in use.",
}
_COUNTERS = {
    "refused": ("refused_messages", "Messages that were no messages of the protocol, or not for a receiver."),
    "refused_connections": ("refused_connections", "Connections without an allowed key, and messages of those that were cut off."),
    "tap_copies": ("tap_copies", "Copies of messages that processes of this host got who listen only."),
    "tap_lost": ("tap_lost_copies", "Copies that they missed since they were slow."),
    "ring_reload_errors": ("ring_reload_errors", "Rings that could not be read."),
}


Shown: TypeAlias = Callable[[Mapping[str, Any]], Iterable["families.Metric"]]
"""The metrics that show a daemon's figures."""


class NotAnswered(Exception):
    """The daemon's loop did not give its figures in time."""


class FiguresDesk:
    """Where other threads ask the loop for its figures."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` makes the loop call `answer` soon; it may be called from any thread."""
        self._wake = wake
        self._asked: deque[queue.SimpleQueue[dict[str, Any] | None]] = deque()
        self._closed = False

    def ask(self) -> dict[str, Any]:
        """Return the figures, asked of the loop by another thread. Raises `NotAnswered`."""
        answer: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._asked.append(answer)
        self._wake()
        try:
            figures = None if self._closed else answer.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            raise NotAnswered(f"the daemon has not answered for {ANSWER_SECONDS:g} s") from None
        if figures is None:
            raise NotAnswered("the daemon is shutting down")
        return figures

    def answer(self, figures: Callable[[], dict[str, Any]]) -> None:
        """Give the figures to all who asked; called by the loop."""
        if not self._asked:
            return
        made = figures()
        while self._asked:
            self._asked.popleft().put(made)

    def close(self) -> None:
        """Let nobody wait any more; called by the loop when it has ended."""
        self._closed = True
        while self._asked:
            self._asked.popleft().put(None)


def metric_families(figures: Mapping[str, Any], labels: Mapping[str, str], started_at: float) -> Iterator[families.Metric]:
    """Yield the metrics that show `figures`, as `ReceiverCore.figures` returns them; `labels` are what is built in, `started_at` is UNIX time."""
    yield families.InfoMetricFamily("brokerless_build", "What runs.", value=dict(labels))
    yield families.GaugeMetricFamily("brokerless_start_time_seconds", "When the receiver was started, in UNIX time.", value=started_at)
    messages = families.CounterMetricFamily(
        "brokerless_messages", "Messages that came to an outcome, on the sending and on the receiving side.", labels=["side", "kind", "outcome"]
    )
    for row in figures["messages"]:
        messages.add_metric([row["side"], row["kind"], row["outcome"]], row["count"])
    yield messages
    counters = figures["counters"]
    for name, explained in (("", "Messages"), ("bytes_", "Bytes of messages' bodies")):
        family = families.CounterMetricFamily(
            "brokerless_body_bytes" if name else "brokerless_received_messages", f"{explained} that came in, by who brought them.", labels=["source"]
        )
        for source in ("services", "peers"):
            family.add_metric([source], counters[f"{name}from_{source}"])
        yield family
    for name, (metric, explained) in _COUNTERS.items():
        yield families.CounterMetricFamily(f"brokerless_{metric}", explained, value=counters[name])
    stages = families.HistogramMetricFamily("brokerless_stage_seconds", "Seconds that messages spent in each stage.", labels=["stage"])
    for stage, histogram in figures["seconds"].items():
        buckets = list(zip(_ENDS, itertools.accumulate(histogram["buckets"]), strict=True))
        stages.add_metric([stage], buckets, histogram["sum"])
    yield stages
    for name, key, label, explained in (
        ("bound_hits", "bounds", "bound", "How often what came in hit a bound."),
        ("waiting_messages", "waiting", "reason", "Messages that wait, by the reason."),
        ("queue_messages", "depths", "address", "Messages that wait for the deepest addresses that were consumed here, and for all others."),
        ("peers", "peer_states", "state", "Other hosts' receivers that this one knows, by the state of its connection to them."),
    ):
        kind = families.CounterMetricFamily if key == "bounds" else families.GaugeMetricFamily
        labelled = kind(f"brokerless_{name}", explained, labels=[label])
        for value, number in figures[key].items():
            labelled.add_metric([value], number)
        yield labelled
    for name, explained in _GAUGES.items():
        yield families.GaugeMetricFamily(f"brokerless_{name}", explained, value=figures["gauges"][name])


class _Collector:
    """What a registry asks; made once, asked at each scrape."""

    def __init__(self, desk: FiguresDesk, shown: Shown) -> None:
        self._desk = desk
        self._shown = shown

    def collect(self) -> Iterable[families.Metric]:
        """Return the metrics as they are now. Raises `NotAnswered`."""
        return self._shown(self._desk.ask())


class _QuietHandler(WSGIRequestHandler):
    """Logs no request, and waits for none longer than `timeout` seconds."""

    timeout = REQUEST_SECONDS

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""


class _Server(WSGIServer):
    """As the base class, except that a client that breaks off is no news."""

    def server_bind(self) -> None:
        """Bind without asking the resolver for our own name, as the base class does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, _request: object, _client: object) -> None:
        """Say nothing."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class MetricsEndpoint:
    """Answers HTTP on an address and port, in a thread of its own, until it is closed."""

    def __init__(self, address: str, port: int, desk: FiguresDesk, shown: Shown, options: str = "rpc_zmq_metrics_") -> None:
        """Raises `BindError`, which names the options that begin with `options`, if it can't listen there."""
        self._desk = desk
        prometheus = registry.CollectorRegistry()
        prometheus.register(_Collector(desk, shown))
        prometheus_client.ProcessCollector(registry=prometheus)
        exposed = prometheus_client.make_wsgi_app(prometheus)

        def application(environ: Any, start_response: Any) -> Iterable[bytes]:
            try:
                answer: Iterable[bytes] = exposed(environ, start_response)
            except NotAnswered as error:
                start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
                return [f"{error}\n".encode()]
            return answer

        try:
            kind = _Server6 if ipaddress.ip_address(address).version == 6 else _Server
            self._server = make_server(address, port, application, kind, _QuietHandler)
        except ValueError as error:
            raise BindError(f"{options}address {address!r} is not an IPv4 or IPv6 address") from error
        except OSError as error:
            raise BindError(f"can't show metrics on {address} port {port}: {error.strerror} ({options}address, {options}port)") from error
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="metrics", daemon=True).start()

    def close(self) -> None:
        """Answer nobody any more."""
        self._desk.close()
        self._server.shutdown()
        self._server.server_close()
