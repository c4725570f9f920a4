# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Bare calls of Neutron's API, without authentication and without anything between a test and the status code."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

USER_AGENT = "neutron-lab"
"""By which the API's access log knows the lab's own calls."""


@dataclass(frozen=True)
class Answer:
    """What the API answered, and after how many seconds. `body` is `None` if there is none."""

    status: int
    body: Any
    seconds: float


class CloudApi:
    """Neutron's API; may be used from many threads."""

    def __init__(self, address: str, user_agent: str = USER_AGENT) -> None:
        """`address` is `host:port`."""
        self._address = address
        self._user_agent = user_agent

    def call(self, method: str, path: str, body: object = None, time_limit: float = 300.0) -> Answer:
        """Make one request of `path` below /v2.0. Raises `OSError` or `HTTPException` if it is not answered within `time_limit` seconds."""
        connection = http.client.HTTPConnection(self._address, timeout=time_limit)
        headers = {"User-Agent": self._user_agent, "Content-Type": "application/json"}
        began = time.monotonic()
        try:
            connection.request(method, f"/v2.0/{path}", None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        return Answer(response.status, json.loads(content) if content else None, time.monotonic() - began)

    def list(self, collection: str, path: str | None = None, **filters: str) -> list[dict[str, Any]]:
        """Return all of a collection (`agents`, `routers`, `networks`, `ports`); `path` is where it is, if that is not its name."""
        answer = self.call("GET", f"{path or collection}?{urlencode(filters)}")
        assert answer.status == 200, answer
        found: list[dict[str, Any]] = answer.body[collection]
        return found

    def create(self, kind: str, **values: object) -> dict[str, Any]:
        """Create a `network`, `subnet`, `router`, `port` or `floatingip`; fails if the API refuses."""
        answer = self.call("POST", f"{kind}s", {kind: values})
        assert answer.status == 201, (kind, values, answer)
        created: dict[str, Any] = answer.body[kind]
        return created

    def delete(self, path: str) -> None:
        """Delete what is at the path; fails if the API refuses."""
        answer = self.call("DELETE", path)
        assert answer.status == 204, (path, answer)

    def put(self, path: str, body: object) -> Answer:
        """Change what is at the path; fails if the API refuses."""
        answer = self.call("PUT", path, body)
        assert answer.status == 200, (path, body, answer)
        return answer
