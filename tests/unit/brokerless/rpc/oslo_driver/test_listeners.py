# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from brokerless.rpc.oslo_driver.bodies import encode_request
from brokerless.rpc.oslo_driver.listeners import Listener
from brokerless.rpc.topics import Address


class Came:
    """A message that came: what the connection hands over, without the connection."""

    def __init__(self, word: str, wants_reply: bool = False, left: float = 60.0, body: bytes | None = None) -> None:
        self.address = Address("topic")
        self.body = encode_request({}, {"word": word}) if body is None else body
        self.wants_reply = wants_reply
        self._left = left
        self.finished = 0

    def expires_in(self) -> float:
        return self._left

    def finish(self) -> None:
        self.finished += 1


class Source:
    """Whom a listener subscribes with; `close` brings what was still on its way."""

    def __init__(self) -> None:
        self.closed = 0
        self.on_its_way: list[Came] = []

    def subscribe(self, take: Callable[[Any], None]) -> Any:
        self.take = take
        return self

    def close(self) -> None:
        self.closed += 1
        for message in self.on_its_way:
            self.take(message)


def listening() -> tuple[Source, Listener]:
    source = Source()
    return source, Listener(source.subscribe, lambda _incoming, request: request.message["word"])


def test_one_message_is_polled_at_a_time_in_order() -> None:
    source, listener = listening()
    source.take(Came("a"))
    source.take(Came("b"))
    assert [listener.poll(), listener.poll(), listener.poll(timeout=0.01)] == [["a"], ["b"], []]


def test_a_batch_is_what_comes_in_its_time() -> None:
    source, listener = listening()
    for word in "abcde":
        source.take(Came(word))
    assert listener.poll(batch_size=3) == ["a", "b", "c"]
    assert listener.poll(batch_size=3, batch_timeout=0.01) == ["d", "e"]


def test_a_batch_without_a_size_is_what_is_there() -> None:
    source, listener = listening()
    for word in "abc":
        source.take(Came(word))
    assert listener.poll(batch_size=None) == ["a", "b", "c"]


def test_a_stopped_listener_returns_what_is_left_and_then_nothing() -> None:
    source, listener = listening()
    source.take(Came("a"))
    source.on_its_way.append(Came("b"))
    listener.stop()
    listener.stop()
    assert [listener.poll(), listener.poll(), listener.poll(), listener.poll(batch_size=5)] == [["a"], ["b"], [], []]
    assert source.closed == 1


def test_stop_wakes_who_polls() -> None:
    _source, listener = listening()
    polled: list[list[Any]] = []
    polling = threading.Thread(target=lambda: polled.append(listener.poll()), daemon=True)
    polling.start()
    listener.stop()
    polling.join(30)
    assert polled == [[]]


def test_a_call_whose_caller_gave_up_and_what_is_no_request_are_not_run() -> None:
    source, listener = listening()
    late, foreign, good = Came("late", wants_reply=True, left=0.0), Came("", body=b"nonsense"), Came("good", wants_reply=True)
    for message in (late, foreign, good):
        source.take(message)
    assert listener.poll() == ["good"]
    assert [late.finished, foreign.finished, good.finished] == [1, 1, 0]


def test_a_cast_that_came_in_time_is_run_however_late() -> None:
    source, listener = listening()
    source.take(Came("late", left=-5.0))
    assert listener.poll() == ["late"]
