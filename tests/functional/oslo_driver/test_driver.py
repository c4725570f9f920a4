# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The driver `zmq://` of oslo.messaging with real receivers: two hosts, each with a transport of its own in this process."""

from __future__ import annotations

import contextlib
import queue
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import oslo_messaging
import pytest
from brokerless.rpc import impl_zmq
from brokerless.rpc.driver.connection import process_connection
from brokerless.rpc.topics import Address
from oslo_config import cfg
from oslo_messaging import RemoteError, Target
from receiver_process import Receiver, hosts, run_python, runtime_environment, wait_until

PATIENCE = 30
FORK_SCRIPT = Path(__file__).parent / "fork_script.py"


def url_of(receiver: Receiver, namespace: str = "", **options: object) -> str:
    """Return the transport URL for a process on the receiver's host."""
    given = {"rpc_zmq_ipc_dir": receiver.ipc_directory, "rpc_zmq_host": receiver.host, "rpc_zmq_heartbeat_interval": 0.2} | options
    return f"zmq:///{namespace}?" + "&".join(f"{name}={value}" for name, value in given.items())


def transport_of(receiver: Receiver, namespace: str = "", **options: object) -> Any:
    return oslo_messaging.get_rpc_transport(cfg.CONF, url_of(receiver, namespace, **options), ["allowed_module"])


def client_of(receiver: Receiver, target: Target, *, namespace: str = "", timeout: float = PATIENCE, **keywords: Any) -> Any:
    return oslo_messaging.get_rpc_client(transport_of(receiver, namespace), target, timeout=timeout, **keywords)


class Endpoint:
    """Methods that a server offers. `heard` is what was cast to it."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.go_on = threading.Event()

    def whoami(self, ctxt: dict[str, Any]) -> str:
        return self.name

    def context(self, ctxt: dict[str, Any]) -> dict[str, Any]:
        assert ctxt.__class__ is dict  # Nova's serialiser takes entries out of it
        return ctxt

    def hear(self, ctxt: dict[str, Any], word: Any) -> None:
        self.heard.put(word)

    def fail(self, ctxt: dict[str, Any]) -> None:
        raise LookupError("no such thing")

    def nothing_json_has(self, ctxt: dict[str, Any]) -> object:
        return {"circle": (circle := []), "closed": circle.append(circle)}

    def much(self, ctxt: dict[str, Any], size: int) -> str:
        return "x" * size

    def take_long(self, ctxt: dict[str, Any]) -> str:
        assert self.go_on.wait(PATIENCE)
        return "done"


@contextlib.contextmanager
def serving(receiver: Receiver, target: Target, endpoint: Endpoint, namespace: str = "") -> Iterator[Any]:
    """Run a server of the target on the receiver's host."""
    server = oslo_messaging.get_rpc_server(transport_of(receiver, namespace), target, [endpoint], executor="threading")
    server.start()
    try:
        yield server
    finally:
        endpoint.go_on.set()
        server.stop()
        server.wait()


