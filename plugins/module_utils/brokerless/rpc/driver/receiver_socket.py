# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The socket of a service's process to its receiver."""

from __future__ import annotations

import select
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

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
    """A DEALER socket, used by one thread at a time. After a broken connection it is made anew, so that nothing old is sent on the next one."""

    def __init__(self, endpoint: str, wake_fd: int, max_message: int) -> None:
        self._endpoint = endpoint
        self._wake_fd = wake_fd
        self._max_message = max_message
        self._context = zmq.Context()
        self._open()

    def _open(self) -> None:
        self._dealer: Any = self._context.socket(zmq.DEALER)
        self._dealer.setsockopt(zmq.LINGER, 500)
        self._dealer.setsockopt(zmq.SNDHWM, 0)
        self._dealer.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        self._monitor: Any = self._dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self._dealer.connect(self._endpoint)
        self._descriptors: list[Any] = [self._dealer.getsockopt(zmq.FD), self._monitor.getsockopt(zmq.FD), self._wake_fd]
        # eventlet takes poll away where it patched the process, and what it leaves of select lets other greenlets run meanwhile.
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            for descriptor in self._descriptors:
                self._poll.register(descriptor, select.POLLIN)

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

    def wait(self, seconds: float) -> None:
        """Return when there may be messages, when the connection may have changed, or when the wake-up descriptor is readable.

        It touches no socket, so that it alone may run beside the other methods, of which only one may run at a time, in whatever thread. libzmq
        says only once that something is new (zmq_getsockopt(3), ZMQ_FD): before the next `wait`, `readable` must have been False last.
        """
        if self._poll is None:
            select.select(self._descriptors, (), (), max(0.0, seconds))
        else:
            self._poll.poll(int(seconds * 1000) + 1 if seconds > 0 else 0)

    def readable(self) -> bool:
        """Whether there are messages."""
        return bool(self._dealer.getsockopt(zmq.EVENTS) & zmq.POLLIN)

    def read(self) -> Iterable[list[bytes]]:
        """Yield the frames of the messages that are there."""
        for _turn in range(READ_BATCH):
            if not self.readable():
                return
            yield self._dealer.recv_multipart(zmq.NOBLOCK)

    def changes(self) -> Iterable[bool]:
        """Yield what became of the connection: True when it was made, False when it broke."""
        while self._monitor.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            yield monitor.parse_monitor_message(self._monitor.recv_multipart())["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED

    def send(self, frames: list[bytes]) -> None:
        """Send a message; it goes out as soon as there is a connection."""
        self._dealer.send_multipart(frames, zmq.NOBLOCK)
