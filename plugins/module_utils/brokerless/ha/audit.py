# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The audit file: a line of JSON for each decision and each change, for those who must know later what was done, and why."""

from __future__ import annotations

import json
import logging
import threading
import time
from pathlib import Path
from typing import Any, TextIO

LOG = logging.getLogger("rpcdaemon.audit")


class AuditFile:
    """Appends lines. It is opened anew for each, so that whatever rotates it may take it away; a disk that is full stops nothing."""

    def __init__(self, path: str) -> None:
        """Write to `path`; nowhere if it is empty."""
        self._path = path
        self._lock = threading.Lock()
        self._failed = ""

    def write(self, event: str, **fields: Any) -> None:
        """Write what happened: the time (UTC, ISO 8601), `event`, and the fields."""
        if not self._path:
            return
        now = time.time()
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        line = json.dumps({"at": at, "event": event, **fields}, default=str)
        with self._lock:
            try:
                file: TextIO
                with Path(self._path).open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
                self._failed = ""
            except OSError as error:
                if self._failed != str(error):
                    self._failed = str(error)
                    LOG.error("audit file %s: %s", self._path, error)  # noqa: TRY400 - not our fault

    def close(self) -> None:
        """Nothing is open between two lines."""
