"""One side of a comparison: the suite on the targets of one revision."""

from __future__ import annotations

import os
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from kernelproof.conformance.client import Place, Worker, WorkerFailure
from kernelproof.conformance.history.measurement import Series
from kernelproof.conformance.regression.revisions import Revision
from kernelproof.conformance.suite import Planned, Settings, Suite, UsageError
from kernelproof.conformance.verdict import Result
from kernelproof.spec.rounding import Precision

COMPARED = ("accuracy", "costs")
"""Checks whose numbers the gate compares; ``kernelproof test`` runs all of them."""


@dataclass(frozen=True)
class Asked:
    """What is to be compared, as the user wrote it.

    targets: files, from ``within``, the current folder's place in the repository, or modules.
    paths: folders of the repository with modules. setup: a command to run in each revision.
    options: those of ``Settings``; of ``bench``, times alone are compared.
    """

    targets: tuple[str, ...]
    within: PurePath
    paths: tuple[str, ...] = ()
    setup: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def read_targets(texts: Sequence[str], root: Path, current: Path) -> tuple[str, ...]:
    """Targets with their files relative to the current folder. Raises UsageError."""
    if not texts:
        raise UsageError(
            "wanted targets: files or modules of this repository, as in kernelproof gate "
            "kernels.py --spec attention.flash; a kernel that kernelproof has built in is compared "
            "by its file, as in kernelproof gate impls/triton/matmul/tiled.py"
        )
    read = []
    for text in dict.fromkeys(texts):
        place, colon, name = text.rpartition(":") if ":" in text else (text, "", "")
        if not is_file(place):
            read.append(text)
            continue
        path = Path(os.path.normpath(current / Path(place).expanduser()))
        if not path.is_relative_to(root):
            raise UsageError(
                f"target {text} lies outside the repository {root}: gate compares two revisions "
                "of a repository, and can read only files in it"
            )
        read.append(f"{os.path.relpath(path, current)}{colon}{name}")
    return tuple(read)


def read_paths(texts: Sequence[str], root: Path, current: Path) -> tuple[str, ...]:
    """Folders of modules, relative to the repository. Raises UsageError."""
    read = []
    for text in texts:
        path = Path(os.path.normpath(current / text))
        if not path.is_relative_to(root):
            raise UsageError(f"--path {text}: wanted a folder inside the repository {root}")
        read.append(str(path.relative_to(root)))
    return tuple(read)


def is_file(place: str) -> bool:
    """Whether a target is written as a file, not as a module."""
    return place.endswith(".py") or "/" in place


def check_options(asked: Asked, current: Path, knows: Callable[[str], bool]) -> None:
    """Raise UsageError for options that no revision could give a meaning, before one is sought.

    knows: whether a file that is not in the working tree may be in one of the revisions.
    """

    def may_exist(text: str) -> bool:
        place = place_of(text)
        return not is_file(place) or (current / place).is_file() or not knows(place)

    if there := [text for text in asked.targets if may_exist(text)]:
        Settings.read({**asked.options, "targets": there, "folder": current})


def place_of(text: str) -> str:
    """The file or module of a target, without its callable."""
    return text.rpartition(":")[0] if ":" in text else text


