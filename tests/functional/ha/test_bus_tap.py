# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Listening at a real receiver: its consumers lose nothing, and a receiver that goes is noticed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from brokerless.ha.bus.base import Event, HeardReport, HearingBegan, HearingInterrupted
from brokerless.ha.bus.tap import TapBus, TapSettings
from brokerless.rpc.driver.connection import Connection
from brokerless.rpc.json_bodies import encode_request
from brokerless.rpc.topics import parse_topic
from cloud_double import CloudDouble, report_of
from receiver_process import hosts, wait_until
from rpcdaemon_program import Nursery

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


def test_a_daemon_that_hears_by_a_receiver_needs_no_rabbitmq(tmp_path: Path) -> None:
    """An agent dies, and another one gets its routers; meanwhile Neutron's server gets each report."""
    with hosts(["control1"]) as (control,), CloudDouble({"net1": 3, "net2": 0, "net3": 0}) as cloud, Nursery(tmp_path) as nursery:
        server = Connection(str(control.ipc_directory), control.host, heartbeat=0.2)
        agent = Connection(str(control.ipc_directory), control.host, heartbeat=0.2)
        got: list[bytes] = []
        sent = 0

        def report_until(condition: Callable[[], object], what: str) -> None:
            nonlocal sent

            def holds() -> object:
                nonlocal sent
                for each in cloud.agents():
                    if each["alive"]:
                        agent.cast(TOPIC, encode_request({}, report_of(each)), 30.0)
                        sent += 1
                time.sleep(0.2)
                return condition()

            try:
                wait_until(holds, what, 60.0)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{nursery.log('one')}") from None

        try:
            server.subscribe([TOPIC], lambda incoming: got.append(incoming.body))
            conffile = cloud.conffile(tmp_path / "neutron.conf", agent_down_time=3, report_interval=0.5)
            daemon = {"bus": f"tap:{control.config_file}", "leader": "single", "check_interval": 0.2}
            nursery.start("one", daemon, {"conffile": conffile}, {"mass_failure_share": 0.9, "reconnect_grace": 0})
            report_until(lambda: nursery.log("one").count("-> alive") >= 6, "all agents are alive")
            assert "RabbitMQ: none, so that no command reaches this daemon; heartbeats: tap:" in nursery.log("one")
            cloud.silent.add("net1")
            report_until(lambda: not cloud.hosting["l3-net1"], "nothing is left on the dead agent")
            assert sorted(cloud.hosting["l3-net2"] + cloud.hosting["l3-net3"]) == cloud.legacy
            wait_until(lambda: len(got) == sent, "the server got each report")
        finally:
            for connection in (agent, server):
                connection.close(1.0)
