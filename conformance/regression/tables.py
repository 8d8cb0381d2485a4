"""What the gate found, in rows that a person can read: series that tell the same stand together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kernelproof.conformance.exits import ExitCode
from kernelproof.conformance.history.measurement import METRICS
from kernelproof.conformance.regression.accepted import ACCEPTABLE
from kernelproof.conformance.regression.outcome import Outcome, severity
from kernelproof.conformance.regression.verdicts import (
    NOT_COMPARED,
    SENTENCES,
    Finding,
    Word,
)
from kernelproof.conformance.regression.wording import amount, percent, plural

COLUMNS = (
    *("verdict", "implementation", "spec", "backend", "metric"),
    *("base", "head", "change", "series"),
)
WORDS = range(5)
"""Columns of words; the others are numbers."""


@dataclass(frozen=True)
class Row:
    """Series of one implementation and verdict, and of one metric where there is a change to tell;
    ``worst`` changed most."""

    worst: Finding
    findings: tuple[Finding, ...]

    @property
    def cells(self) -> tuple[str, ...]:
        """The text of each of ``COLUMNS``."""
        series, worst = self.worst.series, self.worst
        metrics = {finding.series.metric for finding in self.findings}
        numbers = (
            amount(worst.base, series.metric),
            amount(worst.head, series.metric),
            percent(worst.change),
        )
        return (
            f"{worst.word}{' (accepted)' * bool(worst.accepted)}",
            *(series.implementation, series.spec, series.backend),
            series.metric if len(metrics) == 1 else f"{len(metrics)} metrics",
            *(numbers if len(metrics) == 1 else ("", "", "")),
            f"{len(self.findings):,}",
        )

    @property
    def remarks(self) -> list[str]:
        """What stands below the row: the worst case, and what explains it."""
        worst, several = self.worst, len(self.findings) > 1
        where = "for one" if worst.change is None else "most at"
        parts = [f"{where} {worst.series.case_id}" if several else worst.series.case_id]
        if worst.interval is not None and worst.word is not Word.PASS:
            low, high = worst.interval
            parts.append(f"between {percent(low)} and {percent(high)}")
        if worst.sees is not None:
            parts.append(sees(max(f.sees or 0.0 for f in self.findings)))
        parts += ["the same code on both sides"] if worst.control else []
        parts += [f"with {worst.with_it}"] if worst.with_it else []
        parts += [worst.reason] if worst.reason else []
        parts += [f"accepted: {worst.accepted}"] if worst.accepted else []
        return parts


def rows(findings: Iterable[Finding], apart: bool = False) -> list[Row]:
    """One for each implementation, metric and verdict, the worst first; ``apart``, for each."""
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for each in sorted(findings, key=severity):
        series = each.series
        which = (series.spec, series.implementation, series.backend)
        # these are verdicts on a call rather than on a metric: one row tells all of its metrics
        metric = "" if each.word in NOT_COMPARED else series.metric
        own = (series,) if apart else ()
        key = (each.word, each.accepted, each.control, each.redeclared, *which, metric, *own)
        groups.setdefault(key, []).append(each)
    return [Row(group[0], tuple(group)) for group in groups.values()]


def shown(outcome: Outcome, apart: bool = False) -> list[Row]:
    """Rows of what changed or could not be compared, and of all times; ``apart``, one for each."""
    told = [f for f in outcome.findings if f.word is not Word.PASS or is_timed(f)]
    return rows(told, apart)


def is_timed(finding: Finding) -> bool:
    """Whether it is about time."""
    return METRICS[finding.series.metric].kind == "timed"


def sees(effect: float) -> str:
    """What a run could have seen: ``sees >= 3.1 %``."""
    return f"sees >= {100 * effect:.1f} %" if math.isfinite(effect) else "sees nothing"


def headline(outcome: Outcome) -> str:
    """The verdict on a run in one sentence."""
    counts, policy = outcome.counts, outcome.policy
    failing = [
        f"{counts[w]:,} {_noun(w, counts[w])}" for w in Word if counts[w] and w in policy.fail_on
    ]
    failing += [f"{len(outcome.problems)} in need of review"] if outcome.problems else []
    passed, total = counts[Word.PASS], len(outcome.findings)
    words = f"{', '.join(failing)}; " if failing else ""
    others = [
        f"{counts[w]:,} {w}"
        for w in Word
        if counts[w] and w not in policy.fail_on and w is not Word.PASS
    ]
    accepted = sum(bool(f.accepted) for f in outcome.findings)
    others += [f"{accepted:,} accepted"] if accepted else []
    rest = f" ({', '.join(others)})" if others else ""
    start = _STARTS.get(outcome.code, "no regression")
    if not failing and not outcome.compared and not outcome.unloaded:
        start = "nothing compared"
    return f"{start}: {words}{passed:,} of {total:,} series did not change{rest}"


_STARTS: Mapping[int, str] = {
    ExitCode.REGRESSION: "regression",
    ExitCode.INCONCLUSIVE: "inconclusive",
    ExitCode.MISSING: "missing",
    ExitCode.INFRASTRUCTURE: "base cannot be loaded",
}


def _noun(word: Word, count: int) -> str:
    if word is Word.FAILING:
        return f"failing {plural('check', count)}"
    return str(word)


def legend(words: Iterable[Word]) -> list[str]:
    """What the verdicts mean that a report has."""
    return [f"{word}: {SENTENCES[word]}" for word in Word if word in set(words)]


def acceptable(outcome: Outcome, most: int = 3) -> list[Row]:
    """Rows that fail and for which an entry of the file of accepted changes is worth showing."""
    failing = [f for f in outcome.findings if f.fails(outcome.policy.fail_on)]
    return rows(f for f in failing if f.word in ACCEPTABLE)[:most]
