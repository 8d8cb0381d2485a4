"""Fuzzing: random cases of a spec's whole domain, judged, and shrunk where one fails.

Hypothesis draws sizes, options, families, layouts and programs; what fails is drawn again, smaller,
as long as something fails. The case that is left has an id, as any other has.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, assume, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, Unsatisfiable

from kernelproof.conformance.capabilities import Capabilities
from kernelproof.conformance.verdict import Result, Verdict
from kernelproof.spec.domain import Case, Domain, FreeText, make_case
from kernelproof.spec.language import Clause, Operation, Program, Spec

LONGEST = 30
"""Operations of a random program, macros counted once."""
_NUMBERS = st.integers(0, 3)  # few, so that operations meet
_LENGTHS = st.integers(0, 40)


def chosen_from(case: Case, clauses: Sequence[Clause]) -> list[Clause]:
    """All of these clauses but properties, of which one, another for each case, is enough."""
    properties = [clause for clause in clauses if clause.relation]
    turn = zlib.crc32(case.id.encode())
    one = properties[turn % len(properties)] if properties else None
    return [clause for clause in clauses if clause.relation is None or clause is one]


@dataclass
class Found:
    """What random cases showed.

    judged, unmeasured: how many were compared with the reference, and how many could not be.
    result: that of the smallest case that was found to fail, or else of the accuracy that came
        nearest to its bound.
    """

    judged: int = 0
    unmeasured: int = 0
    result: Result | None = None

    @property
    def words(self) -> str:
        """How many cases there were."""
        if not (self.judged or self.unmeasured):
            return "no random case is within what is claimed"
        more = f", {self.unmeasured:,} more unmeasured" if self.unmeasured else ""
        return f"{self.judged:,} random cases{more}"

    def count(self, result: Result) -> None:
        """Note a result that does not fail."""
        self.judged += result.check == "accuracy" and result.verdict is Verdict.PASS
        self.unmeasured += result.check == "accuracy" and result.verdict is Verdict.UNMEASURED
        if result.check in ("accuracy", "gradients") and result.verdict is Verdict.PASS:
            before = -1.0 if self.result is None else self.result.ratio or 0.0
            self.result = result if (result.ratio or 0.0) > before else self.result


def fuzz(
    implementation: Capabilities,
    dtypes: Sequence[str],
    examples: int,
    run_seed: str,
    check: Callable[[Case], Iterator[Result]],
) -> Found:
    """Judge random cases, and shrink one that fails.

    check: results of a case, clause by clause. A call that hangs ends the search: the next ones
    might not be made.
    """
    found, failing, hung = Found(), None, ""
    accuracy = next(c for c in implementation.spec.clauses if c.check == "accuracy")

    @seed(zlib.crc32(f"{run_seed} {implementation.spec.name} {implementation.name}".encode()))
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
    )
    @given(cases(implementation, dtypes))
    def attempt(case: Case) -> None:
        nonlocal failing, hung
        assume(not implementation.unsupported(case, accuracy))
        if hung and case.id != hung:
            return
        for result in () if hung else _results(check, case):
            if result.verdict.failing:
                failing, hung = result, case.id if result.verdict is Verdict.TIMEOUT else ""
                raise _Failed
            if failing is None:
                found.count(result)
        if hung:
            raise _Failed

    try:
        attempt()
    except _Failed:
        found.result = failing
    except Unsatisfiable:
        pass
    except Flaky:
        if failing is None:
            raise
        message = f"failed once, and passed when it was repeated: {failing.message}"
        found.result = replace(failing, message=message)
    return found


def _results(check: Callable[[Case], Iterator[Result]], case: Case) -> Iterator[Result]:
    """The results of a case; an error of the suite's own names it."""
    try:
        yield from check(case)
    except Exception as error:
        error.add_note(f"in the random case {case.id}")
        raise


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
            draw(st.sampled_from(domain.layouts)),
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
            assert callable(values)
            found[name] = programs(spec.call) | _telling(values)
        elif callable(values):
            found[name] = _texts(values)
        else:
            found[name] = st.none() | st.sampled_from(list(values))
    return found


def _texts(values: FreeText) -> st.SearchStrategy[str]:
    """Texts that the domain draws."""
    return st.integers(0, 2**32 - 1).map(np.random.default_rng).map(values)


def _telling(values: FreeText) -> st.SearchStrategy[str]:
    """Programs that the domain draws, most of whose operations are granted, without some of their
    steps; the fewest that show a bug are left of one that fails."""

    def thinned(text: str) -> st.SearchStrategy[str]:
        words = text.split(".")
        kept = st.lists(st.integers(0, 19), min_size=len(words), max_size=len(words))
        return kept.map(
            lambda keep: ".".join(w for w, k in zip(words, keep, strict=True) if k) or words[0]
        )

    return _texts(values).flatmap(thinned)


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
        return f"{name}{length if length != 1 else ''}" + "".join(f"@{n}" for n in numbers)

    return spell
