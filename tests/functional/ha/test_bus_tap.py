# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Listening at a real receiver: its consumers lose nothing, and a receiver that goes is noticed."""

from __future__ import annotations

from brokerless.ha.bus.base import Event, HeardReport, HearingBegan, HearingInterrupted
from brokerless.ha.bus.tap import TapBus, TapSettings
from brokerless.rpc.driver.connection import Connection
from brokerless.rpc.json_bodies import encode_request
from brokerless.rpc.topics import parse_topic
from receiver_process import hosts, wait_until

TOPIC = parse_topic("q-reports-plugin")


def report(host: str) -> bytes:
    state = {"host": host, "agent_type": "L3 agent", "binary": "neutron-l3-agent"}
    message = {"method": "report_state", "args": {"agent_state": {"agent_state": state}, "time": "2026-11-21T09:33:30"}, "version": "1.4"}
    return encode_request({"auth_token": "a secret"}, message)


def test_heartbeats_are_heard_and_the_server_gets_them_all() -> None:
    events: list[Event] = []
    with hosts(["control1"]) as (control,):

        def heard() -> list[str]:
            return [event.host for event in list(events) if isinstance(event, HeardReport)]

        def states() -> list[type]:
            return [type(event) for event in list(events) if isinstance(event, HearingBegan | HearingInterrupted)]

        server = Connection(str(control.ipc_directory), control.host, heartbeat=0.2)
        agent = Connection(str(control.ipc_directory), control.host, heartbeat=0.2)
        bus = TapBus(TapSettings(str(control.ipc_directory), control.host, echo_every=0.2, deaf_after=3.0), events.append)
        got: list[bytes] = []
        try:
            server.subscribe([TOPIC], lambda incoming: got.append(incoming.body))
            bus.start()
            wait_until(lambda: states() == [HearingBegan], "the tap hears")
            sent = [f"net{number}" for number in range(1500)]
            for host in sent:
                agent.cast(TOPIC, report(host), 30.0)
            agent.cast(TOPIC, b"no request", 30.0)
            agent.cast(TOPIC, report("last"), 30.0)
            wait_until(lambda: len(got) == len(sent) + 2, "the server got all")
            wait_until(lambda: "last" in heard(), "the tap heard the last")
            assert states() == [HearingBegan], "nothing was missed"
            assert heard() == [*sent, "last"]
            assert "a secret" not in repr(events)
            for number in range(8000):
                agent.cast(TOPIC, report(f"flood{number}"), 30.0)
            agent.cast(TOPIC, report("behind"), 30.0)
            wait_until(lambda: len(got) == len(sent) + 2 + 8001, "the server got all of the flood")
            wait_until(lambda: states()[-1] is HearingBegan and (len(heard()) == len(got) - 1 or len(states()) > 1), "what was missed is known")
            control.kill()
            wait_until(lambda: states()[-1] is HearingInterrupted, "the receiver's death is noticed")
            control.start()
            wait_until(lambda: states()[-1] is HearingBegan, "it is heard again")
            agent.cast(TOPIC, report("after"), 30.0)
            wait_until(lambda: heard()[-1] == "after", "a report after that is heard")
        finally:
            bus.close()
            for connection in (agent, server):
                connection.close(1.0)
