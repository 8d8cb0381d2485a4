"""The outcome of a run to wherever it is wanted. What cannot be written never changes a verdict."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kernelproof.conformance import record
from kernelproof.conformance.exits import ExitCode
from kernelproof.conformance.regression import github, markdown, terminal
from kernelproof.conformance.regression.document import document
from kernelproof.conformance.regression.keeping import keep
from kernelproof.conformance.regression.outcome import Outcome


@dataclass(frozen=True)
class Places:
    """Where the outcome goes beside the terminal: files, and a store of runs."""

    json: str | None = None
    markdown: str | None = None
    store: Path | None = None

    @property
    def written(self) -> list[Path]:
        """All of them."""
        named = (self.json, self.markdown, self.store)
        return [Path(each) for each in named if each is not None]

    def check(self) -> None:
        """Raise UsageError, before anything is measured, where a file cannot be written."""
        record.check_writable(self.json)
        record.check_writable(self.markdown, "--markdown")


def publish(outcome: Outcome, places: Places, today: datetime.date) -> int:
    """Tell the verdict, then save what it stands on; the exit code."""
    comment = markdown.page(outcome, today)
    print(terminal.page(outcome, today), flush=True)
    if github.runs_here():
        print("\n".join(github.annotated(outcome)), flush=True)
    lost = list(keep(outcome, places.store))
    lost += _tried("the summary of the job", lambda: github.write_summary(comment))
    if places.markdown:
        file = Path(places.markdown)
        lost += _tried(places.markdown, lambda: file.write_text(comment, encoding="utf-8"))
    code = outcome.code or (ExitCode.INFRASTRUCTURE if lost else 0)
    if places.json:
        path, told = Path(places.json), document(outcome, code)
        lost += _tried(places.json, lambda: record.write(path, told))
    code = outcome.code or (ExitCode.INFRASTRUCTURE if lost else 0)
    for each in lost:
        stands = "the verdict stands, " if outcome.code else "nothing else is wrong, "
        print(f"kernelproof: {each}; {stands}exit code {code}", file=sys.stderr)
    return code


def _tried(what: str, write: Callable[[], object]) -> Iterator[str]:
    try:
        write()
    except OSError as error:
        yield f"{what} was not written: {error.strerror}"
