"""What the tests share: a suite on some targets, and the command line as a user runs it."""

from __future__ import annotations

import os

# Triton reads it when it is first imported, and torch's counters import Triton
os.environ.setdefault("TRITON_INTERPRET", "1")
# NumPy reads it likewise; threads of several processes of tests would wait for each other's cores
os.environ.setdefault("OMP_NUM_THREADS", "1")

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kernelproof.conformance.suite import Planned, Settings, Suite
from kernelproof.conformance.verdict import Result

KERNELS = Path(__file__).parent / "kernels"
ATTENTION = "float32/b1.h2.tq7.tk9.d32/default/normal"
COMMAND = (sys.executable, "-P", "-c", "from kernelproof.conformance.cli import main; main()")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under ``--dist loadgroup`` a module stays in one process, since its tests share what they
    make; of a long one, the tests of equal parameters that it names in ``SHARED_BY``."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            parameters = getattr(getattr(item, "callspec", None), "params", {})
            names = getattr(item.getparent(pytest.Module).obj, "SHARED_BY", ())
            words = [item.path.stem, *(parameters[name] for name in names if name in parameters)]
            item.add_marker(pytest.mark.xdist_group("/".join(words)))


@pytest.fixture(scope="session")
def kernels() -> Path:
    """The folder of the targets that tests share."""
    return KERNELS


@dataclass(frozen=True)
class Checker:
    """A suite whose checks are asked for by name, one at a time."""

    suite: Suite

    def __call__(
        self, name: str, case: str = ATTENTION, clause: str | None = None, backend: str = "cpu"
    ) -> Result:
        """The result of one implementation on one case, citing the first clause or another."""
        self.suite.read()
        implementation = next(i for i in self.suite.implementations if i.name == name)
        clauses = {c.anchor: c for c in implementation.spec.clauses}
        cited = clauses[clause] if clause else implementation.spec.clauses[0]
        point = implementation.spec.case(case)
        return self.suite.check(Planned(implementation, backend, point, cited))

    def problems(self) -> dict[str, Result]:
        """The registration check of every target, by the name of its file."""
        return {Path(r.id).name: r.result for r in self.suite.registrations()}


@pytest.fixture(scope="module")
def suite_of() -> Iterator[Callable[..., Checker]]:
    """Make a suite on some targets; all of a module's are closed at its end."""
    made: list[Suite] = []

    def make(*targets: Path | str, **options: Any) -> Checker:
        defaults = {"tier": "smoke", "seed": "0", "timeout": 30, "import_timeout": 30, "memory": 8}
        texts = [str(target) for target in targets]
        made.append(Suite(Settings.read({"targets": texts, **defaults, **options})))
        return Checker(made[-1])

    yield make
    for suite in made:
        suite.close()


@dataclass(frozen=True)
class Ran:
    """A finished command: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams, on one line, so that a wrapped sentence can be found."""
        return " ".join((self.out + " " + self.err).split())


def clean_environment(**variables: str) -> dict[str, str]:
    """The environment without what steers kernelproof or pytest."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("KERNELPROOF", "PYTEST"))}
    return {**kept, "COLUMNS": "200", **variables}


@pytest.fixture(scope="session")
def run_python() -> Callable[..., Ran]:
    """Run ``python ARGUMENTS`` in a folder, without the path of the tests."""

    def run(*arguments: Any, cwd: Path, **variables: str) -> Ran:
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            env=clean_environment(**variables),
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=300,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def run_cli(run_python: Callable[..., Ran]) -> Callable[..., Ran]:
    """Run ``kernelproof ARGUMENTS`` in a folder."""

    def run(*arguments: Any, cwd: Path, **variables: str) -> Ran:
        return run_python(*COMMAND[1:], *arguments, cwd=cwd, **variables)

    return run
