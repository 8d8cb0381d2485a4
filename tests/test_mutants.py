"""Planted bugs: what they return, and that a wrong result is told by the one that made it."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from kernelproof.conformance.diagnosis import THOROUGH, Diagnoses, diagnose
from kernelproof.conformance.gates import WORST_CASE
from kernelproof.conformance.power import ADEQUATE, APART, smoke_trials, trials
from kernelproof.conformance.verdict import Worst
from kernelproof.spec.catalogue import load_spec, spec_names, with_derivatives
from kernelproof.spec.contracts.paged_manager.pages import Pages
from kernelproof.spec.rounding import DTYPES, resolve_precision

CASES_TOLD = 2
"""In how many of the cases that expose it the name of a mutant is asked for: each takes time."""

SPECS = {name: load_spec(name) for name in with_derivatives(spec_names())}
EACH_SPEC = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
EACH_DTYPE = pytest.mark.parametrize("dtype", DTYPES)
TWO_DTYPES = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


def power(trial, outputs, mutant=None):
    """The largest deviation in worst-case bounds."""
    precision = trial.declared(mutant) if mutant else resolve_precision(None, trial.case.dtype)
    return trial.ratios(outputs, precision).get(WORST_CASE, 0.0)


def worst_of(trial, mutant):
    """The output that the judge looks at: its name, its rounded numbers, its power."""
    got = trial.rounded(trial.outputs_of(mutant) or right(trial).outputs)
    powers = {name: power(trial, {name: array}, mutant) for name, array in got.items()}
    name = max(powers, key=powers.get)
    return name, got[name], powers[name]


def right(trial):
    return trial.expected(resolve_precision(None, trial.case.dtype))


def told(trial, name, got):
    """The mutant that diagnose makes out behind a wrong output."""
    with np.errstate(invalid="ignore"):  # an lse of -inf that is right
        error = float(np.nan_to_num(abs(got - right(trial).outputs[name])).max(initial=0.0))
    worst = Worst(name, trial.number, (0,), 0.0, 0.0, error, 0.0, 1, got.size)
    among = trial.spec.mutants
    sentence = diagnose(trial.spec, trial.case, trial.steps, worst, got, among)
    return {f"{m.name}: {m.sentence}": m for m in trial.spec.mutants}.get(sentence, sentence)


def accuracy(spec):
    return [clause for clause in spec.clauses if clause.check == "accuracy"]


@EACH_SPEC
def test_the_smoke_cases_of_every_clause_expose_some_mutant(spec):
    judged = [clause for clause in spec.clauses if clause.check not in APART]
    assert [clause.anchor for clause in judged if not exposes_some(spec, clause)] == []


def exposes_some(spec, clause):
    dtype = clause.dtypes[0] if clause.dtypes else "float32"
    return any(
        power(trial, trial.rounded(trial.outputs_of(mutant))) > ADEQUATE
        for trial in smoke_trials(spec, dtype, [clause])
        for mutant in spec.mutants
    )


@EACH_SPEC
@EACH_DTYPE
def test_the_exact_result_rounded_once_is_within_the_bound_of_every_smoke_case(spec, dtype):
    for trial in smoke_trials(spec, dtype):
        precision = resolve_precision(None, dtype)
        rounded = trial.rounded(trial.expected(precision).outputs)
        assert max(trial.ratios(rounded, precision).values(), default=0) <= 1, trial.case.id


@EACH_SPEC
def test_a_mutant_returns_outputs_of_the_reference_s_names_and_shapes(spec):
    for trial in smoke_trials(spec, "float32", accuracy(spec)):
        for mutant in spec.mutants:
            for name, array in trial.outputs_of(mutant).items():
                assert np.shape(array) == right(trial).outputs[name].shape, mutant.name


@EACH_SPEC
def test_a_mutant_leaves_the_inputs_and_the_state_that_it_reads_as_they_were(spec):
    for trial in smoke_trials(spec, "float32", accuracy(spec)):
        for mutant in spec.mutants:
            trial.outputs_of(mutant)
        again = trial.reference(**trial.inputs, **trial.steps[trial.number].options)
        for name, exact in right(trial).outputs.items():
            assert np.array_equal(getattr(again, name), exact, equal_nan=True), trial.case.id


@EACH_SPEC
@TWO_DTYPES
def test_a_wrong_result_is_told_by_the_mutant_that_made_it(spec, dtype):
    verdicts = {mutant.name: [] for mutant in spec.mutants if dtype in mutant.dtypes}
    for trial in smoke_trials(spec, dtype):
        for mutant in spec.mutants:
            if len(verdicts.get(mutant.name, CASES_TOLD * " ")) < CASES_TOLD:
                name, got, power = worst_of(trial, mutant)
                if power > ADEQUATE:
                    verdicts[mutant.name].append(is_told(trial, name, got, mutant))
    missed = [name for name, right in verdicts.items() if sum(right) <= len(right) / 2]
    assert len(missed) <= len(verdicts) / 5, missed


def is_told(trial, name, got, mutant):
    """Whether diagnose names the mutant, or one that returns the same numbers here."""
    named = told(trial, name, got)
    if named in ("", mutant):
        return named == mutant
    return np.array_equal(trial.rounded(trial.outputs_of(named))[name], got, equal_nan=True)


def test_the_pages_that_planted_bugs_keep_wrongly_are_otherwise_right():
    for trial in smoke_trials(SPECS["cache.paged_manager"], "float32"):
        options = trial.steps[trial.number].options
        if not trial.expected(resolve_precision(None, "float32")).refusal:
            kept = Pages.after(trial.reference.__self__).attend(trial.inputs["q"], **options)
            for name, exact in right(trial).outputs.items():
                assert np.array_equal(getattr(kept, name), exact, equal_nan=True), trial.case.id


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
    [trial] = trials(spec, spec.case(f"float32/{point}"), *accuracy(spec))
    output, got, power = worst_of(trial, planted)
    assert power == np.inf
    assert is_told(trial, output, got, planted)


@EACH_SPEC
@TWO_DTYPES
def test_a_right_result_with_noise_of_five_bounds_resembles_no_mutant(spec, dtype):
    rng = np.random.default_rng(5)
    for trial in islice(smoke_trials(spec, dtype, accuracy(spec)), 6):
        expected = right(trial)
        for name, exact in expected.outputs.items():
            noise = 5 * expected.bounds[name] * rng.choice([-1.0, 1.0], exact.shape)
            noisy = trial.rounded({name: exact + noise})[name]
            assert told(trial, name, noisy) == "", trial.case.id


def test_a_bug_that_was_named_before_is_named_after_many_other_failures():
    spec = SPECS["matmul.tiled"]
    [clause] = accuracy(spec)
    case = spec.case("float32/m33.k129.n65/default/normal")
    [trial] = trials(spec, case, clause)
    planted = {mutant.name: mutant for mutant in spec.mutants}
    diagnoses, noise = Diagnoses(), np.random.default_rng(0).normal(0, 1000, (33, 65))

    def name(got):
        worst = Worst("out", 0, (0,), 0.0, 0.0, float(abs(got).max()), 0.0, 1, got.size)
        return diagnoses.name(spec, case, trial.steps, worst, got)

    wrong = trial.rounded(trial.outputs_of(planted["last-product-dropped"]))["out"]
    other = trial.rounded(trial.outputs_of(planted["scaled-1-percent"]))["out"]
    assert name(wrong).startswith("last-product-dropped")
    for _ in range(THOROUGH):
        assert name(noise) == ""
    assert name(wrong).startswith("last-product-dropped")
    assert name(other) == ""  # not compared any more
