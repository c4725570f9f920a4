# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What MatchMaker `redis` writes into Redis, and what it makes of Redis's answers. No sockets, threads or clocks.

Two keys hold everything: a hash with what each host's services consume, and a sorted set with the time at which each host's registration dies.
A host is written and read as a whole, by scripts, so that nobody sees half of it. Times in Redis are by Redis's own clock, so that the clocks
of the hosts do not matter.

One rule: what was known is forgotten only when Redis says so while it can be believed. When the connection to Redis broke, or Redis lost
its data, hosts that it does not know (yet) stay known for as long as they have to register again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ..topics import REPLIES_TOPIC, Address, TopicError, check_host, check_topic, parse_topic

FORMAT = 1
"""The version of a host's value."""
MAX_HOSTS = 10_000
MAX_ADDRESSES = 2_000
"""The most hosts that are read, and the most addresses of one host; Redis has at most so many of ours, whoever else writes into it."""
MAX_VALUE_BYTES = 256 << 10
MAX_REPLY_BYTES = 32 << 20
"""The longest value of a host that is read, and the most of all of them in one answer."""
LONGEST_LIFE = 7 * 86400
"""Seconds to live that a registration may have at most; one with more would outlive its host."""
SHORTEST_PAUSE = 0.2
"""Seconds between two readings of everything, at least, when it is not asked for by a change."""
EXPIRY_MARGIN = 0.05
"""Seconds after a registration's death at which it is looked at again."""

_LIBRARY = """
local function expect(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= kind then return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. found .. ', not a ' .. kind) end
end
local wrong = expect(KEYS[1], 'hash') or expect(KEYS[2], 'zset')
if wrong then return wrong end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

REGISTER = (
    _LIBRARY
    + """
local host, value, ttl, channel, most, always = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), ARGV[6] == '1'
local expiry = tonumber(redis.call('ZSCORE', KEYS[2], host) or 0)
local before = expiry > now and redis.call('HGET', KEYS[1], host)
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1000)) do
  redis.call('ZREM', KEYS[2], dead)
  redis.call('HDEL', KEYS[1], dead)
end
if not before and redis.call('ZCARD', KEYS[2]) >= most then return redis.error_reply('TOOMANY hosts are registered') end
redis.call('HSET', KEYS[1], host, value)
redis.call('ZADD', KEYS[2], now + ttl, host)
for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl) end
end
if always or before ~= value then redis.call('PUBLISH', channel, host) end
return before and 1 or 0
"""
)
"""Writes a host; ARGV: host, value, milliseconds to live, channel, most hosts, and 1 if others are to hear of it though it is no change.

Says with 1 that the host was there.
"""

UNREGISTER = (
    _LIBRARY
    + """
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('HDEL', KEYS[1], ARGV[1]) == 1 then redis.call('PUBLISH', ARGV[2], ARGV[1]) end
return 1
"""
)
"""Removes a host; ARGV: host, channel."""

READ = (
    _LIBRARY
    + """
local most, longest, left = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local answer = {}
local function add(host, expiry)
  local length = redis.call('HSTRLEN', KEYS[1], host)
  local value = false
  if length > 0 and length <= longest and length <= left then
    value = redis.call('HGET', KEYS[1], host)
    left = left - length
  end
  answer[#answer + 1] = {host, tostring(tonumber(expiry) - now), value}
end
if ARGV[4] then
  for index = 4, #ARGV do
    local expiry = redis.call('ZSCORE', KEYS[2], ARGV[index])
    if expiry and tonumber(expiry) > now then add(ARGV[index], expiry) end
  end
else
  local found = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, most)
  for index = 1, #found, 2 do add(found[index], found[index + 1]) end
