"""Two revisions of a repository, each checked out in a folder of its own."""

from __future__ import annotations

import fcntl
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import FrameType
from typing import IO

from kernelproof.conformance.git import GitFailure, git
from kernelproof.conformance.suite import UsageError

DEFAULT_BRANCHES = ("origin/HEAD", "origin/main", "origin/master", "main", "master")
"""Where a change is expected to go, in the order in which they are tried."""

SOURCES = (".py", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp")
"""Of new files that git does not know, those that a target may read. A log or a report is no
change: with it, what was committed would be compared with itself."""

_NOBODY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "kernelproof"), ("EMAIL", "kernelproof@localhost"))
}


@dataclass(frozen=True)
class Revision:
    """A commit, and in words why this one.

    tree: what is checked out: the commit, or a snapshot of the files as they lie there.
    dirty: whether files that git knows differ there, or one of ``SOURCES`` is new.
    """

    commit: str
    why: str
    tree: str
    dirty: bool = False

    @property
    def words(self) -> str:
        """``1a2b3c4d5e6f with uncommitted changes (the working tree)``."""
        return f"{self.commit[:12]}{' with uncommitted changes' * self.dirty} ({self.why})"


class Repository:
    """A git repository with a working tree."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def around(cls, folder: Path) -> Repository:
        """The repository in which a folder lies. Raises UsageError if there is none."""
        if shutil.which("git") is None:
            raise UsageError("gate compares revisions of a repository, but git is not installed")
        try:
            root = git(folder, "rev-parse", "--show-toplevel")
        except GitFailure as failure:
            raise UsageError(
                f"{folder} is in no git repository that can be read ({failure}): gate compares "
                "two revisions of your kernels; run it inside their repository"
            ) from None
        return cls(Path(root))

    def base(self, named: str | None, head: Revision) -> Revision:
        """What a change is compared with: a named revision, the commit where it left the default
        branch, or else the commit before. Raises UsageError."""
        if named is not None:
            return self._named("--base", named)
        for branch in DEFAULT_BRANCHES:
            forked = self._find("merge-base", branch, head.commit)
            if forked and (forked != head.commit or head.dirty):
                why = "the last commit" if forked == head.commit else f"where it left {branch}"
                return Revision(forked, why, forked)
        if before := self._find("rev-parse", "--verify", "--quiet", f"{head.commit}~1"):
            return Revision(before, f"the commit before {head.commit[:12]}", before)
        shallow = self._find("rev-parse", "--is-shallow-repository") == "true"
        how = "fetch more of the history (git fetch --deepen=100)" if shallow else "commit a change"
        raise UsageError(
            f"{head.commit[:12]} has no commit before it here, so there is nothing to compare it "
            f"with: {how}, or name one with --base"
        )

    def head(self, named: str | None, written: Sequence[Path] = ()) -> Revision:
        """A named revision, or the working tree as it is. Raises UsageError.

        written: files and folders that the gate itself writes; they are no part of the tree.
        """
        if named is not None:
            return self._named("--head", named)
        commit = self._find("rev-parse", "--verify", "--quiet", "HEAD")
        if not commit:
            raise UsageError(f"{self.root} has no commit yet: wanted one to compare with")
        tree = self._snapshot(commit, written)
        return Revision(commit, "the working tree", tree, self._is_changed(commit, tree))

    def _is_changed(self, commit: str, tree: str) -> bool:
        """Whether a snapshot has more than a commit and stray files."""
        found = git(self.root, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
        unknown = {name.removesuffix("/") for name in found}  # a repository within ends in a slash
        return any(
            name not in unknown or PurePath(name).suffix in SOURCES
            for name in self._differing(commit, tree)
        )

    def _named(self, option: str, name: str) -> Revision:
        commit = self._find("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        if name.startswith("-") or not commit:
            raise UsageError(
                f"{option} {name}: {self.root} has no such commit: wanted a commit, tag or branch "
                "(a shallow clone lacks most: git fetch --unshallow)"
            )
        return Revision(commit, f"{option} {name}", commit)

    def _snapshot(self, commit: str, written: Sequence[Path]) -> str:
        """A commit of the files as they are, new ones included, ignored and ``written`` ones not;
        the commit itself if nothing differs. Index and working tree stay as they are."""
        own_root = self.root.resolve()
        places = [place.resolve() for place in written]
        left_out = [
            f":(exclude,literal){place.relative_to(own_root)}"
            for place in places
            if place != own_root and place.is_relative_to(own_root)
        ]
        index = self.root / git(self.root, "rev-parse", "--git-path", "index")
        with tempfile.TemporaryDirectory(prefix="kernelproof-index-") as folder:
            own = Path(folder) / "index"
            if index.exists():
                shutil.copy2(index, own)  # it knows which files have not changed
            variables = {"GIT_INDEX_FILE": str(own), **_NOBODY}
            try:
                # which would refuse to add what it could not give back to the last byte
                lenient = ("-c", "core.safecrlf=false")
                git(self.root, *lenient, "add", "--all", "--", ".", *left_out, **variables)
                tree = git(self.root, "write-tree", **variables)
                if tree == git(self.root, "rev-parse", f"{commit}^{{tree}}"):
                    return commit
                words = ("-p", commit, "-m", "the working tree, as kernelproof gate found it")
                return git(self.root, "commit-tree", tree, *words, **variables)
            except GitFailure as failure:
                raise UsageError(
                    f"the working tree of {self.root} cannot be read by git: {failure}"
                ) from None

    def descends(self, commit: str, revisions: Sequence[Revision]) -> bool:
        """Whether a revision is this commit, or goes back to it."""
        whole = self._find("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
        found = (self._find("merge-base", commit, each.commit) for each in revisions)
        return bool(whole) and whole in found

    def has_had(self, file: Path) -> bool:
        """Whether a file is, or once was, in the history of the current commit."""
        return bool(self._find("log", "-1", "--format=%H", "HEAD", "--", str(file)))

    def differing(self, base: Revision, head: Revision) -> list[str]:
        """Files that differ between two revisions, relative to the root."""
        return self._differing(base.tree, head.tree)

    def renamed(self, base: Revision, head: Revision) -> dict[str, str]:
        """Files that head has under another name, by that name what base calls them."""
        words = ("--find-renames", "--diff-filter=R", "--name-status", "-z", base.tree, head.tree)
        fields = git(self.root, "diff", *words).split("\0")
        return dict(zip(fields[2::3], fields[1::3], strict=False))

    def _differing(self, one: str, other: str) -> list[str]:
        found = git(self.root, "diff", "--name-only", "--no-renames", "-z", one, other)
        return [name for name in found.split("\0") if name]

    def _find(self, *words: str) -> str:
        """What git answers, or nothing where it fails."""
        try:
            return git(self.root, *words)
        except GitFailure:
            return ""

    @contextmanager
    def checked_out(self, revisions: Sequence[Revision]) -> Iterator[list[Path]]:
        """Folders with the files of each revision, gone at the end, also when the process is told
        to end. Raises UsageError where git cannot check one out."""
        with _ending_in_order():
            parent = Path(tempfile.mkdtemp(prefix=_PREFIX))
            lock = _locked(parent / _LOCK, "x")
            self._clear_left()
            folders = [parent / f"{number}" / self.root.name for number in range(len(revisions))]
            try:
                for folder, revision in zip(folders, revisions, strict=True):
                    self._check_out(folder, revision)
                yield folders
            finally:
                with _undisturbed():
                    for folder in folders:
                        # of our own two alone: git worktree prune would judge others' as well
                        self._find("worktree", "remove", "--force", "--force", str(folder))
                    shutil.rmtree(parent, ignore_errors=True)
                    lock.close()

    def _clear_left(self) -> None:
        """Remove what a gate on this repository left that was killed: nobody holds its lock."""
        left: dict[Path, list[str]] = {}
        for line in self._find("worktree", "list", "--porcelain").splitlines():
            key, _, folder = line.partition(" ")
            parent = Path(folder).parent.parent
            if key == "worktree" and parent.name.startswith(_PREFIX):
                left.setdefault(parent, []).append(folder)
        for parent, folders in left.items():
            try:
                with _locked(parent / _LOCK, "r"):
                    for folder in folders:
                        self._find("worktree", "remove", "--force", "--force", folder)
                    shutil.rmtree(parent, ignore_errors=True)
            except OSError:
                continue  # it runs, or is somebody else's

    def _check_out(self, folder: Path, revision: Revision) -> None:
        try:
            git(
                self.root,
                *("-c", "core.hooksPath=/dev/null"),  # a hook may expect a person's working tree
                *("worktree", "add", "--detach", "--force", str(folder), revision.tree),
            )
        except GitFailure as failure:
            raise UsageError(f"git cannot check out {revision.words}: {failure}") from None


_PREFIX = "kernelproof-gate-"
_LOCK = "lock"


def _locked(path: Path, mode: str) -> IO[str]:
    """A file that this process alone holds until it is closed, or the process is gone, however that
    came about. Raises OSError if another holds it, or, of mode ``r``, if there is none."""
    file = path.open(mode)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Ended(SystemExit):
    """A signal asked the process to end; the exit code says which."""


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Turn the signals that end a process into exceptions, which clear up on their way."""

    def end(number: int, _: FrameType | None) -> None:
        raise Ended(128 + number)

    before = {number: signal.signal(number, end) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Finish clearing up, however often somebody presses Ctrl-C."""
    every = (signal.SIGINT, *_ENDING)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in every}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
