"""The kill matrix: planted bugs against gates, dtype by dtype, beside the rules used elsewhere."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from kernelproof.conformance.edits.catalogue import edited_names
from kernelproof.conformance.edits.matrix import EditPower, measure_edits
from kernelproof.conformance.power import RULES, Kill, Power, measure
from kernelproof.conformance.report import columns, ratio_text
from kernelproof.conformance.targets import has_triton
from kernelproof.spec.catalogue import load_spec, with_derivatives

Task = TypeVar("Task")
Done = TypeVar("Done")

SHORT = {"worst-case": "", "probable": "p", "mean-square": "s", "mean": "m"}

LEGEND = (
    "Cells: the largest ratio of error to bound that a smoke case shows; p, s or m: of the",
    "probable, mean-square or mean gate, where those before let it pass. Behind them: in how many",
    "dtypes the rules used elsewhere notice it on the same cases. Edits: of the check that failed.",
)


def measure_all(names: Sequence[str]) -> Iterator[Power]:
    """The power of each spec in each of its dtypes, in as many processes as there are cores."""
    every = with_derivatives(names)
    tasks = [(name, dtype) for name in every for dtype in load_spec(name).domain.dtypes]
    yield from _in_processes(_measure, tasks)


def measure_all_edits(names: Sequence[str]) -> Iterator[EditPower]:
    """What fails the edits of each built-in kernel of these specs that can run here."""
    modules = [m for m in edited_names() if m.partition(".")[2] in names]
    modules = [m for m in modules if has_triton() or not m.startswith("triton.")]
    yield from _in_processes(measure_edits, modules)


def _in_processes(function: Callable[[Task], Done], tasks: Sequence[Task]) -> Iterator[Done]:
    """What a function returns of each task, in order."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # more would wait for each other's cores
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context) as pool:
        yield from pool.map(function, tasks)


def _measure(task: tuple[str, str]) -> Power:
    name, dtype = task
    return measure(load_spec(name), dtype)


def table(powers: Sequence[Power]) -> list[str]:
    """The matrix of one spec: a row per planted bug, a column per dtype and per other rule."""
    spec = load_spec(powers[0].spec)
    dtypes = [p.dtype for p in powers]
    head = ["planted bug", *dtypes, *RULES]
    bugs = zip(*(p.bugs for p in powers), strict=True)
    rows = [_row(kills[0].name, kills) for kills in bugs]
    title = f"{spec.name}: {len(rows)} planted bugs, {powers[0].cases} smoke cases"
    return [title, *columns([head, *rows])]


def _row(name: str, kills: Sequence[Kill]) -> list[str]:
    meant = [k for k in kills if not k.harmless]
    noticed = [f"{sum(rule in k.rules for k in meant)}/{len(meant)}" for rule in RULES]
    return [name, *map(_cell, kills), *noticed]


def _cell(kill: Kill) -> str:
    """The largest ratio under the first gate that rejects it."""
    if kill.harmless:
        return "harmless"
    if not kill.gate:
        return "SURVIVES"
    return f"{ratio_text(kill.ratios[kill.gate])}{SHORT[kill.gate]}"


def summary(powers: Sequence[Power]) -> list[str]:
    """How many bugs the gates and the other rules noticed, and how many right variants they
    rejected."""
    bugs = [k for p in powers for k in p.bugs if not k.harmless]
    right = [k for p in powers for k in p.right]
    lines = [*LEGEND, "", f"{'':<14}{'bugs noticed':>16}{'right ones rejected':>22}"]
    for rule in ("these gates", *RULES):
        ours = rule == "these gates"
        noticed = sum(bool(k.gate) if ours else rule in k.rules for k in bugs)
        rejected = sum(bool(k.gate) if ours else rule in k.rules for k in right)
        share, wrong = f"{noticed:,}/{len(bugs):,}", f"{rejected:,}/{len(right):,}"
        lines.append(f"{rule:<14}{share:>16}{wrong:>22}")
    return [*lines, *notes(powers)]


def notes(powers: Sequence[Power]) -> list[str]:
    """What survives, what is rejected in error, and which bugs are none in some dtype."""
    lines = []
    for power in powers:
        lines += [
            f"SURVIVES  {kill.spec}  {kill.name}  {kill.dtype}: no gate rejects it"
            for kill in power.survivors
        ]
        for kill in power.false_alarms:
            case = kill.cases.get(kill.gate, "")
            what = f"{kill.gate} ratio {ratio_text(kill.ratios[kill.gate])} at {case}"
            lines.append(f"FALSE ALARM  {kill.spec}  {kill.name}  {kill.dtype}: {what}")
    excused: dict[tuple[str, str], list[str]] = {}
    for kill in (k for p in powers for k in p.bugs if k.harmless):
        excused.setdefault((kill.name, kill.harmless), []).append(kill.dtype)
    for (name, why), dtypes in excused.items():
        lines.append(f"harmless: {name} in {', '.join(dict.fromkeys(dtypes))}: {why}")
    return lines


def edit_summary(powers: Sequence[EditPower]) -> list[str]:
    """How many edits of real kernels were failed, and which were not."""
    kills = [k for p in powers for k in p.kills if not k.harmless]
    failed = sum(bool(k.by) for k in kills)
    lines = [f"edits of built-in kernels failed: {failed:,}/{len(kills):,}"]
    for power in powers:
        lines += [f"SURVIVES  {power.module}  {k.edit}  {k.dtype}" for k in power.survivors]
        lines += [f"FALSE ALARM  {power.module}, unedited: {alarm}" for alarm in power.alarms]
    return lines


def to_json(powers: Sequence[Power], edits: Sequence[EditPower]) -> dict[str, Any]:
    """Plain JSON."""
    return {
        "edits": [power.to_json() for power in edits],
        "specs": [
            {
                "spec": p.spec,
                "dtype": p.dtype,
                "cases": p.cases,
                "bugs": [k.to_json() for k in p.bugs],
                "right": [k.to_json() for k in p.right],
            }
            for p in powers
        ],
    }
