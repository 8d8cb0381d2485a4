"""Where series changed over commits, and what was counted that changed with a time.

What is counted, or is an error at one seed, has no noise: every change is one. Of a time each
commit is one point, the median of the logarithms of its processes, which were measured on one day
and share its conditions; ``steps.py`` finds the steps. Times of wrong results, and measurements of
uncommitted files, are left out. A change that was accepted is named as such; of a time it starts a
new segment, in which steps are looked for by themselves.

A change says where to look. The gate, which measures both sides in turns, is the judge
(``kernelproof gate --base``), also of the newest commit: one point is no evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from kernelproof.conformance.history.measurement import ACCEPTED, METRICS, Series
from kernelproof.conformance.history.steps import FEWEST, Step, find_steps
from kernelproof.conformance.history.trajectory import Point, Trajectory
from kernelproof.conformance.history.wording import amount, change

BUDGET = 0.02


@dataclass(frozen=True)
class Change:
    """A step of one series between two commits at which it was measured.

    before, after: the last commit before it and the first after it. values: typical ones of both
    sides, in the metric's unit. interval: of after / before - 1, at 90 percent; None where nothing
    is noise, and p is 0 there. seed: of an error. moved: counted changes of the same case between
    these commits, of a time. accepted: whether the gate knew it as an accepted change.
    """

    series: Series
    seed: str
    before: str
    after: str
    values: tuple[float, float]
    interval: tuple[float, float] | None
    p: float
    moved: Sequence[Change] = ()
    accepted: bool = False

    @property
    def kind(self) -> str:
        """``counted``, ``error`` or ``timed``."""
        return kind_of(self.series)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        low_high = list(self.interval) if self.interval else None
        return {
            "series": self.series.name,
            **asdict(self.series),
            "seed": self.seed,
            "before": self.before,
            "after": self.after,
            "values": list(self.values),
            "interval": low_high,
            "p": self.p,
            "accepted": self.accepted,
            "moved": [each.to_json() for each in self.moved],
        }


def kind_of(series: Series) -> str:
    """The kind of a series' metric; one of an unknown name has noise for all we know."""
    metric = METRICS.get(series.metric)
    return metric.kind if metric else "timed"


def usable(trajectory: Trajectory) -> list[Point]:
    """The points at commits; of a time, those of right results."""
    points = [point for point in trajectory.points if point.commit and not point.dirty]
    if kind_of(trajectory.series) != "timed":
        return points
    return [p for p in points if p.conformant and min(p.values) > 0]


def is_short(trajectory: Trajectory) -> bool:
    """Whether it has noise and too few commits for any step to be evident."""
    return kind_of(trajectory.series) == "timed" and len(usable(trajectory)) < FEWEST


def changes_of(trajectory: Trajectory, budget: float = BUDGET) -> list[Change]:
    """The changes of one series, the earliest first. budget: of a time, the least that counts."""
    points = usable(trajectory)
    if kind_of(trajectory.series) != "timed":
        return [
            _change(trajectory, points, i + 1, (one.values[-1], other.values[-1]))
            for i, (one, other) in enumerate(pairwise(points))
            if one.values[-1] != other.values[-1]
        ]
    if len(points) < FEWEST:
        return []
    x = np.array([np.median(np.log(point.values)) for point in points])
    starts = [place for place in range(1, len(x)) if _is_accepted(points[place])]
    steps: dict[int, Step | None] = dict.fromkeys(starts)
    for start, end in pairwise([0, *starts, len(x)]):
        if end - start >= FEWEST:
            found = find_steps(x[start:end], float(np.log1p(budget)))
            steps.update({start + step.place: step for step in found})
    bounds = [0, *sorted(steps), len(x)]
    levels = [float(np.exp(np.median(x[a:b]))) for a, b in pairwise(bounds)]
    return [
        _change(trajectory, points, place, (before, after), steps[place])
        for place, (before, after) in zip(sorted(steps), pairwise(levels), strict=True)
        # several commits of a branch may each have been accepted beside the same base
        if steps[place] or abs(np.log(after / before)) >= np.log1p(budget)
    ]


def with_counted(changes: Iterable[Change], order: Mapping[str, Any]) -> list[Change]:
    """The same; beside each of a time, what is counted of its case and changed between the same
    commits. order: sorts commits."""
    every = list(changes)
    counted: dict[tuple[str, ...], list[Change]] = {}
    for each in every:
        if each.kind == "counted":
            counted.setdefault(_case(each), []).append(each)

    def overlap(one: Change, other: Change) -> bool:
        return bool(
            order[one.before] < order[other.after] and order[other.before] < order[one.after]
        )

    return [
        replace(each, moved=[c for c in counted.get(_case(each), ()) if overlap(each, c)])
        if each.kind == "timed"
        else each
        for each in every
    ]


def lines_of(one: Change, unmeasured: int | None) -> list[str]:
    """A change as text. unmeasured: commits between before and after; None if git cannot tell."""
    series, (before, after) = one.series, one.values
    size = change(before, after)
    if one.interval:
        low, high = (100 * share for share in one.interval)
        size += f" [{low:+.1f}%, {high:+.1f}%]"
    between = f", {unmeasured:,} unmeasured between" if unmeasured else ""
    place = f"{one.before[:10]}..{one.after[:10]}{between}"
    values = f"{amount(before, series.metric)} -> {amount(after, series.metric)}"
    lines = [f"{series.name}  {size}  {values}", f"  {place}{'; accepted' * one.accepted}"]
    if one.kind == "timed":
        evident = f"; p {one.p:.2g}" if one.interval else ""
        lines[-1] += f"{evident}; {series.device}; {series.toolchain}"
        with_it = [
            f"  with it: {each.series.metric} {change(*each.values)} "
            f"({amount(each.values[0], each.series.metric)} -> "
            f"{amount(each.values[1], each.series.metric)}, {each.series.backend})"
            for each in one.moved
        ]
        lines += with_it or ["  nothing that is counted changed with it"]
    return lines


def _change(
    trajectory: Trajectory,
    points: Sequence[Point],
    place: int,
    values: tuple[float, float],
    step: Step | None = None,
) -> Change:
    before, after = points[place - 1], points[place]
    return Change(
        trajectory.series,
        trajectory.seed,
        before.commit,
        after.commit,
        values,
        (float(np.expm1(step.interval[0])), float(np.expm1(step.interval[1]))) if step else None,
        step.p if step else 0.0,
        accepted=_is_accepted(after),
    )


def _is_accepted(point: Point) -> bool:
    return any(verdict.startswith(ACCEPTED) for verdict in point.verdicts)


def _case(one: Change) -> tuple[str, ...]:
    """What a time and a count have in common: they may be of different backends."""
    series = one.series
    return series.spec, series.implementation, series.case_id
