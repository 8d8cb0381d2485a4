"""How a series went over the commits: what the store holds of it, in their order."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernelproof.conformance.history.measurement import METRICS, Run, Series
from kernelproof.conformance.history.revision import commit_places
from kernelproof.conformance.history.store import Recorded


@dataclass(frozen=True)
class Point:
    """What was measured of a series at one commit, in all of its runs; of uncommitted changes, and
    without a repository, in one run.

    values: one of each process, in order. conformant: whether the case passed in all runs.
    verdicts: words that were said, without repetition.
    """

    commit: str
    dirty: bool
    started: datetime.datetime
    values: Sequence[float]
    conformant: bool
    verdicts: Sequence[str]

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def revision(self) -> str:
        """The commit in a table; ``+`` marks uncommitted changes."""
        return f"{self.commit[:10] or 'no commit'}{'+' if self.dirty else ''}"


@dataclass(frozen=True)
class Trajectory:
    """A series over commits, the earliest first.

    seed: of the inputs; error ratios are compared at equal seeds only. Of other metrics "".
    """

    series: Series
    seed: str
    points: Sequence[Point]


def trajectories(recorded: Iterable[Recorded], repository: Path | str) -> list[Trajectory]:
    """One for each series (and seed, of errors), sorted. repository: a folder in it."""
    every = list(recorded)
    places = commit_places(repository, _first_seen(every))
    groups: dict[tuple[Series, str], dict[tuple[str, str], list[Recorded]]] = {}
    for each in every:
        series, run = each.measurement.series, each.run
        metric = METRICS.get(series.metric)
        seed = run.seed if metric and metric.kind == "error" else ""
        alone = run.id if run.dirty or not run.commit else ""
        groups.setdefault((series, seed), {}).setdefault((run.commit, alone), []).append(each)
    found = []
    for series, seed in sorted(groups):
        points = [_point(of_point) for of_point in groups[series, seed].values()]
        points.sort(key=lambda p: (*places[p.commit], p.started) if p.commit else _undated(p))
        found.append(Trajectory(series, seed, points))
    return found


def ordered_runs(runs: Iterable[Run], repository: Path | str) -> list[Run]:
    """Runs in the order of their commits; those of one commit as they were made."""
    every = list(runs)
    seen: dict[str, datetime.datetime] = {}
    for run in every:
        seen[run.commit] = min(run.started, seen.get(run.commit, run.started))
    places = commit_places(repository, {c: s for c, s in seen.items() if c})
    nowhere = len(places)

    def place(run: Run) -> tuple[float, int, str, bool, datetime.datetime]:
        where = places.get(run.commit, (run.started.timestamp(), nowhere, ""))
        return (*where, run.dirty, run.started)

    return sorted(every, key=place)


def _first_seen(recorded: Sequence[Recorded]) -> dict[str, datetime.datetime]:
    seen: dict[str, datetime.datetime] = {}
    for run in (each.run for each in recorded):
        if run.commit:
            seen[run.commit] = min(run.started, seen.get(run.commit, run.started))
    return seen


def _undated(point: Point) -> tuple[float, int, str, datetime.datetime]:
    return point.started.timestamp(), 0, "", point.started


def _point(recorded: Sequence[Recorded]) -> Point:
    run = recorded[0].run
    measured = [each.measurement for each in recorded]
    return Point(
        commit=run.commit,
        dirty=run.dirty,
        started=min(each.run.started for each in recorded),
        values=[m.value for m in measured],
        conformant=all(m.conformant for m in measured),
        verdicts=tuple(dict.fromkeys(m.verdict for m in measured if m.verdict)),
    )