@contextlib.contextmanager
def notified(receiver: Receiver, *topics: str, pool: str | None = None, results: Callable[[Any], Any] = lambda _payload: None) -> Iterator[Any]:
    """Run a listener for the topics; what it hears is in the queue that is yielded."""
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()

    class Listening:
        def info(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> Any:
            heard.put(payload)
            return results(payload)

    transport = oslo_messaging.get_notification_transport(cfg.CONF, url_of(receiver))
    targets = [Target(topic=topic) for topic in topics]
    server = oslo_messaging.get_notification_listener(transport, targets, [Listening()], "threading", allow_requeue=True, pool=pool)
    server.start()
    try:
        yield heard
    finally:
        server.stop()
        server.wait()


def notifier_of(receiver: Receiver, topic: str) -> Any:
    transport = oslo_messaging.get_notification_transport(cfg.CONF, url_of(receiver))
    return oslo_messaging.Notifier(transport, "publisher", driver="messagingv2", topics=[topic])


@pytest.fixture(scope="module", autouse=True)
def _configured() -> None:
    cfg.CONF([], project="tests")


@pytest.fixture(scope="module")
def pair() -> Iterator[list[Receiver]]:
    with hosts(["control1", "control2"], ring={"any": ["control1", "control2"]}, rpc_zmq_matchmaker="mesh") as receivers:
        yield receivers


@pytest.fixture
def control1(pair: list[Receiver]) -> Receiver:
    return pair[0]


@pytest.fixture
def control2(pair: list[Receiver]) -> Receiver:
    return pair[1]


@pytest.fixture(autouse=True)
def _no_link_outlives_its_test() -> Iterator[None]:
    yield
    impl_zmq.cleanup()


# --- calls -----------------------------------------------------------------------------------------------------------------------------------


def test_a_call_to_another_host_is_answered(control1: Receiver, control2: Receiver) -> None:
    with serving(control2, Target(topic="compute", server="machine1"), Endpoint("it is me")):
        client = client_of(control1, Target(topic="compute", server="machine1"))
        assert client.call({}, "whoami") == "it is me"
        assert client.call({"request_id": "req-1"}, "context") == {"request_id": "req-1"}


def test_what_a_method_raises_is_raised_at_the_caller(control1: Receiver) -> None:
    with serving(control1, Target(topic="failing", server="s"), Endpoint()):
        client = client_of(control1, Target(topic="failing", server="s"))
        with pytest.raises(LookupError, match="no such thing"):
            client.call({}, "fail")
        with pytest.raises(RemoteError, match="NoSuchMethod"):
            client.call({}, "no_such_method")


def test_a_caller_learns_that_its_answer_can_not_be_sent(control1: Receiver) -> None:
    with serving(control1, Target(topic="odd", server="s"), Endpoint()):
        client = client_of(control1, Target(topic="odd", server="s"))
        with pytest.raises(ValueError, match=r"[Cc]ircular"):
            client.call({}, "nothing_json_has")
        with pytest.raises(RemoteError, match="rpc_zmq_max_message_size"):
            client.call({}, "much", size=(16 << 20) + 1)
        assert len(client.call({}, "much", size=4 << 20)) == 4 << 20


def test_a_call_that_nobody_answers_is_a_timeout_and_nothing_else(control1: Receiver) -> None:
    with pytest.raises(oslo_messaging.MessagingTimeout, match="nobody consumes it"):
        client_of(control1, Target(topic="nowhere", server="s"), timeout=0.3).call({}, "whoami")
    with pytest.raises(oslo_messaging.MessagingTimeout, match="nobody consumes it"):
        client_of(control1, Target(topic="nowhere"), timeout=0.3).call({}, "whoami")


def test_a_target_that_no_address_can_name_is_refused(control1: Receiver) -> None:
    with pytest.raises(oslo_messaging.InvalidTarget, match="255"):
        client_of(control1, Target(topic="x" * 256)).cast({}, "whoami")


def test_a_long_call_goes_on_as_long_as_there_are_signs_of_life(control1: Receiver) -> None:
    endpoint = Endpoint()
    with serving(control1, Target(topic="long", server="s"), endpoint):
        client = client_of(control1, Target(topic="long", server="s"), call_monitor_timeout=2)
        threading.Timer(4.5, endpoint.go_on.set).start()
        assert client.call({}, "take_long") == "done"


def test_a_monitored_call_ends_early_when_its_server_dies(control1: Receiver) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER_SCRIPT, url_of(control1), "mortal"], stdout=subprocess.PIPE, text=True, env=runtime_environment()
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        client = client_of(control1, Target(topic="mortal", server="s"), timeout=3600, call_monitor_timeout=2)
        threading.Timer(0.5, server.kill).start()
        with pytest.raises(oslo_messaging.MessagingTimeout):
            client.call({}, "take_long")


def test_at_least_once_fails_at_once_where_nobody_consumes(control1: Receiver, control2: Receiver) -> None:
    options = oslo_messaging.TransportOptions(at_least_once=True)
    target = Target(topic="mandatory", server="s")
    client = client_of(control1, target, timeout=3600, transport_options=options)
    with pytest.raises(oslo_messaging.MessageUndeliverable):
        client.call({}, "whoami")
    with serving(control2, target, Endpoint("here")):
        wait_until(lambda: _answered(client, "here"), "the call goes through")


def _answered(client: Any, answer: str) -> bool:
    try:
        return bool(client.call({}, "whoami") == answer)
    except oslo_messaging.MessageUndeliverable:
        return False


# --- who gets what ---------------------------------------------------------------------------------------------------------------------------


def test_servers_of_a_topic_take_strict_turns(control1: Receiver) -> None:
    endpoints = [Endpoint(f"s{number}") for number in range(3)]
    with contextlib.ExitStack() as running:
        for endpoint in endpoints:
            running.enter_context(serving(control1, Target(topic="turns", server=endpoint.name), endpoint))
        client = client_of(control1, Target(topic="turns"))
        answers = [client.call({}, "whoami") for _turn in range(9)]
    assert answers[:3] == answers[3:6] == answers[6:]
    assert sorted(answers[:3]) == ["s0", "s1", "s2"]


