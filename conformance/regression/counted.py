"""What needs no statistics: counts and error ratios of base and head, compared exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from kernelproof.conformance.history.collect import Called, called
from kernelproof.conformance.history.measurement import METRICS, Measurement, Series
from kernelproof.conformance.regression.verdicts import (
    ERROR_FACTOR,
    ERROR_FLOOR,
    ERROR_OF_NOTE,
    Finding,
    Word,
)
from kernelproof.conformance.verdict import Result, Verdict
from kernelproof.spec.rounding import Precision


def compare(
    base: Sequence[Measurement],
    head: Sequence[Measurement],
    allowances: Mapping[str, float],
    results: Mapping[str, Sequence[Result]],
) -> list[Finding]:
    """One finding for each series that either side has.

    results: of both sides by name, ``base`` and ``head``: they say why a number is missing.
    """
    why = {side: _Reasons(each) for side, each in results.items()}
    before, now = (_by_what_is_compared(each) for each in (base, head))
    return [_finding(before.get(key), now.get(key), allowances, why) for key in {**before, **now}]


def _by_what_is_compared(measured: Iterable[Measurement]) -> dict[Series, Measurement]:
    """By series, but for device and toolchain, which the finding looks at."""
    return {replace(each.series, device="", toolchain=""): each for each in measured}


def _finding(
    base: Measurement | None,
    head: Measurement | None,
    allowances: Mapping[str, float],
    why: Mapping[str, _Reasons],
) -> Finding:
    if base is not None and head is not None:
        return _both(base, head, allowances)
    if base is not None:
        reason, failed = why["head"].of(base.series)
        word = Word.VOID if failed else Word.MISSING
        return Finding(base.series, word, base=base.value, reason=f"head: {reason}")
    assert head is not None
    reason, _ = why["base"].of(head.series)
    return Finding(head.series, Word.NO_BASELINE, head=head.value, reason=f"base: {reason}")


class _Reasons:
    """Why a side has no number of a series."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._calls: dict[Called, Result] = {}
        self._kernels: set[tuple[str, str]] = set()
        self._unloaded = False
        for result in results:
            self._unloaded |= result.check == "registration" and result.verdict.failing
            self._kernels.add((result.spec, result.implementation))
            silent = result.verdict in (Verdict.UNSUPPORTED, Verdict.UNMEASURED)
            if silent or result.verdict.failing:
                self._calls.setdefault(called(result), result)

    def of(self, series: Series) -> tuple[str, bool]:
        """The reason, and whether it is a failure, which is told apart."""
        if result := self._calls.get(called(series)):
            return f"{result.verdict}: {result.message}", result.verdict.failing
        if (series.spec, series.implementation) in self._kernels:
            return "not among its cases", False
        return (
            "a target cannot be loaded" if self._unloaded else "no such implementation",
            self._unloaded,
        )


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
    metric = head.series.metric
    increased = has_worse_error if METRICS[metric].kind == "error" else _exceeds
    allowed = allowances.get(metric, 0.0)
    if increased(head.value, base.value, allowed):
        return replace(found, word=Word.MORE)
    if increased(base.value, head.value, allowed if metric == "error" else 0.0):
        return replace(found, word=Word.LESS)
    return found


def _exceeds(now: float, before: float, allowed: float) -> bool:
    return not now <= before * (1 + allowed)  # so NaN does


def redeclared(found: Finding, base: Precision, head: Precision) -> Finding:
    """An error whose unit is another bound on head, since the precisions declared are others.

    A looser one is worse, however small the error became in units of the wider bound.
    """
    dtype = found.series.case_id.partition("/")[0]
    looser = head.looser_than(base, dtype)
    if looser is None and base.rounding(dtype) == head.rounding(dtype):
        return found
    words = f"declares {head.name}{f' ({looser})' * bool(looser)} where base declares {base.name}"
    word = Word.MORE if looser else Word.INCOMPARABLE
    return replace(found, word=word, reason=f"{words}: other bounds", redeclared=True)


def has_worse_error(now: float, before: float, allowed: float) -> bool:
    """Whether an error ratio is worse by more than a share, and enough to matter: the next change
    of the order of sums moves it, too."""
    several_times = not now <= ERROR_FACTOR * before and not now <= ERROR_OF_NOTE
    return _exceeds(now, before, allowed) and (not now - before <= ERROR_FLOOR or several_times)


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
