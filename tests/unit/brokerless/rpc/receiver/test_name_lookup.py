# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ipaddress
import logging
import queue
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from brokerless.rpc.receiver.name_lookup import LOOKUP_THREADS, NameLookup

PATIENCE = 60.0
"""Seconds after which an answer that should have come has failed."""

Answers = queue.SimpleQueue[tuple[str, str | None, str]]


@contextmanager
def lookup(known: Mapping[str, str] | None = None) -> Iterator[tuple[NameLookup, Answers]]:
    answers: Answers = queue.SimpleQueue()
    names = NameLookup(known or {}, lambda *answer: answers.put(answer))
    try:
        yield names, answers
    finally:
        names.close()


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.1.2", "127.0.1.2"), ("::1", "::1"), ("[::1]", "::1"), ("[fe80::1%lo]", "fe80::1%lo"), ("0:0:0::1", "::1")],
)
def test_a_known_address_is_answered_at_once(address: str, expected: str) -> None:
    with lookup({"compute1.invalid": address}) as (names, answers):
        names.start("compute1.invalid")
        assert answers.get_nowait() == ("compute1.invalid", expected, "")


@pytest.mark.parametrize("host", ["127.0.1.2", "::1", "fe80::1%lo"])
def test_a_host_named_by_its_address_is_answered_at_once(host: str) -> None:
    with lookup() as (names, answers):
        names.start(host)
        assert answers.get_nowait() == (host, host, "")


def test_a_name_is_looked_up() -> None:
    with lookup() as (names, answers):
        names.start("localhost")
        host, address, fault = answers.get(timeout=PATIENCE)
    assert (host, fault) == ("localhost", "")
    assert address is not None
    assert ipaddress.ip_address(address).is_loopback


def test_a_known_name_is_looked_up_in_place_of_the_host() -> None:
    with lookup({"compute1.invalid": "localhost"}) as (names, answers):
        names.start("compute1.invalid")
        host, address, fault = answers.get(timeout=PATIENCE)
    assert (host, fault) == ("compute1.invalid", "")
    assert address is not None
    assert ipaddress.ip_address(address).is_loopback


@pytest.mark.parametrize("host", ["compute1.invalid", "a" * 64 + ".invalid", "a\0b.invalid"])
def test_a_name_that_can_not_be_resolved_is_a_fault(host: str) -> None:
    with lookup() as (names, answers):
        names.start(host)
        name, address, fault = answers.get(timeout=PATIENCE)
    assert (name, address) == (host, None)
    assert fault.startswith("its name can't be resolved: ")
    assert len(fault) > len("its name can't be resolved: ")


def test_of_several_addresses_each_call_gives_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    # A name with several addresses would need the machine's own resolver to be changed.
    asked: list[str] = []

    def getaddrinfo(name: str, port: None, type: int) -> list[Any]:  # noqa: A002
        asked.append(name)
        return [(socket.AF_INET, type, 6, "", (address, 0)) for address in ("127.0.1.1", "127.0.1.1", "127.0.1.2", "127.0.1.3")]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with lookup() as (names, answers):
        found = []
        for _turn in range(5):
            names.start("compute1.invalid")
            found.append(answers.get(timeout=PATIENCE)[1])
        names.start("compute2.invalid")
        assert answers.get(timeout=PATIENCE) == ("compute2.invalid", "127.0.1.1", "")
    assert found == ["127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.1.1", "127.0.1.2"]
    assert asked == ["compute1.invalid"] * 5 + ["compute2.invalid"]


def test_after_closing_nothing_is_answered_and_what_waits_is_dropped_quietly(caplog: pytest.LogCaptureFixture) -> None:
    answered: list[str] = []
    all_busy = threading.Barrier(LOOKUP_THREADS + 1)
    closed = threading.Event()

    def answer(host: str, address: str | None, fault: str) -> None:
        answered.append(host)
        all_busy.wait(PATIENCE)
        closed.wait(PATIENCE)

    names = NameLookup({}, answer)
    with caplog.at_level(logging.DEBUG):
        for _turn in range(LOOKUP_THREADS):
            names.start("localhost")
        all_busy.wait(PATIENCE)
        names.start("localhost")
        names.start("compute1.invalid")
        names.close()
        closed.set()
        names._threads.shutdown(wait=True)
    assert answered == ["localhost"] * LOOKUP_THREADS
    assert caplog.records == []