class Side:
    """A checked-out revision and the suite on those targets that it has.

    root: of the repository itself, with whatever is installed from it. renamed: files that had
        another name here, by the name that they have now; both are relative to the repository.
    """

    def __init__(
        self,
        name: str,
        revision: Revision,
        folder: Path,
        root: Path,
        asked: Asked,
        renamed: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.revision, self.folder = name, revision, folder
        self._asked, self._renamed, self._root = asked, renamed or {}, root
        self._read: dict[int, set[str]] = defaultdict(set)
        self._strays: dict[int, set[str]] = defaultdict(set)
        self._unknown: set[int] = set()
        self.results: list[Result] = []
        self.outside: list[Result] = []
        self.numbers: dict[str, int] = {}
        self.suite: Suite | None = None

    @property
    def current(self) -> Path:
        """The folder of this revision that corresponds to the user's current one."""
        return self.folder / self._asked.within

    def set_up(self) -> None:
        """Run the setup command in the folder. Raises SetupFailed."""
        if self._asked.setup is None:
            return
        done = subprocess.run(
            self._asked.setup,
            shell=True,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if done.returncode:
            last = "\n".join(done.stdout.strip().splitlines()[-10:])
            raise SetupFailed(
                self.name,
                f"--setup {self._asked.setup!r} ended with {done.returncode} on {self.name} "
                f"({self.revision.words})\n{last}",
            )

    def open(self) -> None:
        """Make the suite, if any target exists here. Raises UsageError."""
        self.current.mkdir(parents=True, exist_ok=True)  # git keeps no folder without files
        names = {text: self._named_here(text) for text in self._asked.targets}
        there = {text: name for text, name in names.items() if self.has(name)}
        if not there:
            return
        place = Place(self.folder, tuple(self.folder / path for path in self._asked.paths))
        options = {
            **self._asked.options,
            "targets": list(there.values()),
            "folder": self.current,
            "place": place,
        }
        self.suite = Suite(Settings.read(options))
        self.numbers = {text: number for number, text in enumerate(there)}

    def has(self, text: str) -> bool:
        """Whether a target can be here: a file is, and of a module its import tells."""
        place = place_of(text)
        return not is_file(place) or (self.current / place).is_file()

    def has_any(self, text: str) -> bool:
        """Whether a target can be here, under whatever name it had."""
        return self.has(self._named_here(text))

    def _named_here(self, text: str) -> str:
        """A target with the name that its file has here. One that the user names by its own, too,
        stays where it is."""
        place = place_of(text)
        if self.has(text):
            return text
        now = os.path.normpath(self._asked.within / place)
        if now not in self._renamed:
            return text
        old = os.path.relpath(self._renamed[now], self._asked.within)
        if any(os.path.normpath(place_of(other)) == old for other in self._asked.targets):
            return text
        return f"{old}{text.removeprefix(place)}"

    def plan(self) -> list[Planned]:
        """The checks to run; registrations and what is outside of claims are settled here."""
        if self.suite is None:
            return []
        self.results += [registered.result for registered in self.suite.registrations()]
        planned, outside = self.suite.plan()
        self.outside += [result for result in outside if result.check in COMPARED]
        return [each for each in planned if each.clause.check in COMPARED]

    @property
    def unloaded(self) -> list[str]:
        """Why targets cannot be loaded, a sentence for each."""
        found = (r for r in self.results if r.check == "registration" and r.verdict.failing)
        return [result.message for result in found]

    def check_origins(self) -> None:
        """Raise UsageError where a module came from elsewhere: what is installed would be compared
        with itself."""
        if self.suite is None:
            return
        for number, target in enumerate(self.suite.settings.targets):
            failed = "error" in self.suite.description[number]
            if target.module and not failed and not self._from_here(number, target.module):
                raise _not_from_here(f"target {target.text}", self.name)
        self.check_strays()

    def check_strays(self) -> None:
        """Raise UsageError where a file that is checked out here was imported from the user's
        repository instead, until now or by a worker that was looked into."""
        for number, target in enumerate(self.suite.settings.targets if self.suite else ()):
            for file in sorted(self._strays[number] | self._imported(number, self._root)):
                if (self.folder / file).is_file():
                    raise _not_from_here(f"target {target.text} imports {file}, which", self.name)

    def _from_here(self, number: int, module: str) -> bool:
        stem = module.replace(".", "/")
        paths = [PurePath(file) for file in self.imported(number)]
        homes = [path.parent if path.stem == "__init__" else path for path in paths]
        names = [str(home.with_name(home.name.partition(".")[0])) for home in homes if home.name]
        return any(name == stem or name.endswith(f"/{stem}") for name in names)

    def imported(self, number: int) -> frozenset[str]:
        """Files of this revision that a target has imported; none if it cannot say."""
        here = self._imported(number)
        return here | self._read[number] if here and number not in self._unknown else frozenset()

    def _imported(self, number: int, folder: Path | None = None) -> frozenset[str]:
        if self.suite is None:
            return frozenset()
        try:
            return self.suite.imported(number, folder)
        except WorkerFailure:
            return frozenset()

    def look_into(self, number: int, worker: Worker) -> None:
        """Keep what a worker of its own has imported for a target, before it is closed."""
        try:
            self.keep_read(number, worker.imported())
            self._strays[number].update(worker.imported(self._root))
        except WorkerFailure:
            self._unknown.add(number)

    def keep_read(self, number: int, files: Iterable[str]) -> None:
        """Keep files of this revision that a target has imported."""
        self._read[number].update(files)

    def precision_of(self, series: Series) -> Precision | None:
        """What the implementation of a series declares at its dtype; None where it is not here."""
        for each in self.suite.implementations if self.suite else ():
            if (each.spec.name, each.name) == (series.spec, series.implementation):
                return each.precision_at(series.case_id.partition("/")[0])
        return None

    def check(self, planned: Planned) -> None:
        """Run one check and keep its result."""
        assert self.suite is not None
        self.results.append(self.suite.check(planned))

    def close(self) -> None:
        """Stop all workers."""
        if self.suite is not None:
            self.suite.close()


class SetupFailed(Exception):
    """The command that prepares a side failed; the message has the end of what it printed."""

    def __init__(self, side: str, message: str) -> None:
        super().__init__(message)
        self.side = side


def _not_from_here(what: str, side: str) -> UsageError:
    return UsageError(
        f"{what} was not imported from the checked-out {side}, but from what is installed: name "
        "the folder that holds it with --path, as in --path src"
    )


def check_targets(sides: Sequence[Side], asked: Asked, root: Path) -> None:
    """Raise UsageError where a target is on no side."""
    for text in asked.targets:
        if any(side.has_any(text) for side in sides):
            continue
        place = place_of(text)
        path = Path(os.path.normpath(root / asked.within / place))
        inside = (each for each in path.parents if each != root and each.is_relative_to(root))
        if any((folder / ".git").exists() for folder in inside):
            raise UsageError(
                f"target {text}: {place} lies in a submodule, which git checks out for neither "
                "side: name --setup 'git submodule update --init --recursive'"
            )
        raise UsageError(
            f"target {text}: {place} does not exist, neither on base nor on head (files that git "
            "ignores are on no side; --setup COMMAND builds on both)"
        )


def check_selections(sides: Sequence[Side]) -> None:
    """Raise UsageError where no side has what the options select.

    What only one of them has is new, or missing.
    """
    errors = []
    for side in sides:
        try:
            if side.suite is not None:
                side.suite.check_selection()
        except UsageError as error:
            errors.append(error)
    if errors and len(errors) == sum(side.suite is not None for side in sides):
        raise errors[-1]


def in_turns(plans: Mapping[str, Sequence[Planned]]) -> Iterator[tuple[str, Planned]]:
    """All checks, those of equal cases one after the other: they share reference and bound."""
    turns: dict[tuple[str, str, str], list[tuple[str, Planned]]] = {}
    for name, plan in plans.items():
        for each in plan:
            key = (each.implementation.spec.name, each.clause.anchor, each.case.id)
            turns.setdefault(key, []).append((name, each))
    for turn in turns.values():
        yield from turn
