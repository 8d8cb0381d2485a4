"""The power of the cases: every planted bug is exposed, and told by its name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from kernelproof.conformance.diagnosis import diagnose
from kernelproof.conformance.expectation import Expected, calls, expect
from kernelproof.conformance.layout import NUMPY_DTYPES
from kernelproof.conformance.suite import select_cases
from kernelproof.conformance.verdict import Worst
from kernelproof.spec.catalogue import load_spec, spec_names
from kernelproof.spec.domain import Case
from kernelproof.spec.language import Clause, Spec, Step
from kernelproof.spec.rounding import DTYPES, resolve_precision

ADEQUATE = 10
"""How many bounds a bug must be off somewhere, so that rounding errors cannot hide it."""

CASES_TOLD = 4
"""In how many of the cases that expose it the name of a mutant is asked for: each takes time."""

SPECS = {name: load_spec(name) for name in spec_names()}
EACH_SPEC = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
EACH_DTYPE = pytest.mark.parametrize("dtype", DTYPES)
TWO_DTYPES = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


@dataclass
class Judged:
    """One step with outputs of one case: what is expected there, and what mutants return."""

    spec: Spec
    clause: Clause
    case: Case
    number: int
    steps: list[Step]
    expected: Expected
    reference: Callable[..., Any]
    inputs: dict[str, Any]

    def outputs_of(self, mutant):
        with np.errstate(all="ignore"):
            options = self.steps[self.number].options
            return mutant.model(self.reference, self.inputs, options) or {}

    def power(self, outputs):
        """The largest deviation in bounds; infinite where NaN, infinities or exact zeros differ."""
        return max([0.0, *(self._power(name, got) for name, got in outputs.items())])

    def _power(self, name, got):
        exact, bound = self.expected.outputs[name], self.expected.bounds[name]
        with np.errstate(all="ignore"):
            same = (got == exact) | (np.isnan(got) & np.isnan(exact))
            ratio = np.where(
                np.isfinite(exact) & np.isfinite(got), abs(got - exact) / bound, np.inf
            )
        return float(np.where(same, 0.0, ratio).max(initial=0.0))

    def rounded(self, name, array):
        """An output as an implementation would return it, read as the judge reads it."""
        dtype = NUMPY_DTYPES[self.spec.output(name).dtype_in(self.case.dtype)]
        with np.errstate(over="ignore"):
            return np.asarray(array).astype(dtype).astype(np.float64)

    def worst_of(self, mutant):
        """The output that the judge looks at: its name, its rounded numbers, its power."""
        outputs = self.outputs_of(mutant) or self.expected.outputs
        got = {name: self.rounded(name, array) for name, array in outputs.items()}
        name = max(got, key=lambda name: self._power(name, got[name]))
        return name, got[name], self._power(name, got[name])

    def told(self, name, got):
        """The mutant that diagnose makes out behind a wrong output."""
        worst = Worst(name, self.number, (0,), 0.0, 0.0, 0.0, 0.0, 1, got.size)
        sentence = diagnose(self.spec, self.case, self.steps, worst, got)
        return {f"{m.name}: {m.sentence}": m for m in self.spec.mutants}.get(sentence, sentence)


def judged_steps(spec, case, clause) -> Iterator[Judged]:
    """The steps of a case, in order: of a program its state is right only until the next."""
    precision = resolve_precision(None, case.dtype)
    steps, expected = expect(spec, case, precision, "0", clause.exact)
    wide = np.longdouble if case.dtype == "float64" else np.float64
    for number, (reference, inputs) in enumerate(calls(spec, case, steps, wide)):
        if expected[number].outputs:
            yield Judged(spec, clause, case, number, steps, expected[number], reference, inputs)
        else:
            with contextlib.suppress(OverflowError):
                reference(**inputs, **steps[number].options)


def smoke_steps(spec, dtype, clauses=None) -> Iterator[Judged]:
    """All judged steps of the smoke cases of these clauses, or of every clause."""
    for clause in clauses or spec.clauses:
        for case in select_cases(spec, clause, "smoke", [dtype]):
            yield from judged_steps(spec, case, clause)


def accuracy(spec):
    return [clause for clause in spec.clauses if clause.check == "accuracy"]


@EACH_SPEC
@EACH_DTYPE
def test_every_mutant_is_off_by_ten_bounds_in_some_smoke_case(spec, dtype):
    alive = {mutant.name: mutant for mutant in spec.mutants}
    for judged in smoke_steps(spec, dtype):
        for mutant in list(alive.values()):
            if judged.power(judged.outputs_of(mutant)) > ADEQUATE:
                del alive[mutant.name]
    assert list(alive) == []


@EACH_SPEC
def test_the_smoke_cases_of_every_clause_expose_some_mutant(spec):
    idle = {clause.anchor for clause in spec.clauses}
    for judged in smoke_steps(spec, "float32"):
        if judged.clause.anchor in idle:
            powers = (judged.power(judged.outputs_of(mutant)) for mutant in spec.mutants)
            if any(power > ADEQUATE for power in powers):
                idle.remove(judged.clause.anchor)
    assert idle == set()


@EACH_SPEC
@EACH_DTYPE
def test_the_exact_result_rounded_once_is_within_the_bound_of_every_smoke_case(spec, dtype):
    for judged in smoke_steps(spec, dtype):
        right = {n: judged.rounded(n, exact) for n, exact in judged.expected.outputs.items()}
        assert judged.power(right) <= 1, judged.case.id


@EACH_SPEC
def test_a_mutant_returns_outputs_of_the_reference_s_names_and_shapes(spec):
    for judged in smoke_steps(spec, "float32", accuracy(spec)):
        for mutant in spec.mutants:
            for name, array in judged.outputs_of(mutant).items():
                assert np.shape(array) == judged.expected.outputs[name].shape, mutant.name


@EACH_SPEC
def test_a_mutant_leaves_the_inputs_and_the_state_that_it_reads_as_they_were(spec):
    for judged in smoke_steps(spec, "float32", accuracy(spec)):
        for mutant in spec.mutants:
            judged.outputs_of(mutant)
        again = judged.reference(**judged.inputs, **judged.steps[judged.number].options)
        for name, exact in judged.expected.outputs.items():
            assert np.array_equal(getattr(again, name), exact, equal_nan=True), judged.case.id


@EACH_SPEC
@TWO_DTYPES
def test_a_wrong_result_is_told_by_the_mutant_that_made_it(spec, dtype):
    verdicts = {mutant.name: [] for mutant in spec.mutants}
    for judged in smoke_steps(spec, dtype):
        for mutant in spec.mutants:
            if len(verdicts[mutant.name]) < CASES_TOLD:
                name, got, power = judged.worst_of(mutant)
                if power > ADEQUATE:
                    verdicts[mutant.name].append(is_told(judged, name, got, mutant))
    missed = [name for name, right in verdicts.items() if sum(right) <= len(right) / 2]
    assert len(missed) <= len(spec.mutants) / 5, missed


def is_told(judged, name, got, mutant):
    """Whether diagnose names the mutant, or one that returns the same numbers here."""
    named = judged.told(name, got)
    if named in ("", mutant):
        return named == mutant
    return np.array_equal(judged.rounded(name, judged.outputs_of(named)[name]), got, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "point", "mutant"),
    [
        ("attention.scaled_dot_product", "b1.h2.tq17.tk33.d32/default/nan-query", "nan-hidden"),
        ("attention.scaled_dot_product", "b1.h2.tq17.tk33.d32/default/nan-key", "nan-hidden"),
        ("attention.scaled_dot_product", "b1.h2.tq17.tk33.d32/default/nan-value", "nan-hidden"),
        (
            "attention.scaled_dot_product",
            "b2.h2.tq17.tk33.d32/mask-empty-rows/normal",
            "mask-finite",
        ),
        ("matmul.tiled", "m33.k40.n35/default/nonfinite", "nonfinite-clipped"),
    ],
)
def test_an_error_of_nan_or_infinities_is_told_by_its_mutant(name, point, mutant):
    spec = SPECS[name]
    planted = {each.name: each for each in spec.mutants}[mutant]
    [judged] = judged_steps(spec, spec.case(f"float32/{point}"), *accuracy(spec))
    output, got, power = judged.worst_of(planted)
    assert power == np.inf
    assert is_told(judged, output, got, planted)


@EACH_SPEC
@TWO_DTYPES
def test_a_right_result_with_noise_of_five_bounds_resembles_no_mutant(spec, dtype):
    rng = np.random.default_rng(5)
    for judged in smoke_steps(spec, dtype, accuracy(spec)):
        for name, exact in judged.expected.outputs.items():
            noise = 5 * judged.expected.bounds[name] * rng.choice([-1.0, 1.0], exact.shape)
            assert judged.told(name, judged.rounded(name, exact + noise)) == "", judged.case.id
