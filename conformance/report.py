"""What a person reads: progress, failures, and the table of implementations."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from kernelproof.conformance.standing import Standing, standings
from kernelproof.conformance.suite import Fuzzed, Planned, Suite
from kernelproof.conformance.verdict import Result, Verdict
from kernelproof.spec.catalogue import load_spec
from kernelproof.spec.contracts.integrity import (
    INTEGRITY_CLAUSES,
    REGISTRATION_CLAUSES,
    STATISTICAL_CLAUSES,
)
from kernelproof.spec.contracts.performance import PERFORMANCE_CLAUSES

SHOWN_FAILURES = 3


def sentence_of(result: Result) -> str:
    """The clause that a result cites, in words."""
    common = {
        **STATISTICAL_CLAUSES,
        **INTEGRITY_CLAUSES,
        **REGISTRATION_CLAUSES,
        **PERFORMANCE_CLAUSES,
    }
    if result.clause in common:
        return common[result.clause]
    clauses = load_spec(result.spec).clauses
    return next(c.sentence for c in clauses if c.anchor == result.clause)


def failure_text(result: Result) -> str:
    """What failed, where, by how much, what it looks like, and how to see it again."""
    title = f"{result.implementation}  {result.spec}  {result.backend}".strip()
    if not result.case:
        return f"{result.verdict.upper()}  {title}\n  {result.message}"
    lines = [f"{result.verdict.upper()}  {title}", f"  case    {result.case}"]
    if result.verdict is Verdict.FAIL:
        lines += _wrapped("clause", f"{result.clause}: {sentence_of(result)}")
    if result.message:
        lines += _wrapped("what", result.message)
    if (
        (worst := result.worst) is not None
        and result.verdict is Verdict.FAIL
        and (result.ratio or 0) > 1
    ):
        one = "call" if result.check == "properties" else "step"
        step = f"{one} {worst.step + 1}, " if worst.step else ""
        index = ", ".join(map(str, worst.index))
        lines += [
            f"  worst   {step}{worst.output}[{index}]: got {worst.got:.7g}, want {worst.want:.7g}",
            f"  error   {worst.error:.3g}, bound {worst.bound:.3g} ({result.preset}), "
            f"ratio {ratio_text(result.ratio)}; {worst.beyond:,} of {worst.elements:,} beyond",
        ]
    if result.resembles:
        lines += _wrapped("like", result.resembles)
    return "\n".join([*lines, f"  replay  {result.replay}"])


def ratio_text(ratio: float | None) -> str:
    """Three digits; a dash for none."""
    if ratio is None or math.isnan(ratio):
        return "-"
    return f"{ratio:.3g}"


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(text, 96, initial_indent=f"  {label:<8}", subsequent_indent=" " * 10)


class Progress:
    """One line that is written over on a terminal; one line per implementation elsewhere."""

    def __init__(self, writer: Any, items: Sequence[Planned | Fuzzed]) -> None:
        self._writer, self._total, self._done = writer, len(items), 0
        self._left = Counter(
            (each.implementation.name, each.implementation.spec.name, each.backend)
            for each in items
        )
        self._failing: Counter[tuple[str, str, str]] = Counter()

    def show(self, result: Result) -> None:
        """Count one result."""
        key = (result.implementation, result.spec, result.backend)
        if key not in self._left:
            return
        self._done += 1
        self._left[key] -= 1
        self._failing[key] += result.verdict.failing
        state = f"{self._failing[key]} failing" if self._failing[key] else "ok"
        if self._writer.hasmarkup:
            line = f"{self._done}/{self._total}  {key[0]}  {key[1]}  {key[2]}  {state}"
            self._writer.write("\r\x1b[2K" + line[: self._writer.fullwidth - 1], flush=True)
        elif not self._left[key]:
            self._writer.line(
                f"{self._done:>5}/{self._total}  {key[0]}  {key[1]}  {key[2]}  {state}"
            )

    def clear(self) -> None:
        """Leave a clean line."""
        if self._writer.hasmarkup:
            self._writer.write("\r\x1b[2K", flush=True)


def write_failures(
    writer: Any, results: Sequence[Result], errors: Sequence[str], verbose: bool
) -> None:
    """The worst failures of each implementation in full, and how many more there are."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        if result.verdict.failing:
            groups.setdefault((result.implementation, result.spec, result.backend), []).append(
                result
            )
    for group in groups.values():
        shown: list[Result] = []
        told: set[str] = set()  # one of each broken clause, and of each way to crash
        for result in sorted(group, key=_severity):
            what = result.clause if result.verdict is Verdict.FAIL else result.message
            if verbose or (what not in told and len(shown) < SHOWN_FAILURES):
                shown.append(result)
                told.add(what)
        for result in shown:
            writer.line()
            first, _, rest = failure_text(result).partition("\n")
            writer.line(first, red=True, bold=True)
            writer.line(rest)
        if hidden := len(group) - len(shown):
            others = Counter(r.clause for r in group if r not in shown)
            where = ", ".join(f"{clause} ({n})" for clause, n in others.most_common(6))
            writer.line()
            writer.line(f"  and {hidden} more of {group[0].implementation}: {where}; -v shows all")
    for error in errors:
        writer.line()
        writer.line(error, red=True)


