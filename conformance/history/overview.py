"""The runs in a store, a line for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernelproof.conformance.history.measurement import ANY_DEVICE, Run
from kernelproof.conformance.history.store import Store
from kernelproof.conformance.history.trajectory import ordered_runs
from kernelproof.conformance.history.wording import aligned

# a series is told apart by 64 bits: over a million rows that is three times as fast as by its words
_QUESTION = """
SELECT run, list(DISTINCT device), count(*), histogram(word), count(*) FILTER (NOT conformant)
FROM (
    SELECT run, any_value(device) AS device, any_value(verdict) AS word,
        bool_and(conformant) AS conformant
    FROM measurements WHERE series GLOB ? GROUP BY run, hash(series, device, toolchain)
) GROUP BY run
"""


@dataclass(frozen=True)
class Line:
    """A run and a summary of its series.

    devices: without ``any``. verdicts: how many series had each. wrong: how many series are of
    cases that failed.
    """

    run: Run
    devices: Sequence[str]
    series: int
    verdicts: Mapping[str, int]
    wrong: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        run = self.run
        return {
            "run": run.id,
            "started": run.started.isoformat(timespec="seconds"),
            "commit": run.commit,
            "dirty": run.dirty,
            "kernelproof": run.kernelproof,
            "seed": run.seed,
            "label": run.label,
            "devices": list(self.devices),
            "series": self.series,
            "verdicts": dict(self.verdicts),
            "nonconformant": self.wrong,
        }


def lines_of(store: Store, repository: Path, series_glob: str = "*") -> list[Line]:
    """Every run that has a series whose name matches, the latest first."""
    found = {row[0]: row[1:] for row in store.ask(_QUESTION, [series_glob])}
    runs = [run for run in store.runs() if run.id in found]
    return [_line(run, *found[run.id]) for run in reversed(ordered_runs(runs, repository))]


def _line(run: Run, devices: list[str], series: int, words: Any, wrong: int) -> Line:
    known = sorted(device for device in devices if device != ANY_DEVICE)
    return Line(run, known, series, words, wrong)


def table_of(lines: Sequence[Line]) -> list[str]:
    """The lines as text; ``+`` behind a commit marks uncommitted changes."""
    rows = [("date (UTC)", "commit", "series", "verdicts", "device", "label")]
    for line in lines:
        run = line.run
        words = [f"{count:,} {word}" for word, count in sorted(line.verdicts.items()) if word]
        words += [f"{line.wrong:,} of wrong results"] if line.wrong else []
        rows.append(
            (
                f"{run.started:%Y-%m-%d %H:%M}",
                f"{run.commit[:10] or '-'}{'+' if run.dirty else ''}",
                f"{line.series:,}",
                ", ".join(words) or "-",
                "; ".join(line.devices) or ANY_DEVICE,
                run.label,
            )
        )
    return aligned(rows, numbers={2})
