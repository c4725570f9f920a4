# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from typing import Any

import pytest
from brokerless.rpc.driver.connection import CallerGone, NotAccepted
from brokerless.rpc.oslo_driver.bodies import Request, decode_reply
from brokerless.rpc.oslo_driver.incoming import NotificationMessage, RpcMessage
from brokerless.rpc.topics import Address

REQUEST = Request({"user": "me"}, {"method": "echo"}, 60)


class Came:
    """A message that came: what the connection hands over, without the connection."""

    id = "0123456789abcdef/1"
    address = Address("topic")

    def __init__(self, wants_reply: bool = True, left: float = 60.0, room: int = 1000) -> None:
        self.wants_reply = wants_reply
        self.replies: list[bytes] = []
        self.finished = 0
        self._left = left
        self._room = room

    def expires_in(self) -> float:
        return self._left

    def reply(self, body: bytes) -> None:
        if len(body) > self._room:
            raise NotAccepted("too large")
        self.replies.append(body)

    def beat(self, seconds: float) -> None:
        if self.replies:
            raise CallerGone(f"not within {seconds}")

    def finish(self) -> None:
        self.finished += 1


def message_of(came: Came) -> RpcMessage:
    return RpcMessage(came, REQUEST)  # type: ignore[arg-type]


def test_a_message_shows_what_was_sent() -> None:
    message = message_of(Came())
    assert (message.ctxt, message.message, message.client_timeout, message.msg_id) == ({"user": "me"}, {"method": "echo"}, 60, Came.id)
    assert message_of(Came(wants_reply=False)).client_timeout is None


def test_a_call_is_answered_and_counts_no_more() -> None:
    came = Came()
    message_of(came).reply({"a": 1})
    assert [decode_reply(body).result for body in came.replies] == [{"a": 1}]
    assert came.finished >= 1


def test_an_exception_is_answered() -> None:
    came = Came()
    try:
        raise LookupError("nothing")
    except LookupError:
        message_of(came).reply(failure=sys.exc_info())  # type: ignore[arg-type]
    assert "LookupError" in str(decode_reply(came.replies[0]).failure)


def test_a_cast_is_not_answered_and_counts_no_more() -> None:
    came = Came(wants_reply=False)
    message_of(came).reply("anything")
    assert came.replies == []
    assert came.finished >= 1


def test_an_answer_that_can_not_be_sent_becomes_an_exception() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for reply in ("x" * 50_000, circle):
        came = Came(room=40_000)
        message_of(came).reply(reply)
        assert [decode_reply(body).failure is not None for body in came.replies] == [True]


def test_an_answer_that_comes_too_late_is_not_sent() -> None:
    came = Came(left=0.0)
    message_of(came).reply("late")
    assert came.replies == []
    assert came.finished >= 1


def test_signs_of_life_end_with_the_answer() -> None:
    """oslo.messaging lets a thread go on for ever after a call that ended in an exception of its own; only an exception here ends it."""
    message = message_of(Came())
    message.heartbeat()
    message.reply(None)
    with pytest.raises(CallerGone):
        message.heartbeat()


def test_a_message_that_is_dropped_counts_no_more() -> None:
    came = Came()
    message = message_of(came)
    assert came.finished == 0
    del message
    assert came.finished == 1


def test_a_notification_that_is_given_back_is_sent_again() -> None:
    came = Came()
    again: list[Any] = []
    NotificationMessage(came, REQUEST, again.append).requeue()  # type: ignore[arg-type]
    assert again == [came]
    assert came.finished >= 1


def test_a_notification_that_can_not_be_sent_again_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_incoming: object) -> None:
        raise NotAccepted("no room")

    NotificationMessage(Came(), REQUEST, refuse).requeue()  # type: ignore[arg-type]
    assert "no room" in caplog.text