def _severity(result: Result) -> tuple[int, float]:
    """Crashes first; then cases of moderate ratio, which say more than infinite ones."""
    order = (Verdict.CRASH, Verdict.TIMEOUT, Verdict.INVALID, Verdict.FAIL)
    ratio = result.ratio if result.ratio is not None else 0.0
    return order.index(result.verdict), -ratio if math.isfinite(ratio) else 0.0


COLUMNS = (
    *("verdict", "implementation", "spec", "backend"),
    *(
        "error/bound",
        "bytes/bound",
        "FLOPs/budget",
        "passed",
        "failed",
        "unsupp.",
        "unmeas.",
        "time",
    ),
)
_LEFT = 4  # columns of words; the others are numbers, set to the right
_COLORS = {"conformant": "green", "passes": "yellow", "not conformant": "red", "not run": "yellow"}


def write_summary(
    writer: Any, suite: Suite, results: Sequence[Result], outside: Sequence[Result]
) -> None:
    """The table: one row per implementation, spec and backend, and below it where it was worst."""
    found = standings(suite, [*results, *outside])
    rows = [_cells(standing) for standing in found]
    writer.line()
    if rows:
        widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
        writer.line(_row(COLUMNS, widths), bold=True)
        for standing, row in zip(found, rows, strict=True):
            head = row[0].ljust(widths[0])
            writer.write(head, **{_COLORS[standing.verdict]: True})
            writer.line(_row(row, widths)[len(head) :])
            worst = f"; worst at {standing.worst.case}" if standing.worst else ""
            powers = ", ".join(f"{n} {power:.2f}" for n, power in standing.exponents.items())
            grown = f"; grows with the power: {powers}" if powers else ""
            words = " ".join(standing.presets) + worst + grown
            writer.line(" " * (widths[0] + 2) + words, light=True)
        writer.line()
    notes = [note for standing in found for note in _notes(standing)]
    for line in [*notes, *_idle(suite), *_ending(suite, results)]:
        writer.line(line)


def _cells(standing: Standing) -> list[str]:
    counts = standing.counts
    unsupported, unmeasured = counts[Verdict.UNSUPPORTED], counts[Verdict.UNMEASURED]
    return [
        standing.verdict,
        standing.implementation,
        standing.spec,
        standing.backend,
        ratio_text(standing.worst.ratio if standing.worst else None),
        ratio_text(standing.costs.get("traffic")),
        ratio_text(standing.costs.get("flops", standing.costs.get("operations"))),
        *(f"{n:,}" for n in (counts[Verdict.PASS], standing.failed, unsupported, unmeasured)),
        f"{standing.seconds:.1f} s",
    ]


def columns(rows: Sequence[Sequence[str]], words: Collection[int] = (0,)) -> list[str]:
    """Lines of a table, indented; columns of numbers are set to the right, those of words left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + _row(row, widths, words).rstrip() for row in rows]


def _row(cells: Sequence[str], widths: Sequence[int], words: Collection[int] = range(_LEFT)) -> str:
    return "  ".join(
        cell.ljust(width) if number in words else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )


def _notes(standing: Standing) -> list[str]:
    """Why checks were not run or not measured, and which clauses nothing showed."""
    words = [f"{standing.fuzzed}, none fails"] if standing.fuzzed and not standing.failed else []
    if standing.reasons:
        reasons = standing.reasons.most_common(4)
        words.append("unsupported: " + "; ".join(f"{reason} ({n})" for reason, n in reasons))
    if standing.unmeasured:
        metrics = f" ({', '.join(standing.uncounted)})" if standing.uncounted else ""
        words.append(f"unmeasured{metrics}: {standing.unmeasured}")
    if standing.unjudged:
        words.append(f"not returned, so not judged: {', '.join(standing.unjudged)}")
    if standing.untiled:
        roles = ", ".join(load_spec(standing.spec).costs.tiles)
        words.append(f"names no tiles, so only the cap holds its costs: tiles={{...}} with {roles}")
    if standing.missing and standing.verdict == "passes" and not standing.fuzzed:
        rest = len(standing.missing) - 4
        more = f" and {rest} more" if rest > 0 else ""
        words.append(f"clauses not exercised: {', '.join(standing.missing[:4])}{more}")
    return [
        line
        for each in words
        for line in textwrap.wrap(f"{standing.implementation}: {each}", 100, subsequent_indent="  ")
    ]


def _idle(suite: Suite) -> list[str]:
    """Implementations that no backend of this machine runs."""
    selected = {(each.name, each.spec.name) for each, _ in suite.selected()}
    return [
        f"{each.name}: not run: its backends ({', '.join(each.backends)}) do not run here"
        for each in suite.implementations
        if (each.name, each.spec.name) not in selected
        and not set(each.backends) & set(suite.available())
    ]


def _ending(suite: Suite, results: Sequence[Result]) -> list[str]:
    failing = sum(r.verdict.failing for r in results)
    settings = suite.settings
    seed = "" if settings.seed == "0" else f", seed {settings.seed}"
    ran = any(r.check != "registration" for r in results)
    words = f"{failing} failing" if failing else "all pass" if ran else "nothing selected"
    checks = "1 check" if len(results) == 1 else f"{len(results):,} checks"
    what = f"fuzz {settings.fuzz}" if settings.fuzz else f"tier {settings.tier}"
    return [f"{checks}, {words}; {what}{seed}"]
