"""Numbers and tables as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from kernelproof.conformance.history.measurement import METRICS

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def amount(value: float, metric: str) -> str:
    """A value with its unit.

    >>> amount(12288, "traffic"), amount(0.001234, "time"), amount(0.5, "error")
    ('12,288 B', '1.234 ms', '0.5')
    """
    if not math.isfinite(value):
        return str(value)
    if metric == "time":
        size, unit = next((each for each in _SECONDS if abs(value) >= each[0]), _SECONDS[-1])
        return f"{value / size:.4g} {unit}"
    known = METRICS.get(metric)
    if known is None or known.kind != "counted":
        return f"{value:.4g}"
    return f"{value:,.0f}{' B' if known.unit == 'B' else ''}"


def change(before: float, after: float) -> str:
    """What became of a value, relative to what it was; from ten times as much on, the factor.

    >>> change(100, 118), change(100, 50), change(100, 100.4), change(7, 7), change(0, 3)
    ('+18%', '-50%', '+0.40%', '=', 'from 0')
    >>> change(1, 9.9), change(1, 10), change(2, 12002)
    ('+890%', 'x 10', 'x 6,001')
    """
    if before == after:
        return "="
    if not before or not math.isfinite(before) or not math.isfinite(after):
        return "from 0" if not before else "-"
    percent = 100 * (after - before) / abs(before)
    if percent >= 900:
        return f"x {after / before:,.0f}"
    digits = 0 if abs(percent) >= 9.95 else 1 if abs(percent) >= 0.95 else 2
    return f"{percent:+,.{digits}f}%"


def aligned(rows: Sequence[Sequence[str]], numbers: Collection[int] = ()) -> list[str]:
    """Lines of a table; columns of numbers are set to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place in numbers else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def many(number: int, what: str) -> str:
    """How many of something.

    >>> many(1, "run"), many(2000, "run"), many(2, "series")
    ('1 run', '2,000 runs', '2 series')
    """
    return f"{number:,} {what}{'' if number == 1 or what.endswith('s') else 's'}"
