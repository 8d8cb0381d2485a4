"""A series over commits, drawn in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kernelproof.conformance.history.measurement import METRICS
from kernelproof.conformance.history.trajectory import Point, Trajectory
from kernelproof.conformance.history.wording import amount, change

WIDTH = 40
"""Characters of the chart."""


def chart_of(trajectory: Trajectory) -> RenderableType:
    """A row per commit: its value, how it changed, and where its processes lie.

    A dot is the median, a line goes from the fastest process to the slowest.
    """
    series, points = trajectory.series, trajectory.points
    values = [v for point in points for v in point.values if math.isfinite(v)]
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("commit", "date (UTC)", "value", "change"):
        table.add_column(
            heading, no_wrap=True, justify="right" if heading in ("value", "change") else "left"
        )
    left, right = amount(low, series.metric), amount(high, series.metric)
    table.add_column(f"{left}{right.rjust(max(WIDTH - len(left), len(right) + 1))}", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    before: float | None = None
    for point in points:
        table.add_row(*_cells(point, before, series.metric, low, high))
        before = point.value if point.conformant else before
    metric = METRICS.get(series.metric)
    about = f"{series.device}; {series.toolchain}"
    about += f"; seed {trajectory.seed}" if trajectory.seed else ""
    sentence = f" ({metric.sentence})" if metric else ""
    return Group(Text(f"{series.name}{sentence}", style="bold"), Text(about), table)


def _cells(
    point: Point, before: float | None, metric: str, low: float, high: float
) -> Sequence[Text]:
    changed = "" if before is None else change(before, point.value)
    color = ""
    if before is not None and (METRICS[metric].kind if metric in METRICS else "") == "counted":
        color = "red" if point.value > before else "green" if point.value < before else ""
    words = list(point.verdicts) if point.conformant else [*point.verdicts, "(wrong result)"]
    return (
        Text(point.revision),
        Text(f"{point.started:%Y-%m-%d %H:%M}"),
        Text(amount(point.value, metric)),
        Text(changed, style=color),
        Text(bar(point.values, point.value, low, high)),
        Text(" ".join(words), style="" if point.conformant else "red"),
    )


def bar(values: Sequence[float], middle: float, low: float, high: float) -> str:
    """Where values lie between two ends.

    >>> bar([1, 2, 3], 2, 0, 4).rstrip()
    '          ──────────●─────────'
    """
    finite = [v for v in values if math.isfinite(v)]
    cells = [" "] * WIDTH
    if finite:
        first, last = (_cell(v, low, high) for v in (min(finite), max(finite)))
        cells[first : last + 1] = "─" * (last + 1 - first)
    if math.isfinite(middle):
        cells[_cell(middle, low, high)] = "●"
    else:
        cells[-1] = "›"
    return "".join(cells)


def _cell(value: float, low: float, high: float) -> int:
    return round((value - low) / (high - low) * (WIDTH - 1)) if high > low else 0
