# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The only replica leads from its start to its end."""

from __future__ import annotations

import time


class SingleLeader:
    """Leadership where nothing is to be agreed on, as the operator has said: there is one replica."""

    def __init__(self) -> None:
        """It leads from `start` on."""
        self._term: int | None = None

    def start(self) -> None:
        """Lead. The term is the time of the start, so that a later one's is higher."""
        self._term = int(time.time())

    def close(self) -> None:
        """Lead no more."""
        self._term = None

    @property
    def term(self) -> int | None:
        """The number of the term, None before `start` and after `close`."""
        return self._term

    @property
    def lost(self) -> str:
        """Why this replica does not lead, empty if it does."""
        return "" if self._term else "this daemon is stopped"

    def is_leader(self, now: float) -> bool:
        """Tell whether it was started and not closed."""
        return self._term is not None

    def may_write(self, now: float, needs: float, term: int | None = None) -> bool:
        """Tell the same; `term` as planned in must be this one."""
        return self._term is not None and term in {None, self._term}
