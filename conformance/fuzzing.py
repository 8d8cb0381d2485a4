"""Fuzzing: random cases of a spec's whole domain, judged, and shrunk where one fails.

Hypothesis draws sizes, options, families, layouts and programs; what fails is drawn again, smaller,
as long as something fails. The case that is left has an id, as any other has.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, assume, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from kernelproof.conformance.capabilities import Capabilities
from kernelproof.conformance.verdict import Result
from kernelproof.spec.domain import LAYOUTS, Case, Domain, make_case
from kernelproof.spec.language import Clause, Operation, Program, Spec

LONGEST = 30
"""Operations of a random program, macros counted once."""
_NUMBERS = st.integers(0, 3)  # few, so that operations meet
_LENGTHS = st.integers(1, 40)


def chosen_from(case: Case, clauses: Sequence[Clause]) -> list[Clause]:
    """All of these clauses but properties, of which one, another for each case, is enough."""
    properties = [clause for clause in clauses if clause.relation]
    turn = zlib.crc32(case.id.encode())
    one = properties[turn % len(properties)] if properties else None
    return [clause for clause in clauses if clause.relation is None or clause is one]


def fuzz(
    implementation: Capabilities,
    dtypes: Sequence[str],
    examples: int,
    run_seed: str,
    check: Callable[[Case], Iterator[Result]],
) -> tuple[int, Result | None]:
    """How many cases were judged, and the result of the smallest that was found to fail, or else of
    that with the largest ratio.

    check: results of a case, clause by clause.
    """
    judged = 0
    worst: Result | None = None
    failing: Result | None = None
    accuracy = next(c for c in implementation.spec.clauses if c.check == "accuracy")

    @seed(zlib.crc32(f"{run_seed} {implementation.spec.name} {implementation.name}".encode()))
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
    )
    @given(cases(implementation, dtypes))
    def attempt(case: Case) -> None:
        nonlocal judged, worst, failing
        assume(not implementation.unsupported(case, accuracy))
        judged += failing is None
        for result in check(case):
            if result.verdict.failing:
                failing = result
                raise _Failed
            if worst is None or (result.ratio or 0.0) > (worst.ratio or 0.0):
                worst = result

    try:
        attempt()
    except (_Failed, Flaky):
        return judged, failing
    return judged, worst


class _Failed(Exception):
    """A case failed: what Hypothesis shrinks."""


def cases(implementation: Capabilities, dtypes: Sequence[str]) -> st.SearchStrategy[Case]:
    """Cases of the domain of a spec, within the limits that an implementation declares."""
    spec, domain = implementation.spec, implementation.spec.domain
    limits = implementation.limits
    sizes = {axis: _sizes(domain, axis, limits.get(axis)) for axis in spec.call.axes}
    options = _options(spec)
    families = [name for name, family in domain.families.items() if not family.special]

    @st.composite
    def drawn(draw: st.DrawFn) -> Case:
        axes = {axis: draw(each) for axis, each in sizes.items()}
        for axis, source in spec.call.axis_defaults.items():
            if draw(st.booleans()):
                axes[axis] = axes[source]
        words = {name: draw(each) for name, each in options.items()}
        case = make_case(
            draw(st.sampled_from(list(dtypes))),
            axes,
            {name: word for name, word in words.items() if word is not None},
            draw(st.sampled_from(families)),
            draw(st.sampled_from(list(LAYOUTS))),
            spec.call.axis_defaults,
        )
        try:
            domain.check(case)
        except ValueError:
            assume(False)
        return case

    return drawn()


def _sizes(domain: Domain, axis: str, limit: Any) -> st.SearchStrategy[int]:
    """Small ones as often as all; of a limit only what it allows."""
    low, high = domain.sizes[axis]
    allowed = range(low, high + 1) if limit is None else limit
    if isinstance(limit, Mapping):
        allowed = range(limit["start"], limit["stop"], limit["step"])
    known = [int(n) for n in allowed if low <= n <= high] or list(allowed)
    small, all_of = min(len(known), 16) - 1, len(known) - 1
    return (st.integers(0, small) | st.integers(0, all_of)).map(known.__getitem__)


def _options(spec: Spec) -> dict[str, st.SearchStrategy[Any]]:
    found: dict[str, st.SearchStrategy[Any]] = {}
    for name, values in spec.domain.options.items():
        if isinstance(spec.call, Program) and name == "steps":
            found[name] = programs(spec.call)
        elif callable(values):
            found[name] = st.integers(0, 2**32 - 1).map(np.random.default_rng).map(values)
        else:
            found[name] = st.none() | st.sampled_from(list(values))
    return found


def programs(program: Program) -> st.SearchStrategy[str]:
    """Texts of steps: any operations in any order, most of which some object may refuse."""
    words = [_words(name, each, program) for name, each in program.operations.items()]
    for name, parts in program.macros.items():
        first = program.operations[parts[0]]
        words.append(st.tuples(st.integers(1, 4), _numbers(first)).map(_spelled(name)))
    return st.lists(st.one_of(words), min_size=1, max_size=LONGEST).map(".".join)


def _words(name: str, operation: Operation, program: Program) -> st.SearchStrategy[str]:
    streamed = any(program.stream in t.axes for t in operation.inputs) and not operation.many
    lengths = _LENGTHS if streamed else st.just(1)
    return st.tuples(lengths, _numbers(operation)).map(_spelled(name))


def _numbers(operation: Operation) -> st.SearchStrategy[list[int]]:
    least = len(operation.options)
    return st.lists(_NUMBERS, min_size=least, max_size=least + 2 * operation.many)


def _spelled(name: str) -> Callable[[tuple[int, list[int]]], str]:
    def spell(drawn: tuple[int, list[int]]) -> str:
        length, numbers = drawn
        return f"{name}{length if length > 1 else ''}" + "".join(f"@{n}" for n in numbers)

    return spell
