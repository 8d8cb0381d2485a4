"""The report of the gate as a comment on a pull request: what changed, the rest folded away."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence

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
from kernelproof.conformance.regression.verdicts import Word
from kernelproof.conformance.report import failure_text

MOST_ROWS = 20
MOST_FAILURES = 5
_SIGNS = {0: "✅", 1: "❌"}


def page(outcome: Outcome, today: datetime.date) -> str:
    """The comment."""
    rows = shown(outcome)
    changed = [row for row in rows if row.worst.word is not Word.PASS]
    parts = [
        f"### {_SIGNS.get(outcome.code, '⚠️')} kernelproof: {escape(headline(outcome))}",
        _fence(failure_text(each) for each in outcome.failing[:MOST_FAILURES]),
        table(changed[:MOST_ROWS]),
        f"and {len(changed) - MOST_ROWS} more rows" if len(changed) > MOST_ROWS else "",
        "\n".join(f"- {escape(each)}" for each in (*outcome.problems, *outcome.notes)),
        _folded("Times without a change", table([r for r in rows if r.worst.word is Word.PASS])),
        _folded("What the words mean", _listed(legend({row.worst.word for row in rows}))),
        _folded("To accept a change", _how_to_accept(outcome, today)),
        f"base {escape(outcome.base.words)}, head {escape(outcome.head.words)}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(rows: Sequence[Row]) -> str:
    """A table of Markdown, each row with its remarks in the last column."""
    if not rows:
        return ""
    rules = ["---" if number in WORDS else "--:" for number in range(len(COLUMNS))]
    lines = [(*COLUMNS, "worst"), (*rules, "---")]
    lines += [(*map(escape, row.cells), escape("; ".join(row.remarks))) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """Text that stays text: names come from the code that is compared.

    >>> escape("a|b <i> *x* @team #1")
    'a\\\\|b &lt;i&gt; \\\\*x\\\\* @\\u200bteam #\\u200b1'
    """
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, entity)
    for sign in "\\`*_[]|~":
        text = text.replace(sign, f"\\{sign}")
    for sign in "@#":  # these would call people and name other threads
        text = text.replace(sign, f"{sign}\u200b")
    return " ".join(text.split())


def _fence(blocks: Iterable[str]) -> str:
    text = "\n\n".join(blocks)
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}" if text else ""


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>" if text else ""


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escape(line)}" for line in lines)


def _how_to_accept(outcome: Outcome, today: datetime.date) -> str:
    found = acceptable(outcome)
    entries = (suggest(each.findings, outcome.base.commit, today) for each in found)
    words = f"Write why in `{FILE}`, to be reviewed with the change:"
    return f"{words}\n\n{_fence(entries)}" if found else ""
