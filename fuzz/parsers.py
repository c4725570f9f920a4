# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Every parser that sees bytes from outside. Each raises its documented error or nothing, and what it accepts survives a round trip."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from brokerless.cmd.call_arguments import ArgumentError, parse_arguments
from brokerless.rpc import topics
from brokerless.rpc.bundle import bundled, unbundled
from brokerless.rpc.context import RpcContext
from brokerless.rpc.errors import MalformedBody
from brokerless.rpc.json_bodies import decode_reply, decode_request, encode_failure, encode_values
from brokerless.rpc.matchmaker.redis_registry import Registry, RegistryError, decode_value, encode_value
from brokerless.rpc.matchmaker.ring_file import RingError, parse_ring
from brokerless.rpc.options import OptionError, load_options
from brokerless.rpc.protocol import Copy, Parcel, ProtocolError, decode, encode
from brokerless.rpc.receiver.keys import KeyFileError, key_fault, parse_own_keys, parse_public_keys
from brokerless.rpc.receiver.systemd_notify import SystemdNotifier
from brokerless.rpc.remote_exceptions import Failure, exception_of, failure_of
from brokerless.rpc.request_handler import RequestHandler
from brokerless.rpc.topics import Address, TopicError, parse_topic
from core_states import check_written
from drawn import ME

ALLOWED_MODULES = ("builtins", "brokerless.rpc.errors")
PLACE = Path(tempfile.gettempdir())


def frames(data: bytes) -> None:
    """Frames as a socket gives them; the first byte says how many there are."""
    count, rest = (data[0] % 4, data[1:]) if data else (0, b"")
    try:
        message = decode([rest, *[b"body"] * (count - 1)][:count])
    except ProtocolError:
        return
    check_written(message)
    assert count == 1 + isinstance(message, Parcel | Copy)
    assert decode(encode(message)) == message, message


def bundles(data: bytes) -> None:
    """Several messages in one frame."""
    try:
        together = unbundled([data])
    except ProtocolError:
        return
    again = [list(message) for frames in bundled(map(list, together)) for message in unbundled(frames)]
    assert again == [list(message) for message in together]
    for message in together:
        with contextlib.suppress(ProtocolError):
            check_written(decode(message))


def bodies(data: bytes) -> None:
    """Bodies of requests and replies, to the end of what becomes of them."""
    with contextlib.suppress(MalformedBody):
        request = decode_request(data)
        context = RpcContext.from_dict(request.context)
        assert context.to_dict() == request.context
        repr(context)
    try:
        reply = decode_reply(data)
    except MalformedBody:
        reply = []
    if isinstance(reply, Failure):
        again = decode_reply(encode_failure(reply))
        assert again == reply, (again, reply)
        error = exception_of(reply, ALLOWED_MODULES)
        failure_of(error)
        str(error)
    elif reply:
        assert decode_reply(encode_values(reply)) == reply
    RequestHandler(_Consumer(), "here", 1 << 20)(_Incoming(data))  # type: ignore[arg-type]


class _Consumer:
    """What a request may mean."""

    def echo(self, context: RpcContext, **values: Any) -> Any:
        """Return what was given."""
        return values

    def process_notification(self, context: RpcContext, message: Any) -> None:
        """Take it."""


class _Incoming:
    wants_reply = True
    address = Address("compute")

    def __init__(self, body: bytes) -> None:
        self.body = body

    def expires_in(self) -> float:
        return 1.0

    def reply(self, body: bytes) -> None:
        """See that the answer can be read."""
        decode_reply(body)


def ring_file(data: bytes) -> None:
    """A ring file's content."""
    try:
        ring = parse_ring(data, "ring.json")
    except RingError as error:
        assert "\n" not in str(error), error
        return
    assert parse_ring(ring.to_json(), "ring.json") == ring
    for key in ring.topics:
        with contextlib.suppress(TopicError):
            ring.hosts_of(topics.check_topic(key))


def names(data: bytes) -> None:
    """Topics, hosts and servers."""
    text = data.decode("utf-8", "surrogateescape")
    with contextlib.suppress(TopicError):
        address = parse_topic(text)
        assert parse_topic(str(address)) == address
        assert address.checked() == address
    for check in (topics.check_topic, topics.check_host, topics.check_server):
        try:
            assert check(text) == text
        except TopicError as error:
            assert "\n" not in str(error), error


def command_line(data: bytes) -> None:
    """Arguments of `brokerless call`."""
    texts = [text for text in data.decode("utf-8", "surrogateescape").split("\n") if text]
    with contextlib.suppress(ArgumentError):
        arguments = parse_arguments(texts)
        assert len(arguments) == len(texts)
        json.dumps(arguments)


def option_file(data: bytes) -> None:
    """A configuration file."""
    path = PLACE / f"fuzz-{os.getpid()}.conf"
    path.write_bytes(data)
    try:
        conf = load_options([str(path)])
    except OptionError as error:
        assert "\n" not in str(error), error
    else:
        assert 1 <= conf.rpc_zmq_start_port <= 65535
    finally:
        path.unlink()


def systemd_environment(data: bytes) -> None:
    """What systemd writes into the environment."""
    texts = (data.decode("utf-8", "surrogateescape").replace("\0", "").split("\n") + [""] * 3)[:2]
    SystemdNotifier({"WATCHDOG_USEC": texts[0], "WATCHDOG_PID": texts[1]})


def key_files(data: bytes) -> None:
    """A host's own keys, and the public keys of another."""
    text = data.decode("utf-8", "replace")
    try:
        own = parse_own_keys(text, "own.key")
    except KeyFileError as error:
        assert len(str(error).splitlines()) == 1, error
    else:
        assert parse_own_keys(own.to_text(), "own.key") == own
        assert own.current.secret == own.current.public or own.current.secret not in repr(own), "a secret is shown"
    try:
        keys = parse_public_keys(text, "there.pub")
    except KeyFileError as error:
        assert len(str(error).splitlines()) == 1, error
    else:
        assert parse_public_keys("\n".join(keys), "there.pub") == keys
        assert not any(map(key_fault, keys))


def redis_values(data: bytes) -> None:
    """What Redis holds for a host, and the answer to a reading of all: host, milliseconds left and value, line by line."""
    with contextlib.suppress(RegistryError):
        addresses = decode_value(data)
        assert decode_value(encode_value(addresses).encode()) == addresses
    registry = Registry(ME, 5.0, 10.0)
    rows = [line.split(b" ", 2) for line in data.split(b"\n")]
    for now in (1.0, 2.0):
        with contextlib.suppress(RegistryError):
            registry.take_all(rows, now)
        with contextlib.suppress(RegistryError):
            registry.take_some(["there"], rows[1:], now)
        registry.data_lost(now)
        assert registry.next_reading() <= now + 5.0
        assert len(registry.problem.splitlines()) <= 1, registry.problem
        assert len(registry.consumed) <= len(rows) + 1


def quiet() -> None:
    """Log nothing: what is refused here is refused a hundred thousand times."""
    logging.disable(logging.CRITICAL)


PARSERS: dict[str, Callable[[bytes], None]] = {
    "frames": frames,
    "bundles": bundles,
    "bodies": bodies,
    "ring-file": ring_file,
    "names": names,
    "command-line": command_line,
    "option-file": option_file,
    "systemd": systemd_environment,
    "key-files": key_files,
    "redis-values": redis_values,
}
