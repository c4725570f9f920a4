# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Who may connect: CURVE on the receiver's TCP sockets, and the ZAP handler (ZeroMQ RFC 27) that knows the allow-list.

libzmq asks the handler about each connection once its handshake has proven that the other side has the secret key of the public one that it
shows. A host may have several keys, so each connection remembers its key: when the allow-list loses it, the connection is cut off. What decides
has no sockets in it (`Admissions`, `Refusals`); `Gatekeeper` is the shell around it, and is used in the receiver's own loop.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...soft_import import soft_import
from .keys import AllowList, KeyFileError, KeyPair, OwnKeys, allow_list_signature, read_allow_list, read_own_keys, to_z85

if TYPE_CHECKING:
    import zmq
    from oslo_config import cfg
    from zmq.utils import monitor
else:
    zmq = soft_import("zmq", "pyzmq")
    monitor = soft_import("zmq.utils.monitor", "pyzmq")

LOG = logging.getLogger("brokerless.receiver")
ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"brokerless"
KEY_PROPERTY = "X-Public-Key"
"""The property of a connection's frames that holds its public key, besides `User-Id`, which holds its host."""
BURST_SECONDS = 60.0
"""The same refusal is logged once in so long, with the number of those that were not logged."""
MOST_REFUSALS_KNOWN = 256
MOST_LINKS_KNOWN = 10_000
NO_CURVE = 0x1100_0002
"""ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH of zmq.h: the other side does not use CURVE."""
MOST_ANSWERS = 200
"""How many questions of libzmq are answered before the other sockets have their turn."""


def new_key_pair() -> KeyPair:
    """Make a new CURVE key pair."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode("ascii"), secret.decode("ascii"))


def checked_own_keys(path: str) -> OwnKeys:
    """Read a host's own keys. Raises `KeyFileError`, also if a public key is not the one of its secret key."""
    keys = read_own_keys(path)
    for name, pair in (("public", keys.current), ("next_public", keys.next)):
        if pair is not None and zmq.curve_public(pair.secret.encode("ascii")).decode("ascii") != pair.public:
            raise KeyFileError(f"key file {path}: {name} does not belong to its secret key; make new keys")
    return keys


def read_keys(conf: cfg.ConfigOpts) -> tuple[OwnKeys, AllowList]:
    """Return the host's own keys and the allow-list, as the options name them. Raises `KeyFileError`."""
    return checked_own_keys(conf.rpc_zmq_curve_secret_file), read_allow_list(conf.rpc_zmq_curve_hosts_dir)


@dataclass(frozen=True)
class KeyChanges:
    """What another allow-list means: connections to cut off, hosts to dial anew, and all the hosts whose keys are others now."""

    cut_links: Sequence[bytes]
    redial: Sequence[str]
    hosts: Sequence[str]


class Refusals:
    """Says of refusals once in a burst what they are, and counts the others."""

    def __init__(self) -> None:
        self._bursts: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def line(self, who: str, why: str, now: float) -> str:
        """Return the line to log about a refusal, empty if the same one was logged just now."""
        said_at, silent = self._bursts.get((who, why), (None, 0))
        if said_at is not None and now - said_at < BURST_SECONDS:
            self._bursts[who, why] = (said_at, silent + 1)
            return ""
        self._bursts[who, why] = (now, 0)
        self._bursts.move_to_end((who, why))
        if len(self._bursts) > MOST_REFUSALS_KNOWN:
            self._bursts.popitem(last=False)
        return f"refused {who}: {why}" + (f" ({silent} more times since this was last said)" if silent else "")


