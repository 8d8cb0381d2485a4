"""Where GitHub Actions runs the gate: annotations on the change, and the summary of the job."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from kernelproof.conformance.regression.outcome import Outcome
from kernelproof.conformance.regression.tables import Row, headline, rows

MOST_ANNOTATIONS = 10
"""GitHub shows no more of one step."""


def runs_here(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a job of GitHub Actions."""
    return environment.get("GITHUB_ACTIONS") == "true"


def annotated(outcome: Outcome) -> Iterator[str]:
    """Commands to print, one for each row that fails, the verdict first."""
    if outcome.code:
        yield _command("error", "kernelproof gate", headline(outcome))
    failing = [f for f in outcome.findings if f.fails(outcome.policy.fail_on)]
    said = [_command("error", row.worst.word, _words(row)) for row in rows(failing)]
    said += [_command("error", "accepted changes", each) for each in outcome.problems]
    yield from said[: MOST_ANNOTATIONS - 1]


def _words(row: Row) -> str:
    _, name, spec, backend, metric, base, head, change, _ = row.cells
    remarks = "; ".join(row.remarks)
    return f"{name} ({spec}, {backend}): {metric} {base} -> {head} ({change}); {remarks}"


def _command(level: str, title: str, message: str) -> str:
    """A command; its parts must not end it, or begin another.

    >>> _command("error", "a:b", "100 %, two\\nlines")
    '::error title=a%3Ab::100 %25, two%0Alines'
    """
    text = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    name = title.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{level} title={name.replace(':', '%3A').replace(',', '%2C')}::{text}"


def write_summary(text: str, environment: Mapping[str, str] = os.environ) -> None:
    """Append to the summary of the job, if it has one. Raises OSError."""
    if path := environment.get("GITHUB_STEP_SUMMARY"):
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(text)
