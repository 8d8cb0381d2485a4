"""What needs no statistics: counts and error ratios of base and head, compared exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from kernelproof.conformance.history.measurement import METRICS, Measurement, Series
from kernelproof.conformance.regression.verdicts import ERROR_FLOOR, Finding, Word
from kernelproof.conformance.verdict import Result, Verdict

Called: TypeAlias = tuple[str, str, str, str]
"""Spec, implementation, backend and case: what the results of one call have in common."""


_FAILING = tuple(f"{verdict}: " for verdict in Verdict if verdict.failing)


def called(of: Result | Series) -> Called:
    """The call that a result or a series is about."""
    case = of.case if isinstance(of, Result) else of.case_id
    return of.spec, of.implementation, of.backend, case


def compare(
    base: Sequence[Measurement],
    head: Sequence[Measurement],
    allowances: Mapping[str, float],
    results: Mapping[str, Sequence[Result]],
) -> list[Finding]:
    """One finding for each series that either side has.

    results: of both sides by name, ``base`` and ``head``: they say why a number is missing.
    """
    why = {side: _reasons(each) for side, each in results.items()}
    before, now = (_by_what_is_compared(each) for each in (base, head))
    return [_finding(before.get(key), now.get(key), allowances, why) for key in {**before, **now}]


def _by_what_is_compared(measured: Iterable[Measurement]) -> dict[Series, Measurement]:
    """By series, but for device and toolchain, which the finding looks at."""
    return {replace(each.series, device="", toolchain=""): each for each in measured}


def _finding(
    base: Measurement | None,
    head: Measurement | None,
    allowances: Mapping[str, float],
    why: Mapping[str, Mapping[Called, str]],
) -> Finding:
    if base is not None and head is not None:
        return _both(base, head, allowances)
    if base is not None:
        reason = why["head"].get(called(base.series), "not among its cases")
        word = Word.VOID if reason.startswith(_FAILING) else Word.MISSING
        return Finding(base.series, word, base=base.value, reason=reason)
    assert head is not None
    reason = why["base"].get(called(head.series), "")
    return Finding(head.series, Word.NO_BASELINE, head=head.value, reason=reason)


def _both(base: Measurement, head: Measurement, allowances: Mapping[str, float]) -> Finding:
    found = Finding(head.series, Word.PASS, base=base.value, head=head.value)
    if not head.conformant:
        return replace(found, word=Word.VOID, reason="head fails this case")
    if not base.conformant:
        return replace(found, word=Word.NO_BASELINE, reason="base failed this case")
    for what in ("device", "toolchain"):
        was, now = getattr(base.series, what), getattr(head.series, what)
        if was != now:
            reason = f"{what} was {was or 'unknown'}, now {now or 'unknown'}"
            return replace(found, word=Word.INCOMPARABLE, reason=reason)
    allowed = allowances.get(head.series.metric, 0.0)
    floor = ERROR_FLOOR if METRICS[head.series.metric].kind == "error" else 0.0
    if beyond(head.value, base.value, allowed, floor):
        return replace(found, word=Word.MORE)
    # an error that rounds otherwise is not smaller for it, a smaller count is
    if beyond(base.value, head.value, allowed if floor else 0.0, floor):
        return replace(found, word=Word.LESS)
    return found


def beyond(large: float, small: float, allowed: float, floor: float) -> bool:
    """Whether a value exceeds another by more than a share of it, and by more than a floor."""
    return not (large <= small * (1 + allowed) or large - small <= floor)  # so NaN is beyond


def _reasons(results: Iterable[Result]) -> dict[Called, str]:
    """Why a call gave no number: the first reason of each."""
    found: dict[Called, str] = {}
    for result in results:
        if result.verdict in (Verdict.UNSUPPORTED, Verdict.UNMEASURED) or result.verdict.failing:
            found.setdefault(called(result), f"{result.verdict}: {result.message}")
    return found


def moved(findings: Iterable[Finding], of: Series) -> Iterator[tuple[str, float]]:
    """Which counted metrics of an implementation changed, and by how much where most.

    Those at the dtype of a timed series are looked at; on any backend, since a kernel that runs on
    a GPU is counted where it is interpreted.
    """
    dtype = of.case_id.partition("/")[0]
    largest: dict[str, float] = {}
    for finding in findings:
        series, change = finding.series, finding.change
        if finding.word not in (Word.MORE, Word.LESS) or change is None:
            continue
        alike = same_kernel(series, of) and series.case_id.partition("/")[0] == dtype
        if alike and abs(change) > abs(largest.get(series.metric, 0.0)):
            largest[series.metric] = change
    yield from largest.items()


def same_kernel(one: Series, other: Series) -> bool:
    """Whether two series are about one implementation, on whatever backend."""
    return (one.spec, one.implementation) == (other.spec, other.implementation)