def test_hosts_of_a_topic_take_turns(control1: Receiver, control2: Receiver) -> None:
    with (
        serving(control1, Target(topic="shared", server="one"), Endpoint("one")),
        serving(control2, Target(topic="shared", server="two"), Endpoint("two")),
    ):
        client = client_of(control1, Target(topic="shared"))
        wait_until(lambda: {client.call({}, "whoami"), client.call({}, "whoami")} == {"one", "two"}, "both hosts are known")
        assert Counter(client.call({}, "whoami") for _turn in range(10)) == {"one": 5, "two": 5}


def test_the_same_server_in_several_processes_takes_turns(control1: Receiver) -> None:
    with (
        serving(control1, Target(topic="workers", server="s"), Endpoint("one")),
        serving(control1, Target(topic="workers", server="s"), Endpoint("two")),
    ):
        client = client_of(control1, Target(topic="workers", server="s"))
        assert Counter(client.call({}, "whoami") for _turn in range(10)) == {"one": 5, "two": 5}


def test_a_fanout_reaches_every_server_of_its_exchange_and_namespace_once_and_no_other(control1: Receiver, control2: Receiver) -> None:
    insiders = [Endpoint(), Endpoint(), Endpoint()]
    other_exchange, other_namespace = Endpoint(), Endpoint()
    with (
        serving(control1, Target(topic="fan", server="a"), insiders[0]),
        serving(control1, Target(topic="fan", server="b"), insiders[1]),
        serving(control2, Target(topic="fan", server="c"), insiders[2]),
        serving(control2, Target(topic="fan", server="a", exchange="elsewhere"), other_exchange),
        serving(control2, Target(topic="fan", server="a"), other_namespace, namespace="cell2"),
    ):
        clients = [
            client_of(control1, Target(topic="fan")),
            client_of(control1, Target(topic="fan", exchange="elsewhere")),
            client_of(control1, Target(topic="fan"), namespace="cell2"),
        ]
        for client in clients:
            wait_until(lambda client=client: _is_reachable(client), "the server is known")
        for number, client in enumerate(clients):
            client.prepare(fanout=True).cast({}, "hear", word=number)
            client.prepare(fanout=True).cast({}, "hear", word="end")
        for endpoint, word in [*((insider, 0) for insider in insiders), (other_exchange, 1), (other_namespace, 2)]:
            assert [endpoint.heard.get(timeout=PATIENCE), endpoint.heard.get(timeout=PATIENCE)] == [word, "end"]
            assert endpoint.heard.empty()


def _is_reachable(client: Any) -> bool:
    try:
        client.prepare(timeout=1).call({}, "whoami")
    except oslo_messaging.MessagingTimeout:
        return False
    return True


def test_a_topic_with_a_dot_is_not_a_server(control1: Receiver) -> None:
    dotted, directed = Endpoint("topic a.b"), Endpoint("server b of a")
    with serving(control1, Target(topic="a.b", server="x"), dotted), serving(control1, Target(topic="a", server="b"), directed):
        assert [client_of(control1, Target(topic="a.b")).call({}, "whoami") for _turn in range(3)] == ["topic a.b"] * 3
        assert [client_of(control1, Target(topic="a", server="b")).call({}, "whoami") for _turn in range(3)] == ["server b of a"] * 3


def test_names_may_have_any_character(control1: Receiver) -> None:
    target = Target(exchange="Müller & Söhne", topic="../a topic/with %2F", server="*")
    with serving(control1, target, Endpoint("odd"), namespace="/cell 1"):
        assert client_of(control1, target, namespace="/cell 1").call({}, "whoami") == "odd"


def test_to_stop_one_server_disturbs_no_other(control1: Receiver) -> None:
    with serving(control1, Target(topic="compute-alt", server="s"), Endpoint("alt")):
        with serving(control1, Target(topic="compute", server="s"), Endpoint("main")):
            assert client_of(control1, Target(topic="compute", server="s")).call({}, "whoami") == "main"
        assert client_of(control1, Target(topic="compute-alt", server="s")).call({}, "whoami") == "alt"
        with pytest.raises(oslo_messaging.MessagingTimeout):
            client_of(control1, Target(topic="compute", server="s"), timeout=0.2).call({}, "whoami")


# --- what is away ----------------------------------------------------------------------------------------------------------------------------


def test_casts_wait_in_order_for_a_server_that_is_restarted(control1: Receiver, control2: Receiver) -> None:
    target = Target(topic="restarted", server="s")
    with serving(control2, target, Endpoint("first")):
        client = client_of(control1, target)
        assert client.call({}, "whoami") == "first"
    for word in range(10):
        client.cast({}, "hear", word=word)
    endpoint = Endpoint()
    server = oslo_messaging.get_rpc_server(transport_of(control2), target, [endpoint], executor="threading")
    server.start(override_pool_size=1)
    assert [endpoint.heard.get(timeout=PATIENCE) for _turn in range(10)] == list(range(10))
    server.stop()
    server.wait()


