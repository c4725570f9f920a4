# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""The shell around a `Lease` that all replicated ways to agree on a leader share: it brings the wall clock."""

from __future__ import annotations

import time

from .lease import Lease


class ByLease:
    """What every way to agree on a leader answers by its `Lease`."""

    _lease: Lease

    @property
    def term(self) -> int | None:
        """The number of the term that this replica leads in, None if it does not."""
        return self._lease.term

    @property
    def lost(self) -> str:
        """Why this replica does not lead, empty if it does."""
        return self._lease.lost

    def is_leader(self, now: float) -> bool:
        """Tell whether this replica leads, as far as it knows: enough to prepare, not to write."""
        return self._lease.is_leader(now, time.time())

    def may_write(self, now: float, needs: float, term: int | None = None) -> bool:
        """Tell whether a call that ends within `needs` seconds from `now` may be made, if planned in `term` in that one only."""
        return self._lease.may_write(now, time.time(), needs, term)
