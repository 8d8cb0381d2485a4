"""The statistical gates: what independent errors may add up to, and where that is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kernelproof.conformance.expectation import expect
from kernelproof.conformance.gates import GATES, PROBABLE, WORST_CASE, gauge, mean, mean_square
from kernelproof.conformance.power import trials
from kernelproof.conformance.report import sentence_of
from kernelproof.spec.accuracy import (
    Spread,
    half_ulp,
    mean_square_limit,
    probable_bound,
    signed_sum_limit,
)
from kernelproof.spec.catalogue import load_spec
from kernelproof.spec.contracts.integrity import STATISTICAL_CLAUSES
from kernelproof.spec.rounding import FORMATS, PRESETS, Precision, resolve_precision

FLASH = load_spec("attention.flash")
KERNELS = Path(__file__).parent / "kernels"
SHAPE = (2, 3, 40, 16)


def spread_of(rng, *, element=1.0, row=1.0, last=0.0, bias=0.0):
    """Amplitudes that vary by element, row or not at all."""
    return Spread(
        last=last * (0.5 + rng.random(SHAPE)),
        bias=np.full(SHAPE, bias),
        element=element * (0.5 + rng.random(SHAPE)),
        row=np.full(SHAPE, row),
    )


def errors_of(rng, spread, factor=1.0):
    """Independent errors, uniform up to the largest: each element's own, one per row, the last."""
    own = spread.element * rng.uniform(-1, 1, SHAPE)
    shared = spread.row * rng.uniform(-1, 1, (*SHAPE[:-1], 1))
    return spread.bias + factor * (own + shared + spread.last * rng.uniform(-1, 1, SHAPE))


@pytest.mark.parametrize("kind", [{"row": 0}, {"element": 0}, {"last": 1}, {"bias": 3}, {"row": 9}])
def test_errors_that_are_independent_pass_both_gates(kind):
    rng = np.random.default_rng(1)
    spread = spread_of(rng, **kind)
    bound = probable_bound(spread, 0.0)
    for _ in range(300):
        error = errors_of(rng, spread)
        assert (abs(error) <= bound).all()
        for ratio, message in (mean_square("out", error, spread), mean("out", error, spread)):
            assert ratio <= 1
            assert message == ""