class Admissions:
    """Whom the allow-list lets in, which connections were let in with which key, and which key a host is expected to have."""

    def __init__(self, allowed: AllowList) -> None:
        self.allowed = allowed
        self._links: OrderedDict[bytes, tuple[str, str]] = OrderedDict()
        self._dialled: dict[str, str] = {}
        self._attempts: dict[str, int] = {}

    def host_of_link(self, link: bytes) -> str | None:
        """Return the host of a connection that was let in."""
        known = self._links.get(link)
        return known[0] if known else None

    def admit(self, link: bytes, host: str, public_key: str) -> bool:
        """Let in a connection that was made with `public_key`; return whether the key is still the one of `host`."""
        if self.allowed.host_of(public_key) != host:
            return False
        self._links[link] = (host, public_key)
        if len(self._links) > MOST_LINKS_KNOWN:
            # It is let in anew when it says something.
            self._links.popitem(last=False)
        return True

    def key_to_dial(self, host: str) -> str | None:
        """Return the public key that `host` is expected to have at the next attempt, None if it is not allowed."""
        keys = self.allowed.keys_of(host)
        if not keys:
            return None
        self._dialled[host] = keys[self._attempts.get(host, 0) % len(keys)]
        return self._dialled[host]

    def wrong_key(self, host: str) -> None:
        """Have the next attempt to reach `host` made with the next one of its keys."""
        self._attempts[host] = self._attempts.get(host, 0) + 1

    def replace(self, allowed: AllowList) -> KeyChanges:
        """Go by another list. Return what that means for the connections that there are."""
        changed = [host for host in {**self.allowed.hosts, **allowed.hosts} if self.allowed.keys_of(host) != allowed.keys_of(host)]
        self.allowed = allowed
        for host in changed:
            self._attempts.pop(host, None)
        cut = [link for link, (host, key) in self._links.items() if allowed.host_of(key) != host]
        for link in cut:
            del self._links[link]
        redial = [host for host, key in self._dialled.items() if key not in allowed.keys_of(host)]
        for host in redial:
            del self._dialled[host]
        return KeyChanges(cut, redial, changed)


