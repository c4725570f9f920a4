# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Key files: a host's own CURVE keys, and the allow-list of the public keys of all hosts.

A key is 32 bytes, written in Z85 (ZeroMQ RFC 32) as 40 characters. `#` and `=` are among them, but no key begins with `#`: that would be more than
its first 32 bits. So a line that begins with `#` is a comment, and behind a key a comment needs a blank.

The own keys are one file, so that each step of a rotation is one rename:

    public = Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID
    secret = D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs

and, while a rotation is under way, `next_public` and `next_secret` (the pair that comes next) and `previous_public` (the one that went before).
The allow-list is a directory with one file for each host, `<host>.pub`, that holds one public key on each line: all are accepted from that
host, and the first is the one that it is expected to have.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from ..topics import TopicError, check_host

KEY_CHARACTERS = 40
MAX_KEY_FILE_BYTES = 64 << 10
"""The largest key file in bytes. A rotation needs two keys of 41 bytes each."""
PUBLIC_SUFFIX = ".pub"
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_B85 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
_TO_B85 = str.maketrans(_Z85, _B85)
_TO_Z85 = str.maketrans(_B85, _Z85)
_OWN_NAMES = ("public", "secret", "next_public", "next_secret", "previous_public")


class KeyFileError(ValueError):
    """A key file can't be read or is not acceptable; the message names the file, the line and the fault, in one line, and never a secret."""


def to_z85(key: bytes) -> str:
    """Return the text of a key of 32 bytes."""
    return base64.b85encode(key).decode("ascii").translate(_TO_Z85)


def key_fault(text: str) -> str:
    """Return what is wrong with the text of a key, empty if nothing is. It does not repeat the text, which may be a secret."""
    if len(text) != KEY_CHARACTERS:
        return f"a key has {KEY_CHARACTERS} characters, and this has {len(text)}"
    bad = next((character for character in text if character not in _Z85), None)
    if bad is not None:
        return f"{bad!r} is no character of Z85"
    try:
        base64.b85decode(text.translate(_TO_B85))
    except ValueError:
        return "it is not Z85: five of its characters in a row are more than 32 bits"
    return ""


@dataclass(frozen=True)
class KeyPair:
    """A CURVE key pair, both in Z85."""

    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class OwnKeys:
    """What a host's own key file holds: the pair in use, during a rotation the one that comes next, and the public key that went before."""

    current: KeyPair
    next: KeyPair | None = None
    previous_public: str = ""

    @property
    def accepted(self) -> tuple[str, ...]:
        """The public keys that other hosts must accept from this one; the first is the one in use."""
        others = (self.next.public if self.next else "", self.previous_public)
        return (self.current.public, *(key for key in others if key))

    def prepared(self, pair: KeyPair) -> OwnKeys:
        """Return the keys with `pair` as the next one, for a rotation that begins."""
        return OwnKeys(self.current, pair, self.previous_public)

    def rotated(self) -> OwnKeys:
        """Return the keys after the next pair took the place of the current one; the same if there is no next pair."""
        return OwnKeys(self.next, None, self.current.public) if self.next else self

    def settled(self) -> OwnKeys:
        """Return the keys without the one that went before, for a rotation that ends."""
        return OwnKeys(self.current, self.next)

    def to_text(self) -> str:
        """Return the text of the file."""
        values = {"public": self.current.public, "secret": self.current.secret}
        if self.next:
            values |= {"next_public": self.next.public, "next_secret": self.next.secret}
        if self.previous_public:
            values["previous_public"] = self.previous_public
        lines = [f"{name} = {value}\n" for name, value in values.items()]
        return "".join(["# CURVE keys of this host. The secret ones never leave it.\n", *lines])


def parse_own_keys(text: str, source: str) -> OwnKeys:
    """Return the keys in `text`, the content of a host's own key file. `source` names the file in errors. Raises `KeyFileError`."""
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"key file {source}, line {number}"
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        name, equals, value = (part.strip() for part in content.partition("="))
        if not equals or name not in _OWN_NAMES:
            raise KeyFileError(f"{where}: must be NAME = KEY with one of the names {', '.join(_OWN_NAMES)}")
        if name in values:
            raise KeyFileError(f"{where}: {name} is there twice")
        fault = key_fault(value)
        if fault:
            raise KeyFileError(f"{where}: {name}: {fault}")
        values[name] = value
    missing = [name for name in ("public", "secret") if name not in values]
    if missing:
        raise KeyFileError(f"key file {source}: lacks {' and '.join(missing)}")
    if ("next_public" in values) != ("next_secret" in values):
        raise KeyFileError(f"key file {source}: next_public and next_secret belong together, and one is missing")
    following = KeyPair(values["next_public"], values["next_secret"]) if "next_public" in values else None
    return OwnKeys(KeyPair(values["public"], values["secret"]), following, values.get("previous_public", ""))


