# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Notifications to which nobody listens, with real receivers."""

from __future__ import annotations

from typing import Any

from brokerless.rpc import impl_zmq
from brokerless.rpc.driver.connection import process_connection
from receiver_process import Receiver, hosts, run_python, wait_until

RING = {"notifications-*": ["control1", "listener1"]}


class Listener:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def process_notification(self, _context: object, message: dict[str, Any]) -> None:
        self.heard.append(message["number"])


def listen(receiver: Receiver) -> Listener:
    listener = Listener()
    connection = impl_zmq.create_connection(receiver.conf)
    connection.create_consumer("notifications-info", listener)
    connection.consume_in_thread()
    return listener


def test_they_wait_for_a_listener_though_their_sender_is_gone() -> None:
    sender = """
import sys
from brokerless.rpc import impl_zmq
from brokerless.rpc.options import load_options
conf = load_options([sys.argv[1]])
for number in range(300):
    impl_zmq.notify(conf, {}, "notifications.info", {"number": number})
impl_zmq.cleanup()
"""
    with hosts(["control1", "listener1"], RING) as (control1, listener1):
        done = run_python(sender, control1.config_file)
        assert (done.returncode, done.stderr) == (0, "")
        listener = listen(listener1)
        wait_until(lambda: len(listener.heard) == 300, "all were heard")
        assert sorted(listener.heard) == list(range(300))
        impl_zmq.notify(control1.conf, {}, "notifications.info", {"number": "live"})
        wait_until(lambda: listener.heard[-1] == "live", "a live one is heard at once")


def test_the_oldest_are_dropped_and_that_is_said() -> None:
    with hosts(["control1"], {"notifications-*": ["control1"]}, rpc_zmq_notification_store=10) as (control1,):
        for number in range(25):
            impl_zmq.notify(control1.conf, {}, "notifications.info", {"number": number})
        assert process_connection(control1.conf).settle(30.0) == 0
        listener = listen(control1)
        wait_until(lambda: len(listener.heard) == 10, "those that were kept are heard")
        assert sorted(listener.heard) == list(range(15, 25))
        assert process_connection(control1.conf).inspect("status")["bounds"]["notifications"] == 15
        wait_until(lambda: "a notification for notifications-info was dropped" in control1.log, "that is logged")


def test_they_end_after_their_time() -> None:
    with hosts(["control1"], {"notifications-*": ["control1"]}, rpc_notification_timeout=0.5) as (control1,):
        impl_zmq.notify(control1.conf, {}, "notifications.info", {"number": 1})
        wait_until(lambda: process_connection(control1.conf).inspect("status")["bounds"].get("notifications"), "it ended")
        assert listen(control1).heard == []
