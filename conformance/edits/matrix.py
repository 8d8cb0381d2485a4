"""Which check fails each edit of a built-in kernel: the kill matrix of real code."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kernelproof.conformance.edits.catalogue import load_edited
from kernelproof.conformance.edits.editing import Edit
from kernelproof.conformance.edits.running import CONTROL, run_edits
from kernelproof.conformance.report import columns, ratio_text
from kernelproof.conformance.verdict import Result, Verdict, plain_number


@dataclass(frozen=True)
class EditKill:
    """What became of one edit in one dtype.

    metric: of an edit of costs, the count that must fail it.
    by: the clause that failed it, or nothing. ratio: the largest by which it did.
    """

    edit: str
    dtype: str
    metric: str
    by: str
    ratio: float | None
    harmless: str

    @property
    def survives(self) -> bool:
        """Whether nothing failed a bug."""
        return not self.by and not self.harmless


@dataclass(frozen=True)
class EditPower:
    """The edits of one module below impls; alarms: checks that the unedited source failed."""

    module: str
    kills: Sequence[EditKill]
    alarms: Sequence[str]

    @property
    def survivors(self) -> list[EditKill]:
        """Edits that no check failed."""
        return [kill for kill in self.kills if kill.survives]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        rows = [{**asdict(kill), "ratio": plain_number(kill.ratio)} for kill in self.kills]
        return {"module": self.module, "edits": rows, "false_alarms": list(self.alarms)}


def measure_edits(module: str) -> EditPower:
    """Run the edits of one module. Raises ValueError for edits that cannot be registered."""
    what = load_edited(module)
    with tempfile.TemporaryDirectory() as folder:
        results = run_edits(module, Path(folder))
    kills = [
        _kill(edit, dtype, results[edit.name])
        for edit in (*what.edits, *what.of_kernels)
        for dtype in dict.fromkeys(r.dtype for r in results[edit.name] if _judged(edit, r))
    ]
    wrong = [r for r in results[CONTROL.name] if r.verdict is not Verdict.PASS]
    return EditPower(module, kills, [f"{r.clause} {r.case}: {r.verdict}" for r in wrong])


def _judged(edit: Edit, result: Result) -> bool:
    """Whether a check is one that must fail the edit: of costs, that of its own count."""
    return edit.metric is None or result.clause.endswith(f".cost.{edit.metric}")


def _kill(edit: Edit, dtype: str, results: Sequence[Result]) -> EditKill:
    failing = [r for r in results if r.dtype == dtype and r.verdict.failing and _judged(edit, r)]
    worst = max(failing, key=lambda r: r.ratio or 0.0, default=None)
    by = worst.clause if worst else ""
    ratio = worst.ratio if worst else None
    return EditKill(edit.name, dtype, edit.metric or "", by, ratio, edit.harmless.get(dtype, ""))


def edit_table(power: EditPower) -> list[str]:
    """A row per edit, a column per dtype: the largest ratio, and what failed it."""
    dtypes = list(dict.fromkeys(kill.dtype for kill in power.kills))
    edits: dict[str, dict[str, EditKill]] = {}
    for kill in power.kills:
        edits.setdefault(kill.edit, {})[kill.dtype] = kill
    rows = [
        [name, *(_cell(by.get(d)) for d in dtypes), _failed_by(by)] for name, by in edits.items()
    ]
    head = ["edit of the kernel", *dtypes, "failed by"]
    title = f"{power.module}: {len(edits)} edits; unedited: "
    return [
        title + ("passes" if not power.alarms else f"FALSE ALARM {power.alarms[0]}"),
        *columns([head, *rows], words=(0, len(head) - 1)),
    ]


def _cell(kill: EditKill | None) -> str:
    if kill is None:
        return ""
    if kill.harmless:
        return "harmless"
    return "SURVIVES" if not kill.by else ratio_text(kill.ratio)


def _failed_by(by_dtype: Mapping[str, EditKill]) -> str:
    return ", ".join(dict.fromkeys(kill.by for kill in by_dtype.values() if kill.by))
