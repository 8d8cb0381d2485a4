"""Running git on whatever repository a folder belongs to."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_REDIRECTING = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_NAMESPACE"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_PREFIX"),
    *("GIT_LITERAL_PATHSPECS", "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS", "GIT_ICASE_PATHSPECS"),
)
"""Variables that a hook of git has set, to parts of a repository that need not be this one, and
those that give the names of our files another meaning. Others, such as GIT_CONFIG_*, are how a
machine makes git work at all."""

_QUIET = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}


class GitFailure(Exception):
    """A command of git that failed; the message is its own last sentence.

    told: all lines that it printed.
    """

    def __init__(self, message: str, told: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.told = told


def git(folder: Path | str, *words: str, given: str = "", **variables: str) -> str:
    """Run git and return what it prints, without the last line's end.

    given: its standard input. Raises GitFailure, FileNotFoundError where git is not installed.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        # a trace would stand among the errors, which are read
        if name not in _REDIRECTING and not name.startswith("GIT_TRACE")
    }
    done = subprocess.run(
        ["git", "-C", str(folder), *words],
        input=given,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env={**inherited, **_QUIET, **variables},
        start_new_session=True,  # Ctrl-C is for kernelproof, which then clears up through git
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"git ended with {done.returncode}"]
        last = lines[-1].removeprefix("fatal: ").removeprefix("error: ")
        raise GitFailure(last, tuple(done.stderr.strip().splitlines()))
    return done.stdout.rstrip("\n")
