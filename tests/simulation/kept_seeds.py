# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Seeds that once broke a promise, and what they found.

What a seed means changes with the schedule, so each fault that was found has a unit test as well.
"""

from __future__ import annotations

KEPT_SEEDS: dict[int, str] = {
    2: "a process that came back after its receiver's restart missed the fanouts in between",
    13: "a process whose connection broke before it was told the host sent its message to a second one",
    16: "a receiver that was shut down called a fanout handed over that a slow process had not taken",
    29: "a cast that expired let a later one overtake an earlier one",
    47: "connections of other receivers that were gone were remembered for good",
    58: "a fanout that one process had taken was not given to another after their receiver's restart",
    81: "a message moved to another host while its sender was disconnected, and was sent to the first again",
    89: "a broker that was restarted gave a message to a second host",
    1016: "a fanout that one process took, and for another of which the time was over, was kept for good",
    1109: "a notification that a broker kept was sent again by a process that had not heard of it",
    50231: "a message that a consumer died with was called handed over when it was sent once more",
    1149: "a notification that may have been taken was kept under a new name, and handed over again",
}
