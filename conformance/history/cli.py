"""The commands of ``kernelproof history``."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from kernelproof.conformance.exits import ExitCode

if TYPE_CHECKING:
    from kernelproof.conformance.history.store import Store

app = typer.Typer(no_args_is_help=True, help="The record over commits.", rich_markup_mode=None)


Folder = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="DIR", help="Default: KERNELPROOF_STORE, or .kernelproof at the root."
    ),
]
Glob = Annotated[str, typer.Option("--series", metavar="GLOB", help="Only series of such names.")]
Arguments = ParamSpec("Arguments")


class Refused(Exception):
    """A command that cannot be meant or done: one sentence, and the code it exits with."""

    def __init__(self, message: str, code: int = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code


def tells_failures(command: Callable[Arguments, int]) -> Callable[Arguments, int]:
    """Let a command end with one sentence where it cannot do what was asked."""

    @functools.wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> int:
        from kernelproof.conformance.history.importing import ImportFailure
        from kernelproof.conformance.history.revision import RevisionError
        from kernelproof.conformance.history.store import StoreError

        try:
            return command(*args, **kwargs)
        except Refused as refusal:
            return _told(str(refusal), refusal.code)
        except ImportFailure as failure:
            return _told(f"{failure}; nothing was imported", ExitCode.USAGE)
        except (RevisionError, StoreError) as error:
            return _told(str(error), ExitCode.INFRASTRUCTURE)

    return run


def open_store(folder: str | None) -> Store:
    """A store that is there. Raises Refused or RevisionError."""
    from kernelproof.conformance.history.place import store_folder
    from kernelproof.conformance.history.store import Store

    place = store_folder(folder)
    if not (place / "runs").is_dir():
        raise Refused(
            f"{place} holds no runs: kernelproof test --record makes it, --store names another",
            ExitCode.MISSING,
        )
    return Store(place)


def ending(store: Store) -> int:
    """Name what is damaged, after what is sound was shown; the code to exit with."""
    for each in store.damage:
        print(f"kernelproof: {store.folder / str(each)}", file=sys.stderr)
    if not store.damage:
        return 0
    lost = (
        f"put whole copies into {store.folder / 'runs'}, or delete them from runs/damaged to "
        "accept the loss"
    )
    proven = [each.flaw.proven for each in store.damage]
    which = f": {lost}" if all(proven) else f"; of those set aside, {lost}" if any(proven) else ""
    print(f"kernelproof: what is shown is without these files{which}", file=sys.stderr)
    return ExitCode.INFRASTRUCTURE


def _told(message: str, code: int) -> int:
    print(f"kernelproof: {message}", file=sys.stderr)
    return code


@app.command()
@tells_failures
def log(
    series: Glob = "*",
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="At most so many runs.")] = 20,
    json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    store: Folder = None,
) -> int:
    """List the runs, the latest commit first: what each was of, and what was said of it."""
    from kernelproof.conformance.history.overview import lines_of, table_of

    opened = open_store(store)
    lines = lines_of(opened, Path.cwd(), series)
    if not lines and series != "*":
        _refuse_unknown(opened, series)
    if json_:
        print(json.dumps([line.to_json() for line in lines[:limit]], indent=1))
    else:
        print("\n".join(table_of(lines[:limit])) if lines else "no runs")
        if len(lines) > limit:
            print(f"and {len(lines) - limit:,} more; --limit shows them")
    return ending(opened)


@app.command()
@tells_failures
def show(
    series: Annotated[str, typer.Argument(metavar="SERIES", help="Its name, or a pattern of it.")],
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="At most so many commits.")] = 40,
    store: Folder = None,
) -> int:
    """Show a series commit by commit: its value, how it changed, and where its processes lie. Of a
    pattern that fits several series, their names."""
    from dataclasses import replace

    from rich.console import Console

    from kernelproof.conformance.history.chart import chart_of
    from kernelproof.conformance.history.trajectory import trajectories

    opened = open_store(store)
    names = _matching(opened, series)
    if len(names) > 1:
        print("\n".join(names))
        print(f"{len(names):,} series match {series}: name one of them to see it", file=sys.stderr)
        return ending(opened)
    literal = "".join(f"[{c}]" if c in "*?[" else c for c in names[0])
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    for trajectory in trajectories(opened.measurements(literal), Path.cwd()):
        earlier = len(trajectory.points) - limit
        console.print(chart_of(replace(trajectory, points=trajectory.points[-limit:])))
        console.print(f"{earlier:,} earlier; --limit shows them\n" if earlier > 0 else "")
    return ending(opened)


def _matching(store: Store, series: str) -> list[str]:
    """Names of series: the one of exactly this name, or all that it is a pattern of."""
    question = "SELECT DISTINCT series FROM measurements WHERE series {} ? ORDER BY 1"
    for operator in ("=", "GLOB"):
        if found := [row[0] for row in store.ask(question.format(operator), [series])]:
            return found
    _refuse_unknown(store, series)
    return []


def _refuse_unknown(store: Store, series: str) -> None:
    """Raises Refused, with the name that was perhaps meant."""
    import difflib

    names = [row[0] for row in store.ask("SELECT DISTINCT series FROM measurements ORDER BY 1")]
    if near := difflib.get_close_matches(series, names, n=1, cutoff=0.3):
        hint = f"did you mean {near[0]}?"
    else:
        parts = [name for name in names if series.strip("*") in name]
        nearest = parts or difflib.get_close_matches(series, names, n=3, cutoff=0)
        hint = f"the store has {len(names):,} of other names; nearest: {', '.join(nearest[:3])}"
    ending(store)  # it may be among the damaged
    raise Refused(f"no series matches {series}: {hint}")


@app.command()
@tells_failures
def verify(store: Folder = None) -> int:
    """Read every file of the store again. A damaged one is set aside, never deleted; one that is
    whole after all is put back."""
    from kernelproof.conformance.history.wording import many

    opened = open_store(store)
    found = opened.verify()
    for name in found.restored:
        print(f"{name} is whole and back among the runs")
    if found.abandoned:
        print(f"{many(len(found.abandoned), 'unfinished file')} of writers that died: deleted")
    sound = "" if found.damage else ", all sound"
    print(f"{many(found.runs, 'run')}, {many(found.measurements, 'measurement')}{sound}")
    return ending(opened)


@app.command("import")
@tells_failures
def import_(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="JSON of --benchmark-json, result files of asv, or its folder."
        ),
    ],
    store: Folder = None,
) -> int:
    """Import times from pytest-benchmark and asv, a run per file; a file is imported once."""
    from kernelproof.conformance.history.importing import read_files
    from kernelproof.conformance.history.place import store_folder
    from kernelproof.conformance.history.store import Store
    from kernelproof.conformance.history.wording import many

    opened = Store(store_folder(store))
    there = {run.id for run in opened.runs()}
    imported = 0
    for each in read_files(files):
        for reason in each.left_out:
            print(f"{each.path}: not imported: {reason}")
        if each.run.id in there:
            print(f"{each.path}: is in the store already")
        elif each.run.measurements:
            opened.add(each.run)
            there.add(each.run.id)
            what = many(len(each.run.measurements), "time")
            print(f"{each.path}: {what} at {each.run.commit[:10] or 'no commit'}")
        imported += len(each.run.measurements)
    return ending(opened) or (0 if imported else _told("nothing to import there", ExitCode.NOTHING))


@app.command()
@tells_failures
def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Written whole or not at all.")],
    format_: Annotated[
        str, typer.Option("--format", metavar="F", help="csv, or pytest-benchmark (one run).")
    ],
    series: Glob = "*",
    run: Annotated[
        str, typer.Option(metavar="ID", help="For pytest-benchmark: this run, not the latest.")
    ] = "",
    store: Folder = None,
) -> int:
    """Export the record: all columns as CSV, or the times of a run as pytest-benchmark has them."""
    from kernelproof.conformance.history.exporting import write_csv, write_pytest_benchmark
    from kernelproof.conformance.history.wording import many

    if format_ not in ("csv", "pytest-benchmark"):
        raise Refused(f"--format {format_}: wanted csv or pytest-benchmark")
    opened = open_store(store)
    _matching(opened, series)
    try:
        if format_ == "csv":
            what = many(write_csv(opened, series, Path(file)), "measurement")
        else:
            chosen = write_pytest_benchmark(opened, series, run, Path(file))
            if chosen is None:
                which = f"no run {run}..." if run else "no run"
                raise Refused(
                    f"{which} has times of such series: nothing to export", ExitCode.NOTHING
                )
            what = f"run {chosen.id} at {chosen.commit[:10] or 'no commit'}"
    except OSError as error:
        raise Refused(
            f"{file} was not written: {error.strerror}", ExitCode.INFRASTRUCTURE
        ) from None
    print(f"{file}: {what}")
    return ending(opened)


@app.command()
@tells_failures
def changes(
    series: Glob = "*",
    metric: Annotated[
        list[str] | None, typer.Option(metavar="M", help="Only this metric: time, traffic, ...")
    ] = None,
    since: Annotated[
        str, typer.Option(metavar="REV", help="Only changes that came after this revision.")
    ] = "",
    budget: Annotated[
        float, typer.Option(metavar="SHARE", min=0, help="Least change of a time that counts.")
    ] = 0.02,
    json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    store: Folder = None,
) -> int:
    """Find where series changed: between which commits, by how much, and which counted metrics
    changed with a time. Counts change exactly; of times, at most one clean series in a hundred is
    named, as long as days do not resemble the days before. The gate settles a doubt."""
    from kernelproof.conformance.history.changing import report_changes

    opened = open_store(store)
    if series != "*":
        _matching(opened, series)
    try:
        report = report_changes(opened, Path.cwd(), series, metric or [], since, budget)
    except LookupError as error:
        raise Refused(str(error.args[0])) from None
    print(json.dumps(report.to_json(), indent=1) if json_ else "\n".join(report.lines()))
    return ending(opened)
