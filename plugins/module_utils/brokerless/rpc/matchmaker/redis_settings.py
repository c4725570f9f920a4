# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Where the Redis is that MatchMaker `redis` goes by, and how it is shown to people: without its password."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

SCHEMES = ("redis", "rediss", "unix")
"""The schemes of URLs: TCP, TCP with TLS, and a UNIX socket."""

MAX_KEY_PREFIX = 100
_KEY_PREFIX = re.compile(r"[A-Za-z0-9_.:-]+")


class RedisSettingsError(ValueError):
    """The settings of Redis are not acceptable; the message names the option and the fault, and no password."""


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """The options of group `[matchmaker_redis]`. `url` goes before host, port and db; `timeout` is in seconds.

    `key_prefix` begins the names of all keys, so that several clouds may share one Redis.
    """

    host: str = "127.0.0.1"
    port: int = 6379
    username: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    url: str = field(default="", repr=False)
    key_prefix: str = "brokerless"
    timeout: float = 5.0

    def checked(self) -> RedisSettings:
        """Return the settings themselves if they are acceptable. Raises `RedisSettingsError`."""
        if len(self.key_prefix) > MAX_KEY_PREFIX or not _KEY_PREFIX.fullmatch(self.key_prefix):
            raise RedisSettingsError(
                f"[matchmaker_redis] key_prefix {self.key_prefix[:MAX_KEY_PREFIX]!r} may hold letters, digits and _ . : -, "
                f"at most {MAX_KEY_PREFIX} of them, and is not empty"
            )
        if self.url:
            self._check_url()
        return self

    def _check_url(self) -> None:
        """Check what would otherwise be said by a library, with the whole URL and the password in it."""
        scheme, separator, _rest = self.url.partition("://")
        if not separator or scheme not in SCHEMES:
            raise RedisSettingsError(f"[matchmaker_redis] url must begin with {', '.join(f'{known}://' for known in SCHEMES)}")
        try:
            parts = urlsplit(self.url)
            _port = parts.port
        except ValueError as error:
            raise RedisSettingsError("[matchmaker_redis] url has no port between 0 and 65535, or brackets around what is no IPv6 address") from error
        if scheme == "unix" and not parts.path:
            raise RedisSettingsError("[matchmaker_redis] url names no path of a UNIX socket, as in unix:///run/redis/redis-server.sock")
        if scheme != "unix" and parts.path.strip("/") and not parts.path.strip("/").isdecimal():
            raise RedisSettingsError("[matchmaker_redis] url has behind its host no number of a database, as in redis://redis1:6379/0")

    @property
    def shown(self) -> str:
        """Where Redis is, without user and password."""
        if not self.url:
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"{host}:{self.port}" + (f"/{self.db}" if self.db else "")
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
