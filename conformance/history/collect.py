"""From results of checks to the numbers that are kept."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from kernelproof import __version__
from kernelproof.conformance.history.environment import device_identity, toolchain
from kernelproof.conformance.history.measurement import (
    ANY_DEVICE,
    METRICS,
    Measurement,
    Run,
    Series,
)
from kernelproof.conformance.history.revision import Revision, describe, root_of
from kernelproof.conformance.meters.counts import Counts
from kernelproof.conformance.suite import Suite
from kernelproof.conformance.targets import Target
from kernelproof.conformance.verdict import Result, Verdict

Called: TypeAlias = tuple[str, str, str, str]
"""Spec, implementation, backend and case: what the results of one call have in common."""


def called(of: Result | Series) -> Called:
    """The call that a result or a series is about."""
    case = of.case if isinstance(of, Result) else of.case_id
    return of.spec, of.implementation, of.backend, case


def run_of(
    measurements: Sequence[Measurement], suite: Suite, started: datetime.datetime, label: str = ""
) -> Run:
    """A new run of a suite's targets, at the revision of their repository. Raises RevisionError."""
    revision = revision_of(suite.settings.targets)
    return Run(
        id=uuid.uuid4().hex,
        started=started,
        commit=revision.commit,
        dirty=revision.dirty,
        kernelproof=__version__,
        seed=suite.settings.seed,
        measurements=measurements,
        label=label,
    )


def revision_of(targets: Sequence[Target]) -> Revision:
    """The revision of the repository of the targets' files; of modules, that of the current folder.

    Files of several repositories have no revision in common: ("", False). Raises RevisionError.
    """
    files = [Path(target.path) for target in targets if target.path]
    roots = {root_of(file.parent) for file in files} or {root_of(Path.cwd())}
    root = roots.pop()
    return Revision("", False) if roots or root is None else describe(root, files)


def measurements_of(
    results: Iterable[Result], suite: Suite, *, processes: int = 1
) -> list[Measurement]:
    """The numbers in results: of each case the largest ratio of error to bound, and its counts.

    What could not be measured is left out, and so are the counts of a wrong result.
    processes: of pytest-xdist, which share the cores.
    """
    cases: dict[Called, list[Result]] = {}
    for result in results:
        if result.case:
            cases.setdefault(called(result), []).append(result)
    found = []
    for call, of_case in cases.items():
        conformant = not any(result.verdict.failing for result in of_case)
        for metric, (value, verdict) in _numbers(of_case).items():
            series = series_of(suite, call, metric, processes=processes)
            found.append(Measurement(series, value, 0, conformant, str(verdict)))
    return found


def times_of(
    suite: Suite, call: Called, seconds: float | None, ratio: float | None, process: int = 0
) -> list[Measurement]:
    """The numbers of one timing of a call: its time, and that in units of the yardstick's.

    A time that is None is void, and not kept.
    """
    return [
        Measurement(series_of(suite, call, metric), value, process)
        for metric, value in (("time", seconds), ("yardstick", ratio))
        if value is not None
    ]


def series_of(suite: Suite, call: Called, metric: str, *, processes: int = 1) -> Series:
    """The series of a metric of a call, on the device and toolchain of the target's worker.

    processes: of pytest-xdist, which share the cores.
    """
    description = next(
        suite.description[each.target]
        for each in suite.implementations
        if (each.spec.name, each.name) == call[:2]
    )
    counted = METRICS[metric].kind == "counted"
    device = ANY_DEVICE if counted else device_identity(description, call[2], processes)
    return Series(*call, metric, device, toolchain(description))


def _numbers(results: Sequence[Result]) -> dict[str, tuple[float, Verdict]]:
    """Of the results on one case: by metric, the value and the verdict of the check it is from."""
    found: dict[str, tuple[float, Verdict]] = {}
    errors = [
        (r.ratio, r.verdict) for r in results if r.check == "accuracy" and r.ratio is not None
    ]
    if errors:  # NaN is the worst
        found["error"] = max(errors, key=lambda error: (error[0] != error[0], error[0]))
    verdicts = {r.clause.rpartition(".cost.")[2]: r.verdict for r in results if r.check == "costs"}
    for result in results:
        if result.check == "costs" and result.counts:
            for metric, value in _known(Counts.from_json(result.counts)):
                judged = "traffic" if metric == "sectors" else metric
                verdict = verdicts.get(judged, result.verdict)
                if verdict is not Verdict.UNMEASURED:
                    found[metric] = value, verdict
    return found


def _known(counts: Counts) -> Iterator[tuple[str, float]]:
    """The metrics that the meters could see whole."""
    if counts.unseen:
        return
    if not counts.opaque:
        yield "traffic", counts.traffic
        if counts.launches:  # of Triton programs alone
            yield "sectors", 32 * sum(access.sectors for access in counts.arguments.values())
        yield "footprint", sum(access.footprint for access in counts.arguments.values())
        yield "atomics", counts.atomics
        yield "launches", len(counts.launches)
    if not counts.unpriced:
        yield "flops", counts.dots
        yield "operations", counts.operations
        yield "exps", counts.exps
    if counts.peak_memory is not None:
        yield "memory", counts.peak_memory