def test_casts_and_servers_outlive_the_receiver() -> None:
    with hosts(["alone"], ring={"any": ["alone"]}, rpc_zmq_matchmaker="mesh") as (alone,):
        endpoint = Endpoint("still here")
        with serving(alone, Target(topic="lasting", server="s"), endpoint):
            client = client_of(alone, Target(topic="lasting", server="s"))
            assert client.call({}, "whoami") == "still here"
            alone.kill()
            for word in range(5):
                client.cast({}, "hear", word=word)
            with pytest.raises(oslo_messaging.MessagingTimeout, match="receiver"):
                client.prepare(timeout=0.3).call({}, "whoami")
            with pytest.raises(oslo_messaging.MessageDeliveryFailure, match="receiver"):
                client.prepare(retry=0).cast({}, "hear", word="never")
            alone.start()
            assert [endpoint.heard.get(timeout=PATIENCE) for _turn in range(5)] == list(range(5))
            assert client.call({}, "whoami") == "still here"
            client.prepare(retry=3).cast({}, "hear", word="again")
            assert endpoint.heard.get(timeout=PATIENCE) == "again"


SERVER_SCRIPT = """
import os, sys, threading
from oslo_service import backend
backend.init_backend(backend.BackendType.THREADING)
import oslo_messaging
from oslo_config import cfg
cfg.CONF([], project="tests")
class Endpoint:
    def take_long(self, ctxt):
        threading.Event().wait(60)
    def exit(self, ctxt):
        os._exit(0)
transport = oslo_messaging.get_rpc_transport(cfg.CONF, sys.argv[1])
server = oslo_messaging.get_rpc_server(transport, oslo_messaging.Target(topic=sys.argv[2], server="s"), [Endpoint()], executor="threading")
server.start()
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_server_that_ends_at_once_leaves_no_ghost(control1: Receiver, control2: Receiver) -> None:
    """nova-compute ends with os._exit, so that nothing is stopped or cleaned up; what is cast to it then waits for the next one."""
    arguments = [sys.executable, "-c", SERVER_SCRIPT, url_of(control2), "leaving"]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=runtime_environment()) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        client = client_of(control1, Target(topic="leaving", server="s"))
        client.cast({}, "exit")
        assert server.wait(PATIENCE) == 0
    address = Address("leaving", "s", exchange="openstack")
    wait_until(lambda: not process_connection(control1.conf).consumers(address).hosts, "the other host's receiver, too, knows that it is gone")
    endpoint = Endpoint("next")
    client.cast({}, "hear", word="late")
    with serving(control2, Target(topic="leaving", server="s"), endpoint):
        assert endpoint.heard.get(timeout=PATIENCE) == "late"
        assert [client.call({}, "whoami") for _turn in range(4)] == ["next"] * 4


@pytest.mark.parametrize("fork", ["os.fork", "fork(3)"])
def test_a_transport_that_was_used_before_a_fork_works_on_both_sides(control1: Receiver, fork: str) -> None:
    """Also where C code forks and calls no hooks of Python's, as uWSGI does."""
    # Few heartbeats: the script waits for a moment in which the connection's thread rests.
    command = [sys.executable, str(FORK_SCRIPT), url_of(control1, rpc_zmq_heartbeat_interval=2), "pre", fork]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 2, env=runtime_environment(), check=False)
    said = [re.sub(r"ok.*", "ok", line) for line in done.stdout.splitlines()[1:]]
    assert sorted(said) == [f"{who} call {number} ok" for who in ("child ", "parent") for number in range(2)], done.stdout + done.stderr


def test_eventlet_is_not_needed_and_never_imported(control1: Receiver) -> None:
    """Nova 34 makes every import of eventlet fail where it runs with threads."""
    script = f"""
import sys
class Poison:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "eventlet":
            raise ImportError("poisoned")
sys.meta_path.insert(0, Poison())
from oslo_service import backend
backend.init_backend(backend.BackendType.THREADING)
import oslo_messaging
from oslo_config import cfg
cfg.CONF([], project="tests")
class Endpoint:
    def whoami(self, ctxt):
        return "poisoned"
transport = oslo_messaging.get_rpc_transport(cfg.CONF, {url_of(control1)!r})
target = oslo_messaging.Target(topic="poisoned", server="s")
server = oslo_messaging.get_rpc_server(transport, target, [Endpoint()])
server.start()
print(oslo_messaging.get_rpc_client(transport, target, timeout=20).call({{}}, "whoami"), "eventlet" in sys.modules)
server.stop()
server.wait()
"""
    done = run_python(script)
    assert done.stdout == "poisoned False\n", done.stderr


