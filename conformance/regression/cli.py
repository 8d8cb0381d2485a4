"""``kernelproof gate``: what a change does to costs, errors and times."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kernelproof.conformance.arguments import (
    Backends,
    Cases,
    Dtypes,
    Implementations,
    ImportTimeout,
    Map,
    Memory,
    Returns,
    Specs,
    Timeout,
)
from kernelproof.conformance.exits import ExitCode

if TYPE_CHECKING:
    from kernelproof.conformance.regression.outcome import Policy


def gate(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET",
            help="kernels.py or package.module of this repository, or either with :callable.",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="REV",
            help="Compare with this revision. Default: where head left the default branch, or "
            "else the commit before.",
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(metavar="REV", help="Judge this revision. Default: the working tree."),
    ] = None,
    spec: Specs = None,
    impl: Implementations = None,
    case: Cases = None,
    backend: Backends = None,
    dtype: Dtypes = None,
    tier: Annotated[str, typer.Option(metavar="T", help="smoke, core, full.")] = "smoke",
    seed: Annotated[str, typer.Option(metavar="N", help="Seed of the inputs.")] = "0",
    budget: Annotated[
        str, typer.Option(metavar="SHARE", help="The smallest slow-down that counts.")
    ] = "2%",
    processes: Annotated[
        int, typer.Option(metavar="K", help="Processes of each side that screen, 5 or more.")
    ] = 5,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=SHARE", help="Allow an increase: traffic=1%. Default 0."),
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(
            metavar="WORDS",
            help="Verdicts that fail, or none. Default: failing,more,slower,missing,"
            "void,inconclusive.",
        ),
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="A folder of the repository with modules, as src."),
    ] = None,
    setup: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="Run it in each revision, to build.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(metavar="S", help="Seconds of one time in one process.")
    ] = 0.5,
    no_time: Annotated[bool, typer.Option("--no-time", help="Compare no times.")] = False,
    json_: Annotated[str | None, typer.Option("--json", metavar="F", help="Write as JSON.")] = None,
    markdown: Annotated[
        str | None, typer.Option(metavar="F", help="Write a comment for a pull request.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Keep both runs here. Default: .kernelproof, if it exists."
        ),
    ] = None,
    returns: Returns = None,
    map_: Map = None,
    timeout: Timeout = "60",
    import_timeout: ImportTimeout = "60",
    memory: Memory = "8",
    self_test: Annotated[
        bool,
        typer.Option("--self-test", help="Measure what the rule for times can see here, now."),
    ] = False,
) -> int:
    """Compare two revisions: counts and errors exactly, times by interleaved fresh processes. Exit
    1 for a regression or a wrong result, 7 if noise hides the answer, 8 if something vanished."""
    from kernelproof.conformance.history.place import store_if_any
    from kernelproof.conformance.regression.comparing import compare, ending
    from kernelproof.conformance.regression.publishing import Places, publish
    from kernelproof.conformance.regression.revisions import Repository

    options = {
        "specs": spec,
        "implementation": impl,
        "cases": case,
        "backends": backend,
        "dtypes": dtype,
        "tier": tier,
        "seed": seed,
        "seconds": seconds,
        "returns": returns,
        "map": map_,
        "timeout": timeout,
        "import_timeout": import_timeout,
        "memory": memory,
    }

    def work() -> int:
        policy = _policy(budget, processes, allow or [], fail_on, not no_time)
        if self_test:
            return _self_test(policy, seconds)
        repository = Repository.around(Path.cwd())
        places = Places(json_, markdown, store_if_any(repository.root, store))
        places.check()
        outcome = compare(
            repository,
            targets or [],
            options,
            policy,
            base=base,
            head=head,
            paths=path or [],
            setup=setup,
            written=places.written,
        )
        return publish(outcome, places, datetime.date.today())

    return ending(work)


def _policy(
    budget: str, processes: int, allow: list[str], fail_on: str | None, timed: bool
) -> Policy:
    from kernelproof.conformance.regression.decision import Rule
    from kernelproof.conformance.regression.outcome import Policy
    from kernelproof.conformance.regression.verdicts import (
        read_allowances,
        read_policy,
        read_share,
    )
    from kernelproof.conformance.suite import UsageError

    if processes < 5:
        raise UsageError(f"--processes {processes}: wanted 5 or more: fewer show no noise")
    usual, share = Rule(), read_share("--budget", budget, above=0)
    # the screen lets through what the budget counts, in the same proportion as usual; what is
    # detectable lies above the budget, so that a resolution of the budget suspects every series
    rule = Rule(
        budget=share,
        screen=usual.screen / usual.budget * share,
        resolution=max(usual.resolution, usual.resolution / usual.budget * share),
        processes=processes,
    )
    return Policy(read_policy(fail_on), read_allowances(allow), rule, timed)


def _self_test(policy: Policy, seconds: float) -> int:
    from kernelproof.conformance.regression.comparing import complain, say
    from kernelproof.conformance.regression.self_test import SelfTestFailed, self_test
    from kernelproof.conformance.regression.stopwatch import Processes

    try:
        lines = list(self_test(policy.rule, Processes(), seconds, say))
    except SelfTestFailed as error:
        complain(str(error))
        return ExitCode.INFRASTRUCTURE
    say("")
    print("\n".join(lines))
    return 0
