# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""Real processes under fire for minutes, and every message accounted for: `make soak`.

Options are environment variables: CASTS (100008) and CALLS (20004), both multiples of 12; KILLS (30), CUTS (20) and SECONDS (150), over which they
are spread; OUTAGE (20) and LONG_OUTAGE (60), the seconds for which the target's receiver is away, and TTL (30), those of the messages meanwhile;
SEED. The exit code is 1 if a message was lost, ran twice or out of order, or failed; a failure names the messages and shows the ends of the
receivers' logs.
"""

from __future__ import annotations

import os
import sys

from hosts_under_fire import hosts_under_fire, outage, storm


def option(name: str, default: int) -> int:
    """Return an option's number."""
    return int(os.environ.get(name, "") or default)


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run it all; return the exit code."""
    seed = option("SEED", int.from_bytes(os.urandom(2), "big"))
    ttl = option("TTL", 30)
    wrong = []
    say(f"SEED={seed}")
    with hosts_under_fire(seed) as hosts:
        for how in ("frozen", "stopped"):
            for seconds in (option("OUTAGE", 20), option("LONG_OUTAGE", 60)):
                result = outage(hosts, how, seconds, ttl, 200 * seconds, 40 * seconds)
                wrong.append(hosts.report(result.findings))
                say(f"receiver {how} for {seconds} s, TTL {ttl} s: {result.findings.summary()}; slowest answered call {result.slowest_call:.1f} s")
        kills, cuts = option("KILLS", 30), option("CUTS", 20)
        findings = storm(hosts, option("CASTS", 100_008), option("CALLS", 20_004), kills, cuts, option("SECONDS", 150), say)
        wrong.append(hosts.report(findings))
        say(f"{kills} kills and {cuts} cuts: {findings.summary()}")
        for name, (early, late, peak) in hosts.memory.growth().items():
            say(f"memory of {name}: {early:.0f} MiB in the second quarter of the time, {late:.0f} in the last one, {peak:.0f} at most")
    for fault in filter(None, wrong):
        say(fault)
    return 1 if any(wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
