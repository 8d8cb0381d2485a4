"""The command line: a thin layer over pytest."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from kernelproof import __version__
from kernelproof.conformance.arguments import (
    QUIET,
    Backends,
    Cases,
    Dtypes,
    Implementations,
    ImportTimeout,
    Map,
    Memory,
    Returns,
    Specs,
    Targets,
    Timeout,
    plugin_arguments,
    split,
)
from kernelproof.conformance.exits import ExitCode
from kernelproof.conformance.history import cli as history
from kernelproof.conformance.regression.cli import gate
from kernelproof.conformance.timing.cli import bench

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Conformance of attention and matrix-multiplication kernels.",
)


def main() -> None:
    """Run a command; a wrong option costs one sentence and exit code 4."""
    command = typer.main.get_command(app)
    try:
        code = command.main(standalone_mode=False)
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        print(f"kernelproof: {error.format_message()}", file=sys.stderr)
        print("kernelproof --help lists commands and options", file=sys.stderr)
        sys.exit(ExitCode.USAGE)
    sys.exit(code or 0)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"kernelproof {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(
    context_settings={"allow_interspersed_args": True},
    epilog="What follows -- goes to pytest: -k, --lf, --collect-only, -x, -v and the like.",
)
def test(
    targets: Targets = None,
    spec: Specs = None,
    impl: Implementations = None,
    backend: Backends = None,
    dtype: Dtypes = None,
    tier: Annotated[
        str | None, typer.Option(metavar="T", help="smoke, core (default), full.")
    ] = None,
    seed: Annotated[
        str | None, typer.Option(metavar="N", help="Seed of the inputs, or 'random'.")
    ] = None,
    case: Cases = None,
    clause: Annotated[
        list[str] | None, typer.Option(metavar="C", help="Judge the case by this clause alone.")
    ] = None,
    fuzz: Annotated[
        str | None,
        typer.Option(metavar="N", help="N random cases of each instead of a tier's; shrinks."),
    ] = None,
    require: Annotated[
        str | None, typer.Option(metavar="PRESET", help="Fail looser roundings.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 7 if anything was unmeasured.")
    ] = False,
    returns: Returns = None,
    map_: Map = None,
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Judge the gradients of a :callable, too.")
    ] = False,
    json_: Annotated[
        str | None, typer.Option("--json", metavar="F", help="Write the run record.")
    ] = None,
    record_: Annotated[
        bool, typer.Option("--record", help="Keep the run in the store; history reads it.")
    ] = False,
    store: Annotated[
        str | None, typer.Option(metavar="DIR", help="The store (.kernelproof at the root).")
    ] = None,
    junitxml: Annotated[str | None, typer.Option(metavar="F", help="Write JUnit XML.")] = None,
    workers: Annotated[
        int | None, typer.Option("-n", metavar="N", help="Processes (pytest-xdist).")
    ] = None,
    timeout: Timeout = None,
    import_timeout: ImportTimeout = None,
    memory: Memory = None,
) -> int:
    """Run the suite on the implementations of the targets."""
    import pytest

    targets, passed_on = split(targets or [])
    arguments = ["--pyargs", "kernelproof.conformance", *QUIET, "-p", "no:benchmark"]
    given: dict[str, Any] = {
        "target": targets,
        "spec": spec,
        "impl": impl,
        "backend": backend,
        "dtype": dtype,
        "tier": tier,
        "seed": seed,
        "case": case,
        "clause": clause,
        "fuzz": fuzz,
        "require": require,
        "returns": returns,
        "map": map_,
        "json": json_,
        "store": store,
        "timeout": timeout,
        "import-timeout": import_timeout,
        "memory": memory,
    }
    arguments += plugin_arguments(given)
    arguments += ["--kp-strict"] if strict else []
    arguments += ["--kp-record"] if record_ else []
    arguments += ["--kp-gradients"] if gradients else []
    arguments += [f"--junitxml={junitxml}"] if junitxml else []
    if workers is not None and workers < 0:
        raise typer.BadParameter(
            f"{workers} processes: wanted 0 (this one) or more", param_hint="-n"
        )
    if workers is not None:
        if find_spec("xdist") is None:
            print(
                "kernelproof: -n wants pytest-xdist: pip install pytest-xdist",
                file=sys.stderr,
            )
            return ExitCode.USAGE
        arguments.append(f"-n{workers}")
    return int(pytest.main([*arguments, *passed_on]))


@app.command("list")
def list_(
    targets: Targets = None,
    spec: Specs = None,
    json_: Annotated[
        bool, typer.Option("--json", help="As JSON, with clauses and capabilities.")
    ] = False,
) -> int:
    """List specs, their clauses, the implementations of the targets, and worksheets."""
    from kernelproof.conformance.catalogue import catalogue, write_catalogue
    from kernelproof.conformance.client import WorkerUnavailable
    from kernelproof.conformance.suite import Settings, Suite, UsageError

    try:
        settings = Settings.read(
            {
                "targets": targets,
                "specs": spec,
                "sheets": True,
                "tier": "full",
                "seed": "0",
                "timeout": 60,
                "import_timeout": 60,
                "memory": 8,
            }
        )
    except UsageError as error:
        print(f"kernelproof: {error}", file=sys.stderr)
        return ExitCode.USAGE
    suite = Suite(settings)
    try:
        found = catalogue(suite)
    except WorkerUnavailable as error:
        print(f"kernelproof: {error}", file=sys.stderr)
        return ExitCode.INFRASTRUCTURE
    finally:
        suite.close()
    if json_:
        print(json.dumps(found, indent=1))
    else:
        write_catalogue(found)
    return 1 if found["problems"] else 0


@app.command()
def explain(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="attention.flash, sizing.kv_cache.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]", help="Axes, tiles, options, quantities."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> int:
    """Show a spec as a page with numbers: definition, clauses, error bounds, work, rooflines; or a
    worksheet, as sizing.kv_cache, with its formulas worked out for whole numbers such as 2048,
    19e12 or 2x100x100x100."""
    from kernelproof.conformance.explain import explain, write_page
    from kernelproof.conformance.worksheet import work_out, write_worksheet
    from kernelproof.spec.catalogue import sheet_names

    is_sheet = spec in sheet_names()
    try:
        page = (work_out if is_sheet else explain)(spec, words or [])
    except (LookupError, ValueError) as error:
        print(f"kernelproof: {error.args[0]}", file=sys.stderr)
        return ExitCode.USAGE
    if json_:
        print(json.dumps(page, indent=1))
    else:
        (write_worksheet if is_sheet else write_page)(page)
    return 0


@app.command()
def power(
    spec: Specs = None,
    edits: Annotated[
        bool, typer.Option("--edits/--no-edits", help="Edits of the built-in kernels, too.")
    ] = True,
    json_: Annotated[str | None, typer.Option("--json", metavar="F", help="Write as JSON.")] = None,
) -> int:
    """Show that the suite can fail: every planted bug against every gate, and what assert_close, a
    flat 1e-2 and the 2x-eager rule say of the same cases. Exit 1 if a bug survives."""
    from itertools import groupby
    from pathlib import Path

    from kernelproof.conformance import matrix, record
    from kernelproof.conformance.edits.matrix import edit_table
    from kernelproof.conformance.suite import UsageError
    from kernelproof.spec.catalogue import matching_specs

    try:
        names = matching_specs(spec or ["*"])
        record.check_writable(json_)
    except (LookupError, UsageError) as error:
        print(f"kernelproof: {error.args[0]}", file=sys.stderr)
        return ExitCode.USAGE
    powers = []
    for _, group in groupby(matrix.measure_all(names), key=lambda each: each.spec):
        powers.append(list(group))
        print("\n".join([*matrix.table(powers[-1]), ""]), flush=True)
    every = [each for group in powers for each in group]
    edited = []
    for each in matrix.measure_all_edits(names) if edits else ():
        edited.append(each)
        print("\n".join([*edit_table(each), ""]), flush=True)
    lines = [*matrix.summary(every), *(matrix.edit_summary(edited) if edits else ())]
    print("\n".join(lines))
    if json_:
        try:
            record.write(Path(json_), matrix.to_json(every, edited))
        except OSError as error:
            print(f"kernelproof: {json_} was not written: {error.strerror}", file=sys.stderr)
            return ExitCode.INFRASTRUCTURE
    bad = any(p.survivors or p.false_alarms for p in every)
    return 1 if bad or any(e.survivors or e.alarms for e in edited) else 0


app.command(epilog="What follows -- goes to pytest: --benchmark-compare, -k, -x and the like.")(
    bench
)
app.command()(gate)
app.add_typer(history.app, name="history")
