"""What the tests of the gate share: small repositories, findings, and a forged stopwatch."""

from __future__ import annotations

import datetime
import math
import random
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kernelproof.conformance.history.measurement import Series
from kernelproof.conformance.regression.outcome import Outcome, Policy, severity
from kernelproof.conformance.regression.revisions import Revision
from kernelproof.conformance.regression.sides import Side
from kernelproof.conformance.regression.timed import Reading
from kernelproof.conformance.regression.verdicts import Finding, Word
from kernelproof.conformance.suite import Planned
from kernelproof.conformance.verdict import Result, Verdict

TODAY = datetime.date(2026, 11, 22)
CASE = "float32/m100.k130.n70/default/normal"
"""On which costs are counted."""
JUDGED = "float32/m64.k64.n64/default/normal"
"""On which accuracy is judged."""


@dataclass(frozen=True)
class Repo:
    """A git repository in a folder."""

    folder: Path

    def git(self, *words: str) -> str:
        """Run git in it."""
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "gc.auto=0")
        command = ["git", "-C", str(self.folder), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def write(self, **files: str) -> None:
        """Write files; ``kernels`` is kernels.py."""
        for name, text in files.items():
            (self.folder / f"{name}.py").write_text(text)

    def commit(self, **files: str) -> str:
        """Write files and commit all that there is; the commit."""
        self.write(**files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", "a change")
        return self.git("rev-parse", "HEAD")


def make_repo(folder: Path) -> Repo:
    """An empty repository with the branch main."""
    folder.mkdir(exist_ok=True)
    repo = Repo(folder)
    repo.git("init", "--quiet", "--initial-branch=main")
    return repo


def products(**kernels: str) -> str:
    """A file of products, by name the expression that each returns."""
    text = "import torch\nfrom kernelproof import implementation\n"
    for name, expression in kernels.items():
        text += f"""

@implementation("matmul.tiled", name="{name}")
def {name}(a, b):
    return {expression}
"""
    return text


@dataclass
class Forged:
    """A stopwatch that measures nothing: per implementation the factor of head over base, the
    noise of a process, and the error ratio on head. A factor of None stands for wrong outputs."""

    factors: Mapping[str, float | None] = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    case: str = CASE
    seed: int = 1

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def plan(self, side: Side) -> list[Planned]:
        """One case of each implementation."""
        if side.suite is None:
            return []
        return [
            Planned(each, backend, each.spec.case(self.case), each.spec.clauses[0])
            for each, backend in side.suite.selected()
        ]

    def time(self, side: Side, planned: Sequence[Planned]) -> list[Reading]:
        """About a millisecond on base."""
        names = [each.implementation.name for each in planned]
        self.asked.append((side.name, tuple(names)))
        return [self._reading(side.name, each) for each in planned]

    def _reading(self, side: str, planned: Planned) -> Reading:
        name = planned.implementation.name
        factor = self.factors.get(name, 1.0) if side == "head" else 1.0
        if factor is None:
            return Reading(None, result(implementation=name, verdict=Verdict.FAIL, message="wrong"))
        noise = self._random.gauss(0.0, self.noise.get(name, 0.002))
        error = self.errors.get(name, 0.2) if side == "head" else 0.2
        right = result(implementation=name, ratio=error)
        return Reading(1e-3 * factor * math.exp(noise), right, 2.0)


def series(metric: str = "traffic", **parts: str) -> Series:
    """A series of one case of matmul.tiled/mine, on cpu."""
    usual = {
        "spec": "matmul.tiled",
        "implementation": "mine",
        "backend": "cpu",
        "case_id": CASE,
        "metric": metric,
        "device": "a device" if metric in ("time", "error") else "any",
        "toolchain": "torch 2",
    }
    return Series(**{**usual, **parts})


def result(**fields: Any) -> Result:
    """A result of accuracy that passes."""
    usual: dict[str, Any] = {
        "check": "accuracy",
        "spec": "matmul.tiled",
        "implementation": "mine",
        "backend": "cpu",
        "dtype": "float32",
        "case": CASE,
        "clause": "matmul.accuracy",
        "verdict": Verdict.PASS,
    }
    return Result(**{**usual, **fields})


def finding(word: Word, metric: str = "traffic", **fields: Any) -> Finding:
    """A finding on the series of that metric; ``case_id`` and the like change the series."""
    parts = {n: fields.pop(n) for n in list(fields) if n in Series.__dataclass_fields__}
    return Finding(series(metric, **parts), word, **fields)


def outcome(*findings: Finding, policy: Policy | None = None, **fields: Any) -> Outcome:
    """A run that came to these findings."""
    made = Outcome(
        base=Revision("b" * 40, "where it left main", "b" * 40),
        head=Revision("a" * 40, "the working tree", "c" * 40, dirty=True),
        policy=policy or Policy(),
        findings=tuple(sorted(findings, key=severity)),
        failing=(),
        base_failing=(),
        problems=(),
        notes=(),
        measurements={"base": [], "head": []},
        processes=0,
        started=datetime.datetime(2026, 11, 22, 9, tzinfo=datetime.UTC),
        seed="0",
    )
    return replace(made, **fields)
