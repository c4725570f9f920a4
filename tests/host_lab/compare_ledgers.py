# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Compare what the hosts sent under load with what ran: `python compare_ledgers.py DIRECTORY`. It fails if a message was lost or ran twice."""

from __future__ import annotations

import sys
from pathlib import Path

from ledger import SHOWN, compare

FEWEST = 100
"""Messages below which nothing is shown by none of them being lost."""


def main() -> int:
    """Compare, and say what was found."""
    place = Path(sys.argv[1])
    findings = compare(place.rglob("*.sent"), place.rglob("*.ran"))
    sys.stdout.write(f"{findings.summary()}\n")
    for name, messages in findings.faults().items():
        sys.stdout.write(f"{len(messages)} {name}:\n" + "".join(f"  {message}\n" for message in messages[:SHOWN]))
    return 1 if findings.faults() or findings.sent < FEWEST else 0


if __name__ == "__main__":
    sys.exit(main())
