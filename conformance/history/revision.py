"""Which commit a folder is at, and in which order commits came."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from kernelproof.conformance.git import GitFailure, git

Place: TypeAlias = tuple[float, int, str]
"""Sorts commits; see :func:`commit_places`."""


class RevisionError(Exception):
    """git would not answer; the message is its own, and what to do."""


class Revision(NamedTuple):
    """A commit, "" where there is none, and whether files that git knows differ from it."""

    commit: str
    dirty: bool


def describe(folder: Path | str, files: Sequence[Path | str] = ()) -> Revision:
    """The revision of the repository in which a folder lies; ("", False) if it lies in none.

    files: those that were read; one that git does not know makes the revision dirty, as any change
        of a file that it knows does. Other unknown files are no matter. Raises RevisionError.
    """
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    if not commit:
        return Revision("", False)
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    unknown = files and _git(folder, "ls-files", "--others", "--", *map(str, files))
    return Revision(commit, bool(changed or unknown))


def root_of(folder: Path | str) -> Path | None:
    """The uppermost folder of the repository, or None. Raises RevisionError."""
    found = _git(folder, "rev-parse", "--show-toplevel")
    return Path(found) if found else None


def commit_places(
    folder: Path | str, first_seen: Mapping[str, datetime.datetime]
) -> dict[str, Place]:
    """For each commit, what sorts it among the others.

    Those on the first-parent line of HEAD stand in its order, whatever their clocks said. Another
    that git knows stands by its own date, and one that git does not know, or all where there is no
    repository, by when it was first measured (first_seen).
    """
    dates = _dates(folder, first_seen)
    line = {commit: number for number, commit in enumerate(_first_parents(folder))}
    latest, reached = {}, 0.0
    for commit, number in line.items():
        reached = max(reached, dates.get(commit, 0.0))
        if commit in first_seen:
            latest[commit] = (reached, number, commit)
    return {
        commit: latest.get(commit)
        or (dates.get(commit, first_seen[commit].timestamp()), len(line), commit)
        for commit in first_seen
    }


def commits_between(
    folder: Path | str, before: str, after: str, *, first_parent: bool = False
) -> list[str]:
    """The commits that led from one revision to another, which is among them; none without a
    repository. Raises RevisionError if git does not know one of them."""
    words = ("rev-list", *(["--first-parent"] if first_parent else []), "--end-of-options")
    return _git(folder, *words, f"{before}..{after}", "--").split()


def _first_parents(folder: Path | str) -> Iterable[str]:
    if not _git(folder, "rev-parse", "--verify", "--quiet", "HEAD"):
        return []
    return _git(folder, "rev-list", "--first-parent", "--reverse", "HEAD").split()


def _dates(folder: Path | str, commits: Iterable[str]) -> dict[str, float]:
    """Dates of those commits that git knows, as seconds."""
    wanted = "".join(f"{commit}^{{commit}}\n" for commit in commits if commit)
    known = _git(folder, "cat-file", "--batch-check=%(objectname)", given=wanted).splitlines()
    found = [
        line for line in known if " " not in line
    ]  # after others it says that they are missing
    if not found:
        return {}
    words = ("log", "--no-walk=unsorted", "--stdin", "--no-show-signature", "--format=%H %ct")
    lines = _git(folder, *words, given="".join(f"{commit}\n" for commit in found)).splitlines()
    return {commit: float(seconds) for commit, seconds in map(str.split, lines)}


def _git(folder: Path | str, *words: str, given: str = "") -> str:
    """What git prints; nothing where there is no repository or no commit. Raises RevisionError."""
    try:
        return git(folder, *words, given=given)
    except FileNotFoundError:
        return ""
    except GitFailure as failure:
        if not failure.told or "not a git repository" in failure.told[0]:
            return ""
        raise RevisionError(f"git {words[0]} in {folder}: {failure.told[0]}") from None
