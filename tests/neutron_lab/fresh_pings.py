# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Ping ten times a second, each time as a new flow, and print the time of each answer: `python fresh_pings.py TARGET`, in a namespace.

A router translates all packets of a flow as it did the first one. `ping` is one flow as long as it runs, and may stay unanswered for ever.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import struct
import sys
import time

INTERVAL = 0.1
ECHO_REPLY, ECHO_REQUEST = 0, 8
PAYLOAD = b"a flow of its own   "


def request(identifier: int) -> bytes:
    """Return an echo request (RFC 792)."""

    def packet(checksum: int) -> bytes:
        return struct.pack("!BBHHH", ECHO_REQUEST, 0, checksum, identifier, 1) + PAYLOAD

    words = sum(struct.unpack(f"!{len(packet(0)) // 2}H", packet(0)))
    words = (words >> 16) + (words & 0xFFFF)
    return packet(~(words + (words >> 16)) & 0xFFFF)


def main() -> None:
    """Ping until killed."""
    target = sys.argv[1]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as ours:
        began = time.monotonic()
        for number in itertools.count(1):
            with contextlib.suppress(OSError):
                ours.sendto(request((os.getpid() + number) % 65536), (target, 0))
            while (left := began + number * INTERVAL - time.monotonic()) > 0:
                if select.select([ours], [], [], left)[0]:
                    packet = ours.recv(1500)
                    message = packet[(packet[0] & 15) * 4 :]
                    if message[0] == ECHO_REPLY and message.endswith(PAYLOAD):
                        sys.stdout.write(f"{time.time():.3f}\n")
                        sys.stdout.flush()


if __name__ == "__main__":
    main()
