"""Running edits: each is an implementation of its own, and goes through the real suite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import kernelproof.impls
from kernelproof.conformance.edits.catalogue import load_edited
from kernelproof.conformance.edits.editing import Edit, Edited, edited
from kernelproof.conformance.suite import Planned, Settings, Suite
from kernelproof.conformance.verdict import Result

CONTROL = Edit("unedited", "the implementation as it is", ())
RIGHT_IN = "float32"
"""The dtype in which the accuracy of an edit of costs is checked; in its cost cases it is, too."""
COUNTED_IN = ("float32", "bfloat16")


def source_of(module: str) -> str:
    """The source of a module below impls, which is not imported."""
    (home, *_) = kernelproof.impls.__path__
    return Path(home, *module.split(".")).with_suffix(".py").read_text()


def run_edits(module: str, folder: Path, *, every_dtype: bool = True) -> Mapping[str, list[Result]]:
    """The smoke checks of the edits of a module, by name, and of the unedited control.

    folder: an empty one, for the edited sources. One worker runs them all. An edit of values is
    not asked again in a dtype in which it has failed. The control answers every check that some
    edit failed: a failure says nothing where the kernel as it is fails, too. every_dtype: else each
    edit is asked in one, and the next in the next. Raises ValueError for edits that cannot be
    registered.
    """
    what = load_edited(module)
    suite = _open_suite(write_target(module, folder), _backend(module))
    edits = {_registered(what, edit): edit for edit in _every(what)}
    results: dict[str, list[Result]] = {edit.name: [] for edit in edits.values()}
    dtypes = {
        edit.name: asked if every_dtype else asked[number % len(asked) :][:1]
        for number, edit in enumerate(_every(what))
        for asked in [_dtypes(what, edit, suite)]
    }
    try:
        for turns in _by_check(suite.plan()[0]):
            failed = False
            for planned in sorted(turns, key=lambda p: edits[p.implementation.name] is CONTROL):
                edit = edits[planned.implementation.name]
                known, asked = results[edit.name], dtypes[edit.name]
                if failed if edit is CONTROL else _asked(what, edit, planned, known, asked):
                    known.append(suite.check(planned))
                    failed |= known[-1].verdict.failing
    finally:
        suite.close()
    return results


def _by_check(plan: Sequence[Planned]) -> Iterable[Sequence[Planned]]:
    """The turns that implementations take at each check."""
    checks: dict[tuple[str, str], list[Planned]] = {}
    for planned in plan:
        checks.setdefault((planned.clause.anchor, planned.case.id), []).append(planned)
    return checks.values()


def _open_suite(target: Path, backend: str) -> Suite:
    limits = {"timeout": 60, "import_timeout": 60, "memory": 8, "threads": 1}
    options = {"targets": [str(target)], "backends": [backend], "tier": "smoke", "seed": "0"}
    suite = Suite(Settings.read({**options, **limits}))
    refused = [r.result.message for r in suite.registrations() if r.result.verdict.failing]
    if refused:
        suite.close()
        raise ValueError(f"the edits in {target} are refused: {'; '.join(refused)}")
    return suite


def _asked(
    what: Edited, edit: Edit, planned: Planned, known: Sequence[Result], dtypes: Sequence[str]
) -> bool:
    """Whether an edit must answer a check, after those whose results are ``known``."""
    clause, dtype = planned.clause, planned.case.dtype
    if edit.metric is None:
        wrong = any(r.dtype == dtype and r.verdict.failing for r in known)
        return clause.metric is None and dtype in dtypes and not wrong
    if clause.metric:
        return dtype in dtypes
    return clause.check == "accuracy" and dtype == RIGHT_IN and edit in what.edits


def _dtypes(what: Edited, edit: Edit, suite: Suite) -> Sequence[str]:
    """The dtypes in which an edit is asked: of values all; of costs one of each size.

    One alone for costs of a kernel that is not the implementation's own: they are checked in full
    beside that kernel.
    """
    if edit.metric is None:
        return suite.implementations[0].dtypes
    return COUNTED_IN if edit in what.edits else COUNTED_IN[:1]


def write_target(module: str, folder: Path) -> Path:
    """Write every edited source, and the target that registers them all. Raises ValueError."""
    what, imports = load_edited(module), []
    for number, edit in enumerate(_every(what)):
        for name, source in _sources(module, edit, number).items():
            (folder / f"{name}.py").write_text(source)
        imports.append(f"from edited_{number} import {what.function} as _{number}\n")
    target = folder / "target.py"
    target.write_text("".join(imports))
    return target


def _sources(module: str, edit: Edit, number: int) -> dict[str, str]:
    """The modules of one edited implementation, which has a name of its own."""
    what = load_edited(module)
    renamed = (f'name="{what.name}"', f'name="{_registered(what, edit)}"')
    if edit not in what.of_kernels:
        own = Edit(edit.name, edit.sentence, (*edit.replacements, renamed))
        return {f"edited_{number}": edited(source_of(module), own)}
    imported = (f"from kernelproof.impls.{what.kernels} import", f"from kernels_{number} import")
    return {
        f"kernels_{number}": edited(source_of(what.kernels), edit),
        f"edited_{number}": edited(
            source_of(module), Edit(edit.name, edit.sentence, (renamed, imported))
        ),
    }


def _registered(what: Edited, edit: Edit) -> str:
    """What an edited implementation is called: no two may have one name."""
    return f"{what.name}+{edit.name}"


def _every(what: Edited) -> Iterator[Edit]:
    yield CONTROL
    yield from what.edits
    yield from what.of_kernels


def _backend(module: str) -> str:
    return "interpret" if module.startswith("triton.") else "cpu"