def shared_errors(rng, spread):
    """Errors that each reach as many elements as the spread says, in rows as far apart as
    quadrants are."""
    rows = np.arange(SHAPE[-2]) % (SHAPE[-2] // spread.shared)
    return spread.element * rng.uniform(-1, 1, SHAPE)[..., rows, :]


@pytest.mark.parametrize("reached", [2, 4, 8])
def test_errors_that_reach_several_elements_pass_where_that_is_said(reached):
    rng = np.random.default_rng(6)
    said = replace(spread_of(rng, row=0), shared=reached, row=0.0)
    for _ in range(100):
        error = shared_errors(rng, said)
        assert mean_square("out", error, said)[0] <= 1
        assert mean("out", error, said)[0] <= 1


def test_a_limit_on_sums_grows_with_the_root_of_what_one_error_reaches():
    alone = Spread(last=np.zeros((1, 50, 8)), element=np.ones((1, 50, 8)))
    shared = replace(alone, shared=16)
    assert signed_sum_limit(shared) == pytest.approx(4 * signed_sum_limit(alone))
    expected = np.sqrt(50 * 8 / 3)
    beyond = [float(mean_square_limit(each, 1)[0]) - expected for each in (alone, shared)]
    assert beyond[1] == pytest.approx(4 * beyond[0])


def symmetric_errors(rng, scores):
    """Errors of a symmetric matrix of scores, each by its weight in its two rows: 1 40 16."""
    delta = np.triu(rng.uniform(-1, 1, scores.shape))
    delta += np.triu(delta, 1).T
    return (delta * scores).sum(-1)[None, :, None] * np.ones((1, 1, 16))


def test_errors_of_symmetric_scores_reach_two_rows_and_pass_where_that_is_said():
    rng = np.random.default_rng(8)
    weights = 0.5 + rng.random((40, 40))
    row = np.sqrt((weights**2).sum(-1))[None, :, None] * np.ones((1, 1, 16))
    said = Spread(last=np.zeros(row.shape), row=row, rows=2)
    for _ in range(100):
        error = symmetric_errors(rng, weights)
        assert mean_square("out", error, said)[0] <= 1
        assert mean("out", error, said)[0] <= 1


def test_a_limit_on_sums_grows_with_the_root_of_the_rows_that_one_error_reaches():
    alone = Spread(last=np.zeros((1, 50, 8)), row=np.ones((1, 50, 8)))
    twice = replace(alone, rows=2)
    assert signed_sum_limit(twice) == pytest.approx(np.sqrt(2) * signed_sum_limit(alone))
    expected = np.sqrt(50 * 8 / 3)
    beyond = [float(mean_square_limit(each, 1)[0]) - expected for each in (alone, twice)]
    assert beyond[1] == pytest.approx(np.sqrt(2) * beyond[0])


def test_the_gate_on_squares_keeps_what_a_spread_says_of_rows():
    once = Spread(last=np.zeros((1, 2, 4)), row=np.ones((1, 2, 4)))
    error = np.full((1, 2, 4), 3.0)
    ratios = [mean_square("out", error, replace(once, rows=rows))[0] for rows in (1, 4)]
    assert ratios[1] < 0.6 * ratios[0]


def test_errors_that_all_elements_share_exceed_what_independent_ones_may_add_up_to():
    everywhere = np.ones((1, 1, 40, 40))
    alone = Spread(last=np.zeros(everywhere.shape), element=everywhere)
    assert mean("out", everywhere, alone)[0] > 1
    assert mean_square("out", 3 * everywhere, alone)[0] > 1
    shared = replace(alone, shared=everywhere.size)
    assert mean("out", everywhere, shared)[0] <= 1
    assert mean_square("out", 3 * everywhere, shared)[0] <= 1


@pytest.mark.parametrize("kind", [{"row": 0}, {"row": 0, "last": 1}])
def test_errors_of_each_element_three_times_too_large_fail_the_mean_square_gate(kind):
    rng = np.random.default_rng(2)
    spread = spread_of(rng, **kind)
    error = errors_of(rng, spread, factor=3)
    ratio, message = mean_square("out", error, spread)
    assert ratio > 1
    assert message.startswith("the root mean square error of out")


def test_one_head_that_is_wrong_is_named():
    rng = np.random.default_rng(3)
    spread = spread_of(rng, row=0)
    error = errors_of(rng, spread)
    error[1, 2] *= 9
    ratio, message = mean_square("out", error, spread)
    assert ratio > 1
    assert "error of out[1, 2] is" in message


def test_small_errors_that_all_have_one_sign_fail_the_mean_gate():
    rng = np.random.default_rng(4)
    spread = spread_of(rng, row=0.1)
    error = errors_of(rng, spread) + 0.2
    assert mean_square("out", error, spread)[0] < 1
    ratio, message = mean("out", error, spread)
    assert ratio > 1
    assert "each with the sign of its result" in message


def test_errors_of_one_sign_count_in_full():
    flat = Spread(last=np.zeros((1, 4, 4)), bias=2.0)
    assert mean_square_limit(flat, 1) == pytest.approx(2.0 * 4)
    assert (probable_bound(flat, 0.0) == 2.0).all()


def test_independent_errors_add_up_with_the_root_of_their_number():
    def limit(rows):
        spread = Spread(last=np.zeros((1, rows, 8)), row=np.ones((1, rows, 8)))
        return float(mean_square_limit(spread, 1)[0]) / np.sqrt(rows * 8)

    # the expected value is a third of the squares; what is beside it vanishes with the rows
    assert limit(100_000) == pytest.approx(np.sqrt(1 / 3), rel=0.1)
    assert limit(10) > 3


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_half_an_ulp_is_the_largest_error_of_a_rounding(name):
    numbers = np.geomspace(1e-3, 1e3, 4001)
    dtype = {"float32": np.float32, "float16": np.float16}.get(name)
    if dtype is None:
        dtype = __import__("ml_dtypes").bfloat16
    error = abs(numbers.astype(dtype).astype(float) - numbers)
    assert (error <= half_ulp(numbers, FORMATS[name])).all()
    assert (error / half_ulp(numbers, FORMATS[name])).max() > 0.9
    assert half_ulp(np.zeros(1), FORMATS[name])[0] == FORMATS[name].eta


@pytest.mark.parametrize(
    ("point", "asked"),
    [
        ("b1.hq4.hkv2.tq17.tk33.d32/default/normal", True),
        ("b1.hq4.hkv2.tq17.tk33.d32/scale-0.3/heavy-tailed/transposed", True),
        ("b1.hq4.hkv2.tq17.tk33.d32/scale-0.0/normal", False),
        ("b1.hq4.hkv2.tq17.tk33.d32/default/plateau", False),
        ("b2.hq4.hkv2.tq17.tk33.d32/default/normal/expanded", False),
        ("b2.hq4.hkv2.tq17.tk33.d32/default/normal/repeated", False),
    ],
)
def test_the_statistical_gates_are_asked_where_errors_are_independent(point, asked):
    case = FLASH.case(f"bfloat16/{point}")
    _, [expected] = expect(FLASH, case, resolve_precision(None, "bfloat16"), "0", False)
    assert bool(expected.spreads) == asked
    got = expected.outputs["out"]
    found = gauge("out", 0, got, expected, FORMATS["bfloat16"], narrow=False)
    assert set(found.ratios) == (set(GATES) if asked else {WORST_CASE})


def test_a_spec_without_a_spread_is_judged_by_the_worst_case_alone():
    plain = replace(FLASH, accuracy=replace(FLASH.accuracy, spread=None))
    case = plain.case("bfloat16/b1.hq4.hkv2.tq17.tk33.d32/default/normal")
    _, [expected] = expect(plain, case, resolve_precision(None, "bfloat16"), "0", False)
    assert not expected.spreads


@pytest.fixture(scope="module")
def imprecise(suite_of):
    return suite_of(KERNELS / "imprecise.py")


@pytest.mark.parametrize(
    ("name", "dtype", "point", "clause"),
    [
        (
            "narrow-accumulator",
            "float16",
            "b2.hq4.hkv4.tq128.tk1024.d16/default/normal",
            "accuracy.probable",
        ),
        (
            "biased-division",
            "bfloat16",
            "b1.hq2.hkv2.tq64.tk512.d64/default/positive-value",
            "accuracy.mean",
        ),
    ],
)
def test_a_kernel_that_the_worst_case_lets_pass_fails_a_statistical_gate(
    imprecise, name, dtype, point, clause
):
    failed = imprecise(name, f"{dtype}/{point}")
    assert (failed.verdict, failed.clause) == ("fail", clause)
    assert failed.gates["worst-case"] < 1 < failed.ratio
    assert sentence_of(failed) == STATISTICAL_CLAUSES[clause]
    if clause == "accuracy.mean":
        assert failed.worst is None
        assert "the errors of out, each with the sign of its result" in failed.message
    passed = imprecise("right", f"{dtype}/{point}")
    assert passed.verdict == "pass"
    assert set(passed.gates) == set(GATES)


def test_a_result_that_may_overflow_is_not_held_to_what_is_probable():
    spec = load_spec("matmul.tiled")
    case = spec.case("float16/m300.k3000.n300/default/graded")
    _, [expected] = expect(spec, case, resolve_precision(None, "float16"), "0", False)
    with np.errstate(over="ignore"):
        got = expected.outputs["out"].astype(np.float16).astype(float)
    assert np.isinf(got).any()
    ratios = gauge("out", 0, got, expected, FORMATS["float16"], narrow=False).ratios
    assert max(ratios.values()) <= 1


def test_a_statistic_of_each_head_is_grouped_by_head():
    rng = np.random.default_rng(5)
    lse = Spread(last=np.ones((2, 3, 40)))
    error = rng.uniform(-1, 1, (2, 3, 40))
    error[1, 2] *= 9
    _, message = mean_square("lse", error, lse)
    assert "error of lse[1, 2] is" in message


def test_an_error_where_none_is_possible_fails():
    none = Spread(last=np.zeros((1, 1, 2, 3)))
    error = np.full((1, 1, 2, 3), 1e-100)
    assert mean_square("out", error, none)[0] == np.inf
    assert mean("out", error, none)[0] == np.inf


def test_an_accumulator_in_float16_exceeds_what_is_probable_before_what_is_possible():
    case = FLASH.case("float16/b2.hq4.hkv4.tq128.tk1024.d16/default/normal")
    [clause] = [c for c in FLASH.clauses if c.check == "accuracy"]
    [trial] = trials(FLASH, case, clause)
    [bug] = [m for m in FLASH.mutants if m.name == "accumulator-in-float16"]
    out = {"out": trial.rounded(trial.outputs_of(bug))["out"]}
    ratios = trial.ratios(out, PRESETS["mixed16"])
    assert ratios[WORST_CASE] < 1 < ratios[PROBABLE]


def record_of(point, **options):
    case = FLASH.case(f"bfloat16/{point}")
    [clause] = [c for c in FLASH.clauses if c.check == "accuracy"]
    [trial] = trials(FLASH, case, clause)
    return trial.record


def test_what_truncates_is_no_part_of_what_averages_out():
    exact = record_of("b1.hq2.hkv2.tq9.tk200.d32/default/normal")
    rounds = FLASH.accuracy.spread(exact, PRESETS["strict32"].rounding("bfloat16"))["out"]
    cuts = Precision(truncating=True).rounding("bfloat16")
    truncates = FLASH.accuracy.spread(exact, cuts)["out"]
    assert np.max(rounds.element) > 0 == np.max(truncates.element)
    least = 200 * cuts.accumulate * (exact.weights @ abs(exact.v))
    assert (truncates.bias > least).all()
    assert (rounds.bias < least).any()


@pytest.mark.parametrize("output", ["out", "lse"])
def test_a_declared_rounding_of_the_query_is_shared_by_its_row(output):
    exact = record_of("b1.hq2.hkv2.tq9.tk40.d32/default/large-logit")
    plain = FLASH.accuracy.spread(exact, PRESETS["strict32"].rounding("bfloat16"))[output]
    declared = Precision(scaled_query="input").rounding("bfloat16")
    cast = FLASH.accuracy.spread(exact, declared)[output]
    assert (cast.independent > 10 * plain.independent).all()


def test_weights_that_dropout_enlarged_count_enlarged():
    spec = load_spec("attention.scaled_dot_product")
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((1, 1, 30, 8)) for _ in range(3))
    rounding = PRESETS["mixed16"].rounding("bfloat16")
    whole = spec.accuracy.spread(spec.reference(q, k, v), rounding)["out"]
    every = np.ones((1, 1, 30, 30), bool)
    twice = spec.accuracy.spread(spec.reference(q, k, v, keep=(every, 0.5)), rounding)["out"]
    assert np.allclose(twice.row, 2 * whole.row, rtol=0.3)