end
return answer
"""
)
"""Reads hosts; ARGV: most hosts, longest value, most bytes, and the hosts (none: all). Says host, milliseconds left, value of each that lives."""


class RegistryError(ValueError):
    """What Redis holds or answers is nothing to go by; the message names the key or the host, and the fault."""


@dataclass(frozen=True, slots=True)
class Registered:
    """What is known of a host: what its services consume, and until when, by our clock, this holds unless it is renewed."""

    addresses: frozenset[Address]
    until: float


def registrable(addresses: Iterable[Address]) -> frozenset[Address]:
    """Return those of the addresses that others need to know of. Answers to calls find their way by themselves."""
    return frozenset(address for address in addresses if address.topic != REPLIES_TOPIC)


def encode_value(addresses: Collection[Address]) -> str:
    """Return the value to be written for a host that consumes `addresses`. Raises `RegistryError` if there are too many."""
    if len(addresses) > MAX_ADDRESSES:
        raise RegistryError(f"this host's services consume {len(addresses)} topics; at most {MAX_ADDRESSES} can be registered")
    return json.dumps({"format": FORMAT, "consumes": sorted(map(_written, addresses))}, separators=(",", ":"))


def _written(address: Address) -> str:
    return f"{address.namespace}/{address.exchange}/{Address(address.topic, address.server, address.fanout)}"


def decode_value(value: bytes | None) -> frozenset[Address]:
    """Return what a host consumes by the value that was read for it. Raises `RegistryError`, naming the fault."""
    if value is None:
        raise RegistryError(f"there is no value, or it is longer than {MAX_VALUE_BYTES} bytes")
    try:
        content = json.loads(value.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RegistryError("it is not JSON in UTF-8") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RegistryError(f"it is no JSON object of format {FORMAT}")
    consumes = content.get("consumes")
    if not isinstance(consumes, list) or len(consumes) > MAX_ADDRESSES:
        raise RegistryError(f"'consumes' is no list of at most {MAX_ADDRESSES} topics")
    try:
        return registrable(_read_address(text) for text in consumes)
    except TopicError as error:
        raise RegistryError(str(error)) from error


def _read_address(text: object) -> Address:
    namespace, _slash, rest = text.partition("/") if isinstance(text, str) else ("", "", "")
    exchange, slash, name = rest.partition("/")
    if not slash:
        raise TopicError(f"{str(text)[:60]!r} is not namespace/exchange/topic")
    address = parse_topic(name)
    return Address(address.topic, address.server, address.fanout, exchange and check_topic(exchange), namespace and check_topic(namespace))


class Registry:
    """What is known of other hosts. Answers of Redis go in with the time in seconds of a clock that never goes back."""

    def __init__(self, host: str, freq: float, ttl: float, keys: tuple[str, str] = ("hosts", "expiry")) -> None:
        """Register `host` every `freq` seconds for `ttl` seconds. `keys` are the names of the two keys, for messages."""
        self._host = host
        self._freq = freq
        self._ttl = ttl
        self._keys = keys
        self._read_at = float("-inf")
        self._unconfirmed: dict[str, Registered] = {}
        self._forget_unconfirmed_at = float("-inf")
        self._bad: dict[str, str] = {}
        self.others: dict[str, Registered] = {}
        self.before: frozenset[Address] | None = None
        """What this host's services consumed by the first answer, which is what its receiver registered before it was started; None before that."""

    @property
    def consumed(self) -> Mapping[str, frozenset[Address]]:
        """What each other host consumes, and what this one consumed before its receiver was started."""
        return {self._host: self.before or frozenset()} | {host: registered.addresses for host, registered in self.others.items()}

    @property
    def problem(self) -> str:
        """What in Redis is not acceptable and therefore ignored; empty if nothing is."""
        if not self._bad:
            return ""
        host = min(self._bad)
        more = f", and {len(self._bad) - 1} more" if len(self._bad) > 1 else ""
        return f"Redis key {self._keys[0]}, field {host[:80]!r}{more}: {self._bad[host]}; ignored"

    def data_lost(self, now: float) -> None:
        """Redis may have lost what it knew: hosts that it does not know stay known for the time in which they have to register again."""
        self._unconfirmed = self.others
        self._forget_unconfirmed_at = now + self._ttl

    def take_all(self, answer: object, now: float) -> bool:
        """Take in the answer to `READ` of all hosts. Returns whether this host is among them, as it should be."""
        live, bad = self._parse(answer, now)
        own = live.pop(self._host, None)
        if self.before is None:
            self.before = own.addresses if own else frozenset()
        if now >= self._forget_unconfirmed_at:
            self._unconfirmed = {}
        self._confirm({*live, *bad})
        self.others = self._unconfirmed | live
        self._bad = bad
        self._read_at = now
        return own is not None

    def take_some(self, asked: Collection[str], answer: object, now: float) -> None:
        """Take in the answer to `READ` of the hosts `asked`, of which a change was heard. One that is not there has left."""
        live, bad = self._parse(answer, now)
        live.pop(self._host, None)
        self._confirm(asked)
        rest = {host: registered for host, registered in self.others.items() if host not in asked}
        self.others = rest | live
        self._bad = {host: fault for host, fault in self._bad.items() if host not in asked} | bad

    def _confirm(self, hosts: Collection[str]) -> None:
        self._unconfirmed = {host: registered for host, registered in self._unconfirmed.items() if host not in hosts}

    def next_reading(self) -> float:
        """Return when all hosts are to be read again: when one that is not renewed dies, and every `freq` seconds at least."""
        deaths = [registered.until + EXPIRY_MARGIN for registered in self.others.values() if registered.until > self._read_at]
        forgetting = [self._forget_unconfirmed_at] if self._unconfirmed else []
        return max(self._read_at + SHORTEST_PAUSE, min([self._read_at + self._freq, *deaths, *forgetting]))

    def _parse(self, answer: object, now: float) -> tuple[dict[str, Registered], dict[str, str]]:
        """Return the hosts that live, and the faults of those that are not acceptable."""
        live: dict[str, Registered] = {}
        bad: dict[str, str] = {}
        for name, left, value in _rows(answer):
            try:
                host = check_host(name)
                if not 0 < left <= LONGEST_LIFE:
                    raise RegistryError(f"its time to live in key {self._keys[1]} is {left:.0f} s")
                live[host] = Registered(decode_value(value), now + left)
            except (TopicError, RegistryError) as error:
                bad[name] = str(error)
        return live, bad


def _rows(answer: object) -> Iterable[tuple[str, float, bytes | None]]:
    """Yield host, seconds left and value. Raises `RegistryError` if the answer is not one of our script."""
    if not isinstance(answer, list):
        raise RegistryError(f"Redis answered with {type(answer).__name__}, not with a list of hosts")
    for row in answer[:MAX_HOSTS]:
        try:
            name, left, value = row
            yield name.decode("utf-8", "backslashreplace"), float(left) / 1000, value
        except (TypeError, ValueError, AttributeError) as error:
            raise RegistryError(f"Redis answered with something else than hosts: {str(row)[:80]}") from error
