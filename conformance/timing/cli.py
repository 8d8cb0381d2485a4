"""The command line's ``bench``: pytest with the suite's timed calls."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from kernelproof.conformance.arguments import (
    QUIET,
    Implementations,
    Memory,
    Specs,
    Targets,
    Timeout,
    plugin_arguments,
    split,
)
from kernelproof.conformance.exits import ExitCode

_OWN_TABLE = ("columns", "sort", "group-by", "name", "compare", "histogram", "verbose", "cprofile")


def bench(
    targets: Targets = None,
    spec: Specs = None,
    impl: Implementations = None,
    backend: Annotated[list[str] | None, typer.Option(metavar="B", help="cpu, cuda.")] = None,
    dtype: Annotated[
        list[str] | None,
        typer.Option(metavar="D", help="Input dtypes (float32 on cpu, 16 bits on cuda)."),
    ] = None,
    case: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="This case, of any size.")
    ] = None,
    seconds: Annotated[
        str | None, typer.Option(metavar="S", help="Seconds of rounds per case (1).")
    ] = None,
    json_: Annotated[
        str | None, typer.Option("--json", metavar="F", help="Write pytest-benchmark's JSON.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="REV", help="Beside this revision of the repository, in turns."),
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="Keep the times in the store.")] = False,
    workers: Annotated[str | None, typer.Option("-n", hidden=True)] = None,
    timeout: Timeout = None,
    memory: Memory = None,
) -> int:
    """Time the implementations of the targets, beside a known operation and this machine's roofs.

    Results are verified; where they are wrong, or a clock is, there is no time and the exit code
    is 1. With --base, the working tree and that revision are timed in turns, in fresh processes,
    for minutes, and judged as by gate, which compares counts and errors as well.
    """
    import pytest

    from kernelproof.conformance.record import check_writable
    from kernelproof.conformance.suite import UsageError

    targets, passed_on = split(targets or [])
    if beside := _beside(workers, passed_on):
        print(
            f"kernelproof: {beside}: times of calls that run beside each other are times of both: "
            "bench runs alone, so leave it out",
            file=sys.stderr,
        )
        return ExitCode.USAGE
    if base is not None:
        if json_ or record or passed_on:
            print(
                "kernelproof: bench --base compares two revisions and keeps nothing: wanted no "
                "--json, --record or options of pytest; kernelproof gate writes JSON",
                file=sys.stderr,
            )
            return ExitCode.USAGE
        options = {
            "specs": spec,
            "implementation": impl,
            "backends": backend,
            "dtypes": dtype,
            "cases": case,
            "seconds": seconds or "0.5",
            "timeout": timeout or "60",
            "memory": memory or "8",
        }
        return _compare(targets, options, base)
    try:
        check_writable(json_)
    except UsageError as error:
        print(f"kernelproof: {error}", file=sys.stderr)
        return ExitCode.USAGE
    given = {
        "target": targets,
        "spec": spec,
        "impl": impl,
        "backend": backend,
        "dtype": dtype,
        "case": case,
        "seconds": seconds,
        "timeout": timeout,
        "memory": memory,
    }
    # named, it is loaded where an ini turns it off
    arguments = ["--pyargs", "kernelproof.conformance", "-p", "benchmark", "--kp-bench", *QUIET]
    arguments += [*plugin_arguments(given), *([f"--benchmark-json={json_}"] if json_ else [])]
    arguments += ["--kp-record"] if record else []
    asked = any(w.startswith(f"--benchmark-{o}") for w in passed_on for o in _OWN_TABLE)
    return int(pytest.main([*arguments, *([] if asked else ["--benchmark-quiet"]), *passed_on]))


def _compare(targets: Sequence[str], options: Mapping[str, Any], base: str) -> int:
    """Times of the working tree and of a revision, in turns; the exit code is that of gate."""
    from kernelproof.conformance.regression.comparing import compare, ending
    from kernelproof.conformance.regression.outcome import Policy
    from kernelproof.conformance.regression.revisions import Repository
    from kernelproof.conformance.regression.terminal import page

    def work() -> int:
        usual = {"bench": True, "tier": "smoke", "seed": "0", "import_timeout": "60"}
        given = {**usual, **options}
        repository = Repository.around(Path.cwd())
        outcome = compare(repository, targets, given, Policy(), base=base, head=None)
        print(page(outcome, datetime.date.today(), apart=True))
        return outcome.code

    return ending(work)


def _beside(workers: str | None, passed_on: Sequence[str]) -> str:
    """The option that would run checks beside each other, if there is one."""
    if workers is not None:
        return f"-n {workers}"
    return next((w for w in passed_on if w.startswith(("-n", "--numprocesses", "--dist"))), "")
