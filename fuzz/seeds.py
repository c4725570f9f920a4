# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What the fuzzer begins with: good inputs of each kind, made anew for each run, so that they follow the code."""

from __future__ import annotations

import random

from brokerless.rpc.bundle import bundled
from brokerless.rpc.json_bodies import encode_failure, encode_values
from brokerless.rpc.matchmaker.redis_registry import encode_value
from brokerless.rpc.protocol import encode
from brokerless.rpc.receiver.keys import KeyPair, OwnKeys, to_z85
from brokerless.rpc.remote_exceptions import failure_of
from brokerless.rpc.topics import Address
from drawn import DRAWN, Draw

_STORIES = 40
_SECRET = to_z85(bytes(range(100, 132)))
_KEY = to_z85(bytes(range(32)))


def _messages() -> list[bytes]:
    chance = random.Random(1)
    made = []
    for drawn in DRAWN.values():
        for _turn in range(3):
            frames = encode(drawn(Draw(chance.randbytes(200))))
            made.append(bytes([len(frames)]) + frames[0])
    return made


def _stories() -> list[bytes]:
    chance = random.Random(2)
    return [chance.randbytes(chance.randint(20, 1500)) for _turn in range(_STORIES)]


SEEDS: dict[str, list[bytes]] = {
    "frames": _messages(),
    "bundles": [next(iter(bundled([[message[1:]], [message[1:], b"body"]])))[0] for message in _messages()],
    "receiver-core": _stories(),
    "driver-session": _stories(),
    "bodies": [
        b'{"format":1,"context":{"user_id":"u","values":1},"message":{"method":"echo","args":{"value":[1,2.5,null]},"version":"1.0","namespace":"n"}}',
        b'{"format":1,"message":{"event":"compute.start","payload":{}}}',
        b'{"format":1,"message":{"method":"-ping"}}',
        encode_values([1, "two", {"three": [None, True]}]),
        encode_failure(failure_of(ValueError("wrong", 1))),
        encode_failure(failure_of(UnicodeDecodeError("utf-8", b"x", 0, 1, "wrong"))),
        b'{"format":1,"failure":{"class":"ExceptionGroup","module":"builtins","message":"m","arguments":["m",[1]],"keywords":{"a":1}}}',
    ],
    "ring-file": [
        b'{"scheduler": ["o1p409", "o2p409"]}',
        b'{"q-agent-notifier-*": ["a.example"], "compute": ["10.0.0.1", "fe80::1%eth0"]}',
        b'{"[!a]?": ["h"]}',
    ],
    "names": [
        b"compute",
        b"compute.machine1",
        b"fanout~compute",
        b"compute.None",
        b"compute.host.example.com",
        b"q-plugin.10.0.0.1",
        b"a.fe80::1%eth0",
    ],
    "command-line": [b"name=web1\ncount=3", b'tags=["a", {"b": null}]', b"x=1e400\ny=NaN", b"a=\nb=="],
    "option-file": [
        b"[DEFAULT]\nrpc_zmq_host = c1\nrpc_zmq_start_port = 9500\nrpc_zmq_port_count = 51\nrpc_zmq_metrics_port = 9550\n",
        b"[DEFAULT]\nrpc_zmq_host_addresses = a:127.0.0.1,b:[::1]\nallowed_rpc_exception_modules = a,b\nrpc_response_timeout = 0.5\n",
        b"[DEFAULT]\nrpc_zmq_matchmaker = $rpc_zmq_host\nrpc_zmq_topic_backlog = 4096\n[other]\nx = y\n  continued\n",
    ],
    "key-files": [
        OwnKeys(KeyPair(_KEY, _SECRET), KeyPair(_KEY, _SECRET), _KEY).to_text().encode(),
        OwnKeys(KeyPair(_KEY, _SECRET)).to_text().encode(),
        f"# there\n{_KEY} # old\n".encode(),
    ],
    "redis-values": [
        encode_value((Address("compute"), Address("compute", server="c1"), Address("a", exchange="nova", namespace="cell1", fanout=True))).encode(),
        b'there 9000 {"format":1,"consumes":["//compute"]}\nhere 100 {"format":1,"consumes":["ns/ex/fanout~compute"]}\nb nan x',
    ],
    "systemd": [b"30000000\n1", b"0\n", b"x\ny"],
}
