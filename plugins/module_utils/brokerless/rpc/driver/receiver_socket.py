# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The socket of a service's process to its receiver."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...soft_import import soft_import

if TYPE_CHECKING:
    import zmq
    from zmq.utils import monitor
else:
    zmq = soft_import("zmq", "pyzmq")
    monitor = soft_import("zmq.utils.monitor", "pyzmq")

READ_BATCH = 200
"""How many messages are read before other things have their turn."""
RECONNECT_MS = 100


class ReceiverSocket:
    """A DEALER socket, owned by one thread. After a broken connection it is made anew, so that nothing old is sent on the next one."""

    def __init__(self, endpoint: str, wake_fd: int, max_message: int) -> None:
        self._endpoint = endpoint
        self._wake_fd = wake_fd
        self._max_message = max_message
        self._context = zmq.Context()
        self._open()

    def _open(self) -> None:
        self._dealer = self._context.socket(zmq.DEALER)
        self._dealer.setsockopt(zmq.LINGER, 500)
        self._dealer.setsockopt(zmq.SNDHWM, 0)
        self._dealer.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        self._monitor = self._dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self._dealer.connect(self._endpoint)
        self._poller = zmq.Poller()
        for readable in (self._dealer, self._monitor, self._wake_fd):
            self._poller.register(readable, zmq.POLLIN)

    def _close_sockets(self, linger: int) -> None:
        self._dealer.disable_monitor()
        self._monitor.close()
        self._dealer.close(linger)

    def reopen(self) -> None:
        """Drop the connection, and what was not sent on it, and begin to make a new one."""
        self._close_sockets(0)
        self._open()

    def close(self) -> None:
        """Send what can be sent at once, and disconnect."""
        self._close_sockets(500)
        self._context.term()

    def poll(self, seconds: float) -> tuple[bool, bool, bool]:
        """Wait; return whether there are messages, whether another thread called, and whether the connection changed."""
        ready = dict(self._poller.poll(int(seconds * 1000) + 1 if seconds > 0 else 0))
        return self._dealer in ready, self._wake_fd in ready, self._monitor in ready

    def read(self) -> Iterable[list[bytes]]:
        """Yield the frames of the messages that are there."""
        for _turn in range(READ_BATCH):
            try:
                yield self._dealer.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return

    def changes(self) -> Iterable[bool]:
        """Yield what became of the connection: True when it was made, False when it broke."""
        while self._monitor.poll(0):
            yield monitor.parse_monitor_message(self._monitor.recv_multipart())["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED

    def send(self, frames: list[bytes]) -> None:
        """Send a message; it goes out as soon as there is a connection."""
        self._dealer.send_multipart(frames, zmq.NOBLOCK)
