"""The report of the gate on a terminal, and in the log of a job."""

from __future__ import annotations

import datetime
import textwrap
from collections.abc import Iterator

from kernelproof.conformance.regression.accepted import FILE, suggest
from kernelproof.conformance.regression.outcome import Outcome
from kernelproof.conformance.regression.tables import (
    COLUMNS,
    WORDS,
    Row,
    acceptable,
    headline,
    legend,
    shown,
)
from kernelproof.conformance.report import columns, failure_text

MOST_FAILURES = 5


def page(outcome: Outcome, today: datetime.date, apart: bool = False) -> str:
    """All of it; the verdict is the last line, where a terminal shows it.

    apart: each series in a row of its own.
    """
    told = shown(outcome, apart)
    parts = [
        [f"base  {outcome.base.words}", f"head  {outcome.head.words}"],
        *([failure_text(result)] for result in outcome.failing[:MOST_FAILURES]),
        [f"and {n} more failing checks: kernelproof test shows all"]
        if (n := len(outcome.failing) - MOST_FAILURES) > 0
        else [],
        list(_table(told)),
        legend({row.worst.word for row in told}),
        list(_how_to_accept(outcome, today)),
        [line for note in (*outcome.notes, *outcome.problems) for line in _wrapped(note)],
        [headline(outcome)],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _table(rows: list[Row]) -> Iterator[str]:
    if not rows:
        return
    head, *lines = columns([COLUMNS, *(row.cells for row in rows)], WORDS)
    yield head
    for row, line in zip(rows, lines, strict=True):
        yield line
        yield from textwrap.wrap(
            "; ".join(row.remarks),
            100,
            initial_indent="      ",
            subsequent_indent="      ",
            break_long_words=False,
            break_on_hyphens=False,
        )


def _how_to_accept(outcome: Outcome, today: datetime.date) -> Iterator[str]:
    found = acceptable(outcome)
    if not found:
        return
    yield f"If a change is meant, write why in {FILE}, to be reviewed with it:"
    for row in found:
        entry = suggest(row.findings, outcome.base.commit, today)
        yield ""
        yield textwrap.indent(entry, "  ")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 100, subsequent_indent="  ", break_on_hyphens=False)
