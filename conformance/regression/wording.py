"""Numbers in words."""

from __future__ import annotations

import math

from kernelproof.conformance.history.measurement import METRICS

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))

FACTOR = 10
"""From so many times as much on, a change is told as a factor."""


def percent(share: float | None) -> str:
    """A relative change; from ten times as much on, the factor.

    >>> percent(0.18), percent(-0.5), percent(0.0123), percent(float("inf")), percent(None)
    ('+18 %', '-50 %', '+1.2 %', 'from 0', '-')
    >>> percent(8.9), percent(9.0), percent(516.01), percent(6000)
    ('+890 %', 'x 10', 'x 517', 'x 6,001')
    """
    if share is None or math.isnan(share):
        return "-"
    if math.isinf(share):
        return "from 0"
    if share >= FACTOR - 1:
        return f"x {1 + share:,.0f}"
    digits = 1 if 0.0005 <= abs(share) < 0.0995 else 0
    return f"{100 * share:+.{digits}f} %"


def amount(value: float | None, metric: str) -> str:
    """A value of a metric with its unit.

    >>> amount(12288, "traffic"), amount(0.00123, "time"), amount(0.5, "error"), amount(None, "x")
    ('12,288 B', '1.23 ms', '0.5', '-')
    """
    if value is None:
        return "-"
    kind = METRICS[metric]
    if metric == "time":
        size, unit = next((each for each in _SECONDS if value >= each[0]), _SECONDS[-1])
        return f"{value / size:.3g} {unit}"
    if kind.kind == "error":
        return f"{value:.3g}"
    if kind.kind == "timed":
        return f"{value:.3g} {kind.unit}"
    return f"{value:,.0f} {kind.unit}" if kind.unit == "B" else f"{value:,.0f}"


def plural(noun: str, count: int) -> str:
    """A noun as it stands behind a number; ``series`` has one form."""
    return noun if count == 1 or noun == "series" else f"{noun}s"
