"""What a person reads of times: one row for each implementation and case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kernelproof.conformance.report import columns
from kernelproof.conformance.suite import Suite
from kernelproof.conformance.timing.plan import TIMED_ON
from kernelproof.conformance.timing.timed import Timed
from kernelproof.conformance.verdict import Result, Verdict

HEAD = ("implementation", "time", "+-", "x", "yardstick", "roof", "GB/s", "TFLOP/s")


def write_times(
    writer: Any, suite: Suite, times: Sequence[Timed], results: Sequence[Result]
) -> None:
    """The table, spec by spec and case by case, and below it what was not timed."""
    groups: dict[tuple[str, str, str], list[Timed]] = {}
    for timed in times:
        planned = timed.planned
        key = (planned.implementation.spec.name, planned.backend, planned.case.id)
        groups.setdefault(key, []).append(timed)
    rows = [cells(timed) for group in groups.values() for timed in sorted(group, key=_median)]
    lines = iter(columns([HEAD, *rows], words=(0, 4)))
    writer.line()
    if rows:
        writer.line(next(lines), bold=True)
    for (spec, backend, case), group in groups.items():
        writer.line(f"{spec}  {backend}  {case}", light=True)
        for _ in group:
            writer.line(next(lines))
    if rows:
        writer.line()
    for line in [*_roofs(times), *_not_timed(suite, results), *_ending(suite, times, results)]:
        writer.line(line)


def cells(timed: Timed) -> tuple[str, ...]:
    """A row: median, its standard error, in units of the yardstick, of the roof, and rates of the
    bytes and operations that the algorithm needs."""
    work, seconds = timed.work, timed.median
    return (
        timed.planned.implementation.name,
        seconds_text(seconds),
        f"{timed.noise:.1%}" if timed.noise < 1 else "?",
        f"{timed.ratio:.2f}",
        timed.known,
        f"{timed.roof:.0%}",
        f"{work.bytes / seconds / 1e9:.3g}",
        f"{work.flops / seconds / 1e12:.3g}" if work.flops else "-",
    )


def seconds_text(seconds: float) -> str:
    """Three digits and a unit.

    >>> seconds_text(0.0012345), seconds_text(2.5e-5), seconds_text(123.4)
    ('1.23 ms', '25 us', '123 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _median(timed: Timed) -> float:
    return timed.median


def _roofs(times: Sequence[Timed]) -> list[str]:
    """What the fractions are fractions of."""
    found: dict[tuple[str, str], str] = {}
    for timed in times:
        key = (timed.planned.backend, timed.planned.case.dtype)
        rate = f"{timed.roofs.rate / 1e12:.3g} TFLOP/s" if timed.roofs.rate else "no product"
        found[key] = f"{timed.roofs.bandwidth / 1e9:.3g} GB/s, {rate}"
    return [f"roof of {backend}, {dtype}: {text}" for (backend, dtype), text in found.items()]


def _not_timed(suite: Suite, results: Sequence[Result]) -> list[str]:
    """Implementations that run here nowhere but in an interpreter, or that have no case."""
    planned = {(p.implementation.name, p.implementation.spec.name) for p in suite.timed()}
    lines = []
    for name, spec in dict.fromkeys((e.name, e.spec.name) for e, _ in suite.selected()):
        if (name, spec) not in planned:
            lines.append(f"{name}: not timed: no backend among {', '.join(TIMED_ON)} runs here")
    for result in results:
        if result.check == "performance" and result.verdict in (
            Verdict.UNSUPPORTED,
            Verdict.UNMEASURED,
        ):
            words = f"{result.verdict}: {result.message}"
            lines.append(f"{result.implementation}: not timed: {result.case}: {words}")
    return lines


def _ending(suite: Suite, times: Sequence[Timed], results: Sequence[Result]) -> list[str]:
    failing = sum(result.verdict.failing for result in results)
    cases = "1 case" if len(times) == 1 else f"{len(times)} cases"
    void = f", {failing} failing" if failing else ""
    return [f"{cases} timed{void}; up to {suite.settings.seconds:g} s each"]
