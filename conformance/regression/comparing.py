"""From a command's options to the outcome of a comparison, from what stops it to an exit code."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kernelproof.conformance.client import WorkerUnavailable
from kernelproof.conformance.exits import ExitCode
from kernelproof.conformance.regression.gate import judge
from kernelproof.conformance.regression.outcome import Outcome, Policy
from kernelproof.conformance.regression.revisions import Repository
from kernelproof.conformance.regression.sides import (
    Asked,
    SetupFailed,
    check_options,
    read_paths,
    read_targets,
)
from kernelproof.conformance.regression.stopwatch import Processes
from kernelproof.conformance.suite import UsageError


def compare(
    repository: Repository,
    targets: Sequence[str],
    options: Mapping[str, Any],
    policy: Policy,
    *,
    base: str | None,
    head: str | None,
    paths: Sequence[str] = (),
    setup: str | None = None,
    written: Sequence[Path] = (),
) -> Outcome:
    """Judge two revisions, with progress on stderr. Raises what :func:`ending` turns into words.

    options: those of ``Settings``. base, head: revisions as they were named, if they were.
    written: files that are no part of head.
    """
    current = Path.cwd()
    asked = Asked(
        read_targets(targets, repository.root, current),
        current.relative_to(repository.root),
        read_paths(paths, repository.root, current),
        setup,
        options,
    )
    named = base is not None or head is not None
    check_options(asked, current, lambda file: named or repository.has_had(current / file))
    after = repository.head(head, written)
    before = repository.base(base, after)
    say(f"base  {before.words}")
    say(f"head  {after.words}")
    today = datetime.date.today()
    outcome = judge(repository, (before, after), asked, policy, Processes(), say, today)
    say("")
    return outcome


def ending(work: Callable[[], int]) -> int:
    """The exit code of a comparison; what stopped it is one sentence on stderr."""
    try:
        return work()
    except UsageError as error:
        complain(str(error))
        return ExitCode.USAGE
    except SetupFailed as error:
        complain(str(error))
        return ExitCode.REGRESSION if error.side == "head" else ExitCode.INFRASTRUCTURE
    except WorkerUnavailable as error:
        complain(str(error))
        return ExitCode.INFRASTRUCTURE
    except KeyboardInterrupt:
        complain("interrupted: nothing was judged, nothing is left behind")
        return ExitCode.INTERRUPTED


def say(words: str) -> None:
    """Progress, beside the report: one line that is written over on a terminal."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        sys.stderr.write(f"\r\x1b[2K{words[:100]}")
        sys.stderr.flush()
    elif words:
        print(words, file=sys.stderr, flush=True)


def complain(sentence: str) -> None:
    """What went wrong, on stderr."""
    print(f"kernelproof: {sentence}", file=sys.stderr)
