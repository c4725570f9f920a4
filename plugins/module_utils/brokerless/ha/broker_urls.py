# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Where the RabbitMQ brokers are: what an operator writes, as the URLs that kombu takes.

All of these are understood, one or several of them, separated by blanks, commas or semicolons:

| written | as in |
|---|---|
| `192.0.2.1`, `rabbit1:5673`, `[2001:db8::1]:5672` | the original's `rpchost`: user guest, password guest, virtual host / |
| `amqp://user:password@rabbit1:5672/vhost`, `amqps://...?ssl_ca_certs=FILE` | kombu, `amqps` for TLS |
| `rabbit://user:password@rabbit1:5672,user:password@rabbit2:5672/vhost` | the `transport_url` of OpenStack's services |
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671}
_SCHEMES = {"amqp": "amqp", "amqps": "amqps", "pyamqp": "amqp", "rabbit": "amqp", "kombu+amqp": "amqp"}
_SEVERAL = re.compile(r"[\s;]+|,(?=\s*[a-z+]+://)")
_URL = re.compile(r"(?P<scheme>[a-z+]+)://(?P<hosts>[^/?]*)(?P<path>/[^?]*)?(?P<query>\?.*)?")
_HOST = re.compile(r"(?:(?P<user>[^:@]*)(?::(?P<password>.*))?@)?(?P<host>\[[0-9A-Fa-f:.%]+\]|[\w.-]+)(?::(?P<port>\d{1,5}))?")


def broker_urls(written: str) -> tuple[str, ...]:
    """Return kombu's URLs for what is written, each with user, password, port and virtual host.

    Raises a `ValueError` that says which part is not understood, with no password in it.
    """
    parts = [part.strip(",") for part in _SEVERAL.split(written) if part.strip(",")]
    urls = [url for part in parts for url in _urls_of(part)]
    if not urls:
        raise ValueError("no RabbitMQ host is given: write a host, or amqp://USER:PASSWORD@HOST:PORT/VHOST")
    return tuple(dict.fromkeys(urls))


def shown(url: str) -> str:
    """Return the host and port of one of those URLs, which may be logged."""
    match = _URL.fullmatch(url)
    return match["hosts"].rpartition("@")[2] if match else "an unknown host"


def _urls_of(part: str) -> list[str]:
    match = _URL.fullmatch(part if "://" in part else f"amqp://{part}")
    scheme = _SCHEMES.get(match["scheme"]) if match else None
    if match is None or scheme is None:
        raise ValueError(f"{_harmless(part)!r} is no RabbitMQ address: write a host, or amqp:// or amqps:// and USER:PASSWORD@HOST:PORT/VHOST")
    vhost = unquote((match["path"] or "/")[1:]) or "/"
    urls = []
    user, password = "guest", "guest"
    for text in match["hosts"].split(","):
        host = _HOST.fullmatch(text)
        if host is None:
            raise ValueError(f"{_harmless(text)!r} is no RabbitMQ host: write HOST, HOST:PORT or USER:PASSWORD@HOST:PORT")
        if host["user"] is not None:
            user, password = unquote(host["user"]), unquote(host["password"] or "")
        port = int(host["port"] or DEFAULT_PORTS[scheme])
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        urls.append(f"{scheme}://{login}@{host['host']}:{port}/{quote(vhost, safe='')}{match['query'] or ''}")
    return urls


def _harmless(text: str) -> str:
    """Return a text without what may be a password in it."""
    return re.sub(r"[^/,]*@", "***@", text)[:80]