def read_own_keys(path: str | Path) -> OwnKeys:
    """Read a host's own key file. Raises `KeyFileError`; a file that others than its owner and its group's readers can get at is an error."""
    text, mode = _read(Path(path), f"key file {path}")
    if mode & 0o037:
        raise KeyFileError(f"key file {path}: has mode {mode:04o}, and may have 0600 or 0640: a secret that others could read is to be made anew")
    return parse_own_keys(text, str(path))


@dataclass(frozen=True)
class AllowList:
    """The public keys of each host that is allowed to connect. Made by `read_allow_list`, which lets nothing wrong pass."""

    hosts: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "hosts", MappingProxyType(dict(self.hosts)))

    @cached_property
    def _host_of(self) -> dict[str, str]:
        return {key: host for host, keys in self.hosts.items() for key in keys}

    def host_of(self, public_key: str) -> str | None:
        """Return the host that a public key belongs to, None if it is no one's."""
        return self._host_of.get(public_key)

    def keys_of(self, host: str) -> tuple[str, ...]:
        """Return the public keys of a host, none if it is not allowed."""
        return self.hosts.get(host, ())

    @cached_property
    def fingerprint(self) -> str:
        """A short text that is the same for two lists only if they say the same, by which a deployment sees that a receiver has read it."""
        said = "\n".join(f"{host} {' '.join(keys)}" for host, keys in sorted(self.hosts.items()))
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def parse_public_keys(text: str, source: str) -> tuple[str, ...]:
    """Return the public keys in `text`, the content of a host's `.pub` file. `source` names the file in errors. Raises `KeyFileError`."""
    keys: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"public keys {source}, line {number}"
        key, *rest = line.split(maxsplit=1) or [""]
        if not key or key.startswith("#"):
            continue
        fault = key_fault(key)
        if not fault and rest and not rest[0].startswith("#"):
            fault = "a line holds one key"
        if fault:
            raise KeyFileError(f"{where}: {fault}")
        if key in keys:
            raise KeyFileError(f"{where}: the same key is there twice")
        keys.append(key)
    if not keys:
        raise KeyFileError(f"public keys {source}: holds no key; remove the file to refuse the host")
    return tuple(keys)


def read_allow_list(directory: str | Path) -> AllowList:
    """Read the allow-list in `directory`. Raises `KeyFileError`, naming the directory or the file and the line; what is not `*.pub` is not read."""
    hosts: dict[str, tuple[str, ...]] = {}
    owner: dict[str, str] = {}
    for path in public_key_files(directory):
        host = path.name.removesuffix(PUBLIC_SUFFIX)
        try:
            check_host(host)
        except TopicError as error:
            raise KeyFileError(f"public keys {path}: its name is no host's: {error}") from error
        hosts[host] = parse_public_keys(_read(path, f"public keys {path}")[0], str(path))
        for key in hosts[host]:
            if key in owner:
                raise KeyFileError(f"public keys {path}: key {key} is the one of host {owner[key]} too; each host has a key of its own")
            owner[key] = host
    return AllowList(hosts)


def public_key_files(directory: str | Path) -> list[Path]:
    """Return the files of the allow-list in `directory`, sorted; hidden ones are somebody's work in progress. Raises `KeyFileError`."""
    try:
        return sorted(path for path in Path(directory).iterdir() if path.name.endswith(PUBLIC_SUFFIX) and not path.name.startswith("."))
    except OSError as error:
        raise KeyFileError(f"directory {directory} of the hosts' public keys can't be read: {error.strerror}") from error


def allow_list_signature(directory: str | Path) -> tuple[tuple[str, int, int, int], ...] | None:
    """Return what changes when the allow-list in `directory` does, None if it can't be read."""
    try:
        with os.scandir(directory) as entries:
            found = [(entry.name, entry.stat()) for entry in entries if entry.name.endswith(PUBLIC_SUFFIX)]
    except OSError:
        return None
    return tuple(sorted((name, status.st_mtime_ns, status.st_size, status.st_ino) for name, status in found))


def _read(path: Path, what: str) -> tuple[str, int]:
    """Return the text and the permission bits of a file."""
    try:
        # Opening a pipe or a device must not wait for anyone.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise KeyFileError(f"{what}: is no regular file")
            content = file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"{what}: can't be read: {error.strerror}") from error
    if len(content) > MAX_KEY_FILE_BYTES:
        raise KeyFileError(f"{what}: is too big; a key file has {MAX_KEY_FILE_BYTES} bytes at most")
    try:
        return content.decode("utf-8"), stat.S_IMODE(status.st_mode)
    except UnicodeDecodeError as error:
        raise KeyFileError(f"{what}: is not UTF-8 text (byte {error.start + 1})") from error
