"""The changes of a store, as ``kernelproof history changes`` reports them."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernelproof.conformance.history.changes import (
    Change,
    changes_of,
    is_short,
    lines_of,
    with_counted,
)
from kernelproof.conformance.history.measurement import METRICS
from kernelproof.conformance.history.revision import (
    RevisionError,
    commit_places,
    commits_between,
    root_of,
)
from kernelproof.conformance.history.steps import FEWEST
from kernelproof.conformance.history.store import Recorded, Store
from kernelproof.conformance.history.trajectory import trajectories
from kernelproof.conformance.history.wording import many


@dataclass(frozen=True)
class Report:
    """Changes in the order of commits. unmeasured: of each, commits between; None: unknown.

    searched: how many series. short: names of those with too few commits to tell.
    """

    changes: Sequence[Change]
    unmeasured: Sequence[int | None]
    searched: int
    short: Sequence[str]

    def lines(self) -> list[str]:
        """As text. A count that changed with a time stands there alone."""
        beside = {id(moved) for each in self.changes for moved in each.moved}
        lines = [
            line
            for each, unmeasured in zip(self.changes, self.unmeasured, strict=True)
            if id(each) not in beside
            for line in lines_of(each, unmeasured)
        ]
        lines.append(f"{many(len(self.changes), 'change')} in {many(self.searched, 'series')}")
        if self.short:
            lines.append(
                f"{many(len(self.short), 'series')} of times with fewer than {FEWEST} commits: "
                "too few to tell a change from noise"
            )
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        found = [
            {**each.to_json(), "unmeasured_between": unmeasured}
            for each, unmeasured in zip(self.changes, self.unmeasured, strict=True)
        ]
        return {"changes": found, "series": self.searched, "too_short": list(self.short)}


def report_changes(
    store: Store, repository: Path, glob: str, metrics: Sequence[str], since: str, budget: float
) -> Report:
    """What changed in the series that match. Raises LookupError for names that nobody knows."""
    for name in metrics:
        if name not in METRICS:
            raise LookupError(f"--metric {name}: wanted one of {', '.join(METRICS)}")
    recent = _since(repository, since) if since else None
    recorded = store.measurements(glob, metrics=metrics or None)
    searched = trajectories(recorded, repository)
    found = [each for one in searched for each in changes_of(one, budget)]
    beside = _counted_beside(store, found)
    there = {each.series for each in found}
    counted = [
        change
        for one in trajectories(beside, repository)
        if one.series not in there
        for change in changes_of(one)
    ]
    order = _order(repository, [*recorded, *beside])
    own = with_counted([*found, *counted], order)[: len(found)]
    own = [each for each in own if recent is None or each.after in recent]
    own.sort(key=lambda each: (order[each.after], each.kind != "timed", each.series))
    return Report(
        own,
        [_unmeasured(repository, each) for each in own],
        len(searched),
        [one.series.name for one in searched if is_short(one)],
    )


def _order(repository: Path, recorded: Sequence[Recorded]) -> Mapping[str, Any]:
    """What sorts the commits that were measured."""
    seen: dict[str, datetime.datetime] = {}
    for run in {each.run.id: each.run for each in recorded}.values():
        if run.commit:
            seen[run.commit] = min(run.started, seen.get(run.commit, run.started))
    return commit_places(repository, seen)


def _counted_beside(store: Store, changes: Iterable[Change]) -> list[Recorded]:
    """What is counted of the cases whose times changed."""
    counted = [name for name, metric in METRICS.items() if metric.kind == "counted"]
    timed = [each.series for each in changes if each.kind == "timed"]
    cases = {(series.spec, series.implementation, series.case_id) for series in timed}
    found: list[Recorded] = []
    for spec, implementation, case in sorted(cases):
        words = (_literal(word) for word in (spec, implementation))
        glob = f"{'/'.join(words)}/*/{_literal(case)}:*"
        found += store.measurements(glob, metrics=counted)
    return found


def _literal(word: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in word)


def _since(repository: Path, revision: str) -> frozenset[str]:
    """The commits after a revision."""
    if root_of(repository) is None:
        raise LookupError(f"--since {revision}: {repository} is in no git repository")
    try:
        return frozenset(commits_between(repository, revision, "HEAD"))
    except RevisionError as error:
        raise LookupError(
            f"--since {revision}: wanted a revision that git knows: {error}"
        ) from None


def _unmeasured(repository: Path, one: Change) -> int | None:
    try:
        between = commits_between(repository, one.before, one.after, first_parent=True)
    except RevisionError:
        return None
    return len(between) - 1 if between else None