class Gatekeeper:
    """Guards a receiver's TCP sockets."""

    def __init__(self, conf: cfg.ConfigOpts, refused: Callable[[], None]) -> None:
        """Read the keys. Raises `KeyFileError`. `refused` is called for each refusal, to be counted."""
        self._directory: str = conf.rpc_zmq_curve_hosts_dir
        self._refused = refused
        self._signature = allow_list_signature(self._directory)
        self._own, allowed = read_keys(conf)
        self._admissions = Admissions(allowed)
        self._refusals = Refusals()
        self._error = ""

    # --- sockets -----------------------------------------------------------------------------------------------------------------------------

    def guard(self, context: zmq.Context[Any], links: zmq.Socket[Any], peers: zmq.Socket[Any], closing: ExitStack) -> None:
        """Let only allowed hosts connect to `links`, which is not bound yet, and have `peers` connect with our key."""
        self._questions = context.socket(zmq.ROUTER)
        closing.callback(self._questions.close, 0)
        self._questions.bind(ZAP_ENDPOINT)
        for guarded in (links, peers):
            guarded.setsockopt(zmq.CURVE_PUBLICKEY, self._own.current.public.encode("ascii"))
            guarded.setsockopt(zmq.CURVE_SECRETKEY, self._own.current.secret.encode("ascii"))
        links.setsockopt(zmq.CURVE_SERVER, 1)
        links.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        # Without an answer of the handler nobody is let in.
        links.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        self._failures = links.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
        closing.callback(self._failures.close)
        closing.callback(links.disable_monitor)

    def register(self, poller: zmq.Poller) -> None:
        """Have `poller` look at the gatekeeper's own sockets."""
        for readable in (self._questions, self._failures):
            poller.register(readable, zmq.POLLIN)

    def work(self, ready: Mapping[Any, int], now: float) -> None:
        """Do what there is to do on those of the gatekeeper's sockets that are ready."""
        if self._questions in ready:
            self._answer(now)
        if self._failures in ready:
            self._note_failures(now)

    # --- connections that other hosts make -----------------------------------------------------------------------------------------------------

    def _answer(self, now: float) -> None:
        for _turn in range(MOST_ANSWERS):
            try:
                asker, delimiter, version, number, _domain, address, _routing_id, mechanism, *credentials = self._questions.recv_multipart(
                    zmq.NOBLOCK
                )
            except zmq.Again:
                return
            key = to_z85(credentials[0]) if mechanism == b"CURVE" and credentials else ""
            host = self._admissions.allowed.host_of(key)
            if host is None:
                who = f"a connection from {_as_ipv4(address.decode(errors='replace'))} with public key {key}"
                self._refuse(who, f"no host in {self._directory} has this key", now)
                self._questions.send_multipart([asker, delimiter, version, number, b"400", b"not allowed", b"", b""])
            else:
                user, properties = host.encode("ascii"), _property(KEY_PROPERTY, key)
                self._questions.send_multipart([asker, delimiter, version, number, b"200", b"OK", user, properties])

    def _note_failures(self, now: float) -> None:
        """Log connections that ended in their handshake, before libzmq asked about them."""
        for _turn in range(MOST_ANSWERS):
            if not self._failures.poll(0):
                return
            event = monitor.parse_monitor_message(self._failures.recv_multipart())
            if event["event"] == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                why = "it broke off the handshake: it does not use CURVE, or is no receiver"
            elif event["value"] == NO_CURVE:
                why = "it does not use CURVE"
            else:
                why = "it expects another public key of this host, or speaks no proper CURVE"
            self._refuse("a connection", why, now)

    def receive(self, links: zmq.Socket[Any], now: float) -> list[bytes] | None:
        """Return the connection and the frames of the next message, None if it was refused. Raises `zmq.Again` if there is none."""
        link = links.recv(zmq.NOBLOCK)
        if self._admissions.host_of_link(link) is not None:
            return [link, *links.recv_multipart()]
        first: Any = links.recv(copy=False)
        rest = links.recv_multipart() if first.more else []
        host, key = first.get("User-Id"), first.get(KEY_PROPERTY)
        if not self._admissions.admit(link, host, key):
            who = f"a message of host {host} from {_as_ipv4(first.get('Peer-Address'))} with public key {key}"
            self._refuse(who, "this key is not the host's any more", now)
            return None
        return [link, first.bytes, *rest]

    def speaks_for(self, link: bytes, host: str, now: float) -> bool:
        """Whether `host`, which the other side of a connection claims to be, is the one that its key belongs to."""
        owner = self._admissions.host_of_link(link)
        if owner == host:
            return True
        self._refuse(f"a receiver that calls itself {host}", f"its public key is the one of host {owner}: check rpc_zmq_host and the keys there", now)
        return False

    def _refuse(self, who: str, why: str, now: float) -> None:
        self._refused()
        line = self._refusals.line(who, why, now)
        if line:
            LOG.warning("%s", line)

    # --- connections that we make --------------------------------------------------------------------------------------------------------------

    def prepare_dial(self, peers: zmq.Socket[Any], host: str) -> str:
        """Let the next connection of `peers` be one to `host` only. Return why that can't be, empty if it can."""
        key = self._admissions.key_to_dial(host)
        if key is None:
            return f"there is no public key of it: {self._directory}/{host}.pub is missing"
        peers.setsockopt(zmq.CURVE_SERVERKEY, key.encode("ascii"))
        return ""

    def why_failed(self, host: str, event: int, value: int) -> str:
        """Return why a handshake with `host` failed, from the event of libzmq's monitor and its value."""
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return f"it refuses our public key {self._own.current.public}: its allow-list must have it under our name"
        if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            return "it does not use CURVE: rpc_zmq_curve must be the same on all hosts" if value == NO_CURVE else "it speaks no proper CURVE"
        self._admissions.wrong_key(host)
        return f"it has another key than {self._directory}/{host}.pub says, does not use CURVE, or is no receiver"

    # --- changes -------------------------------------------------------------------------------------------------------------------------------

    def follow(self) -> KeyChanges | None:
        """Read the allow-list anew if it changed, as `reload` does. Return None if it did not."""
        return self.reload() if allow_list_signature(self._directory) != self._signature else None

    def reload(self) -> KeyChanges:
        """Read the allow-list anew, and return what is to be done; if it can't be read, the old one stays, and the log and status say so."""
        self._signature = allow_list_signature(self._directory)
        try:
            allowed = read_allow_list(self._directory)
        except KeyFileError as error:
            LOG.error("%s; the public keys that were read before stay in use", error)  # noqa: TRY400 - the operator's fault has no traceback
            self._error = str(error)
            return KeyChanges([], [], [])
        self._error = ""
        changes = self._admissions.replace(allowed)
        LOG.info(
            "public keys of %d hosts in %s (changed: %s); %d connections cut off, %d dialled anew",
            len(allowed.hosts),
            self._directory,
            ", ".join(sorted(changes.hosts)) or "none",
            len(changes.cut_links),
            len(changes.redial),
        )
        return changes

    def status(self) -> dict[str, Any]:
        """Return what `brokerless status` shows of the keys; nothing of it is secret."""
        allowed = self._admissions.allowed
        return {
            "public_key": self._own.current.public,
            "directory": self._directory,
            "hosts": len(allowed.hosts),
            "fingerprint": allowed.fingerprint,
            "error": self._error,
        }


def _as_ipv4(address: str) -> str:
    """Return an address as people write it; a socket for both protocols shows IPv4 ones as `::ffff:192.0.2.1`."""
    return address.removeprefix("::ffff:")


def _property(name: str, value: str) -> bytes:
    """Return a property as ZMTP (RFC 23) writes metadata."""
    return bytes([len(name)]) + name.encode("ascii") + len(value).to_bytes(4, "big") + value.encode("ascii")
