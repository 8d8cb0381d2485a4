"""The gate: measure base and head, compare, and say what of the difference is real."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePath

from kernelproof.conformance.regression.accepted import (
    Accepted,
    accept,
    check_new,
    read_accepted,
)
from kernelproof.conformance.regression.findings import (
    find,
    measured_on,
    notes_on,
    results_of,
    with_verdicts,
)
from kernelproof.conformance.regression.outcome import Outcome, Policy, severity
from kernelproof.conformance.regression.revisions import Repository, Revision
from kernelproof.conformance.regression.sides import (
    Asked,
    Side,
    check_selections,
    check_targets,
    in_turns,
)
from kernelproof.conformance.regression.timed import Stopwatch, measure_times
from kernelproof.conformance.suite import UsageError

PROSE = (".md", ".rst")
"""Files that no kernel reads: a commit that changes only these changes no code."""


def judge(
    repository: Repository,
    revisions: tuple[Revision, Revision],
    asked: Asked,
    policy: Policy,
    stopwatch: Stopwatch,
    say: Callable[[str], None],
    today: datetime.date,
) -> Outcome:
    """Measure and compare two revisions. Raises UsageError, SetupFailed, WorkerUnavailable."""
    started = datetime.datetime.now(datetime.UTC)
    base, head = revisions
    with ExitStack() as stack:
        folders = stack.enter_context(repository.checked_out([base, head]))
        # entries are read before anything is measured: a typing error is known at once
        entries, settled = read_accepted(folders[1]), _settled(folders[0])
        check_new(entries, settled, lambda c: repository.descends(c, revisions), today)
        sides = {
            name: Side(name, revision, folder, repository.root, asked, renamed)
            for name, revision, folder, renamed in (
                ("base", base, folders[0], repository.renamed(base, head)),
                ("head", head, folders[1], {}),
            )
        }
        for side in sides.values():
            stack.callback(side.close)
            side.set_up()
            side.open()
        check_targets(list(sides.values()), asked, repository.root)
        check_selections(list(sides.values()))
        _check_all(sides, say)
        differing, built = repository.differing(base, head), asked.setup is not None

        def same_code() -> list[str]:
            return _unchanged(sides, differing, built)

        times = None
        if policy.timed:
            seed = f"{base.tree} {head.tree}"
            times = measure_times(sides, stopwatch, policy.rule, same_code, say, seed)
            _check_strays(sides)
        unchanged = same_code()
        measured = {name: measured_on(side, times) for name, side in sides.items()}
    found = find(sides, measured, policy, times)
    judged, problems = accept(found, entries, settled, today)
    failing, before = (
        tuple(r for r in results_of(side, times) if r.verdict.failing)
        for side in (sides["head"], sides["base"])
    )
    return Outcome(
        base,
        head,
        policy,
        tuple(sorted(judged, key=severity)),
        failing,
        before,
        tuple(problems),
        tuple(notes_on(sides, times, unchanged, failing, before)),
        {**measured, "head": with_verdicts(measured["head"], judged)},
        times.processes if times else 0,
        started,
        str(asked.options.get("seed", "0")),
        tuple(sides["base"].unloaded),
    )


def _check_all(sides: Mapping[str, Side], say: Callable[[str], None]) -> None:
    """Run the checks of both sides."""
    plans = {name: side.plan() for name, side in sides.items()}
    for side in sides.values():
        side.check_origins()
    total = sum(map(len, plans.values()))
    for number, (name, planned) in enumerate(in_turns(plans), start=1):
        sides[name].check(planned)
        if number == total or number % _OFTEN == 0:
            say(f"checks: {number} of {total}, base and head in turns")
    _check_strays(sides)


def _check_strays(sides: Mapping[str, Side]) -> None:
    for side in sides.values():
        side.check_strays()


_OFTEN = 50
"""After how many checks progress is told."""


def _unchanged(sides: Mapping[str, Side], differing: Sequence[str], built: bool) -> list[str]:
    """Targets whose code is the same on both sides: the commit changes nothing that they read.

    No file that differs is imported by the target, and each is Python or prose: any other may be
    data, or source of something compiled; so may Python where a command builds something.
    """
    harmless = PROSE if built else (*PROSE, ".py", ".pyi")
    if not all(PurePath(name).suffix in harmless for name in differing):
        return []
    both = [text for text in sides["head"].numbers if text in sides["base"].numbers]
    return [text for text in both if _reads_none(text, sides.values(), set(differing))]


def _reads_none(text: str, sides: Iterable[Side], differing: set[str]) -> bool:
    """Whether a target imports something here, and none of these files."""
    read = [side.imported(side.numbers[text]) for side in sides]
    return all(read) and not any(files & differing for files in read)


def _settled(folder: PurePath) -> list[Accepted]:
    """The entries of base; of a file that was malformed there, none."""
    try:
        return read_accepted(Path(folder))
    except UsageError:
        return []