# --- notifications ---------------------------------------------------------------------------------------------------------------------------


def test_a_notification_waits_for_a_listener(control1: Receiver) -> None:
    notifier_of(control1, "early").info({}, "event", {"number": 1})
    with notified(control1, "early") as heard:
        assert heard.get(timeout=PATIENCE) == {"number": 1}


def test_each_pool_gets_one_copy_of_a_notification_and_the_others_share_one(control1: Receiver, control2: Receiver) -> None:
    notifier = notifier_of(control1, "pooled")
    with (
        notified(control1, "pooled") as plain1,
        notified(control2, "pooled") as plain2,
        notified(control1, "pooled", pool="p") as pool1,
        notified(control2, "pooled", pool="p") as pool2,
        notified(control2, "pooled", pool="q") as other,
    ):
        sent: list[int] = []

        def all_pools_hear() -> bool:
            sent.append(len(sent))
            notifier.info({}, "event", sent[-1])
            with contextlib.suppress(queue.Empty):
                while other.get(timeout=0.5) != sent[-1]:
                    pass
                return True
            return False

        wait_until(all_pools_hear, "the pools are known")
        for number in range(100, 120):
            notifier.info({}, "event", number)
        assert [other.get(timeout=PATIENCE) for _turn in range(20)] == list(range(100, 120))
        wait_until(lambda: plain1.qsize() + plain2.qsize() >= 20 + len(sent), "all who have no pool share one copy")
        assert sorted(_all(plain1) + _all(plain2)) == [*sent, *range(100, 120)]
        wait_until(lambda: pool1.qsize() + pool2.qsize() >= 20, "pool p shares one copy")
        assert [number for number in sorted(_all(pool1) + _all(pool2)) if number >= 100] == list(range(100, 120))


def _all(heard: queue.SimpleQueue[Any]) -> list[Any]:
    return [heard.get() for _turn in range(heard.qsize())]


def test_a_notification_that_is_given_back_comes_again(control1: Receiver) -> None:
    answers = iter([oslo_messaging.NotificationResult.REQUEUE, oslo_messaging.NotificationResult.HANDLED])
    with notified(control1, "again", results=lambda _payload: next(answers)) as heard:
        notifier_of(control1, "again").info({}, "event", "once more")
        assert [heard.get(timeout=PATIENCE), heard.get(timeout=PATIENCE)] == ["once more"] * 2


def test_notifications_come_in_batches(control1: Receiver) -> None:
    batches: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()

    class Listening:
        def info(self, messages: list[Any]) -> None:
            batches.put([message["payload"] for message in messages])

    transport = oslo_messaging.get_notification_transport(cfg.CONF, url_of(control1))
    server = oslo_messaging.get_batch_notification_listener(
        transport, [Target(topic="batches")], [Listening()], "threading", batch_size=10, batch_timeout=1
    )
    server.start()
    notifier = notifier_of(control1, "batches")
    for number in range(25):
        notifier.info({}, "event", number)
    assert [batches.get(timeout=PATIENCE) for _turn in range(3)] == [list(range(10)), list(range(10, 20)), list(range(20, 25))]
    server.stop()
    server.wait()


# --- options ---------------------------------------------------------------------------------------------------------------------------------


def test_a_transport_url_with_an_unknown_option_is_refused(control1: Receiver) -> None:
    with pytest.raises(cfg.NoSuchOptError):
        oslo_messaging.get_rpc_transport(cfg.CONF, "zmq:///?no_such_option=1")


def test_oslo_config_generator_shows_the_options() -> None:
    generator = Path(sys.executable).with_name("oslo-config-generator")
    done = subprocess.run([generator, "--namespace", "oslo.messaging.zmq"], capture_output=True, text=True, check=True)
    assert "[oslo_messaging_zmq]" in done.stdout
    assert "#rpc_zmq_ipc_dir = /var/run/openstack" in done.stdout
    assert "#rpc_cast_timeout = 300.0" in done.stdout


def test_the_time_of_a_cast_is_that_of_the_url(control1: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    transport = transport_of(control1, rpc_cast_timeout=0.2)
    oslo_messaging.get_rpc_client(transport, Target(topic="nowhere", server="s")).cast({}, "whoami")
    began = time.monotonic()
    wait_until(lambda: any("was not handed over" in line for line in caplog.messages), "the sender's log says so")
    assert time.monotonic() - began < 200  # the option's default is 300 s
