# Copyright: Contributors to brokerless.openstack
# SPDX-License-Identifier: Apache-2.0
"""What the figures should be. They are said, not asserted: a busy machine is no defect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from others import Figure

Figures: TypeAlias = dict[tuple[str, int], dict[str, float]]
"""By contender and size of the body: the figures by column."""

OURS, FORWARDED, BROKER = "ours, 1 receiver", "pyzmq, 1 Python forwarder", "RabbitMQ, confirmed"
OSLO_ZMQ, OSLO_RABBIT = "oslo.messaging, zmq://, 1 receiver", "oslo.messaging, rabbit://"


def targets(figures: Figures, sizes: Sequence[int], columns: Sequence[str], others: Mapping[str, Figure]) -> Iterator[str]:
    """Yield a line for each target: whether it is met, and by how much."""
    median, _slowest, calls, casts, casts_of_many, _fanouts = columns
    for size in sizes:
        ours, forwarded, broker = (figures.get((name, size)) for name in (OURS, FORWARDED, BROKER))
        if ours and forwarded:
            yield _line(ours[calls] / forwarded[calls], 0.6, f"{calls}, {size} B, of {FORWARDED}", at_least=True)
            yield _line(ours[median] / forwarded[median], 2.0, f"{median}, {size} B, of {FORWARDED}", at_least=False)
        if ours and broker:
            yield _line(ours[casts] / broker[casts], 10.0, f"{casts}, {size} B, of {BROKER}", at_least=True)
            yield _line(ours[casts_of_many] / broker[casts_of_many], 10.0, f"{casts_of_many}, {size} B, of {BROKER}", at_least=True)
        zmq, rabbit = (figures.get((name, size)) for name in (OSLO_ZMQ, OSLO_RABBIT))
        if zmq and rabbit:
            yield _line(zmq[median] / rabbit[median], 0.25, f"{median}, {size} B, of {OSLO_RABBIT}", at_least=False)
            yield _line(zmq[calls] / rabbit[calls], 6.0, f"{calls}, {size} B, of {OSLO_RABBIT}", at_least=True)
            yield _line(zmq[casts] / rabbit[casts], 8.0, f"{casts}, {size} B, of {OSLO_RABBIT}", at_least=True)
    for name, figure in others.items():
        if figure.at_most is not None:
            yield _line(figure.value, figure.at_most, name, at_least=False)


def _line(ratio: float, target: float, what: str, *, at_least: bool) -> str:
    met = ratio >= target if at_least else ratio <= target
    return f"{'met    ' if met else 'NOT met'}  {ratio:6.2f}x  (at {'least' if at_least else 'most'} {target:g}x)  {what}"
