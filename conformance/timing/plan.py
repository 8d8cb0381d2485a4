"""What is timed: of each implementation, the cases that its spec names, in one dtype."""

from __future__ import annotations

from collections.abc import Iterator

from kernelproof.conformance.capabilities import Capabilities
from kernelproof.conformance.suite import Planned, Suite, select_cases
from kernelproof.spec.domain import Case
from kernelproof.spec.language import Clause, Spec

TIMED_ON = ("cpu", "cuda")
"""Backends on which a time is one of the kernel, not of an interpreter."""

USUAL: dict[str, tuple[str, ...]] = {
    "cpu": ("float32", "float64", "bfloat16", "float16"),
    "cuda": ("bfloat16", "float16", "float32", "float64"),
}
"""Dtypes by backend, the first of them that an implementation takes is timed."""

PERFORMANCE = Clause(
    "performance", "A call takes no longer than it did in the commit before.", "performance"
)


def performance_plan(suite: Suite) -> list[Planned]:
    """The calls to time: without ``--case`` and ``--dtype`` a few telling ones.

    Of a spec that names none, or none within an implementation's limits, that of its accuracy
    cases which has the most work.
    """
    return [
        Planned(implementation, backend, case, PERFORMANCE)
        for implementation, backend in suite.selected()
        if backend in TIMED_ON
        for case in _cases(suite, implementation, backend)
    ]


def accuracy_clause(spec: Spec) -> Clause:
    """The clause by which every element is right."""
    return next(clause for clause in spec.clauses if clause.check == "accuracy")


def _cases(suite: Suite, implementation: Capabilities, backend: str) -> Iterator[Case]:
    spec, settings = implementation.spec, suite.settings
    if settings.cases:
        fitting = [spec.case(text) for text in settings.cases if spec in suite.parse_case(text)]
        yield from (case for case in fitting if _taken(implementation, case))
        return
    usual = [dtype for dtype in USUAL[backend] if dtype in implementation.dtypes]
    for dtype in settings.dtypes or usual[:1]:
        named = [spec.case(f"{dtype}/{point}") for point in spec.domain.timed]
        named = [case for case in named if _taken(implementation, case)]
        yield from named or _most_work(implementation, dtype)


def _taken(implementation: Capabilities, case: Case) -> bool:
    clause = accuracy_clause(implementation.spec)
    return case.layout != "far" and not implementation.unsupported(case, clause)


def _most_work(implementation: Capabilities, dtype: str) -> list[Case]:
    spec = implementation.spec
    every = select_cases(spec, accuracy_clause(spec), "core", [dtype])
    cases = [c for c in every if c.layout == "contiguous" and _taken(implementation, c)]
    return [max(cases, key=lambda case: _work(spec, case))] if cases else []


def _work(spec: Spec, case: Case) -> tuple[bool, bool, int]:
    """For comparison: cases that no option makes special come first, then families like real
    numbers, then the number of operations, or of bytes where there are none."""
    if case.options and spec.option_names():
        return False, False, 0  # formulas may want options as drawn
    sizes = spec.sizes(case)
    most = spec.costs.useful(sizes) or spec.costs.compulsory(sizes)
    return True, spec.domain.families[case.family].generic, most
