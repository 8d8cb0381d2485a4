"""The statistical gates: what independent errors may add up to, and where that is asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kernelproof.conformance.expectation import expect
from kernelproof.conformance.gates import MEAN_SQUARE, PROBABLE, WORST_CASE, gauge, mean_square
from kernelproof.conformance.power import trials
from kernelproof.spec.accuracy import Spread, half_ulp, mean_square_limit, probable_bound
from kernelproof.spec.catalogue import load_spec
from kernelproof.spec.rounding import FORMATS, PRESETS, resolve_precision

FLASH = load_spec("attention.flash")
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
        ratio, message = mean_square("out", error, 0 * error, np.full(SHAPE, np.inf), spread)
        assert ratio == 0.0  # nothing has a finite bound
        ratio, message = mean_square("out", error, 0 * error, np.full(SHAPE, 99.0), spread)
        assert ratio <= 1 and not message


@pytest.mark.parametrize("kind", [{"row": 0}, {"row": 0, "last": 1}])
def test_errors_of_each_element_three_times_too_large_fail_the_mean_square_gate(kind):
    rng = np.random.default_rng(2)
    spread = spread_of(rng, **kind)
    error = errors_of(rng, spread, factor=3)
    ratio, message = mean_square("out", error, 0 * error, np.full(SHAPE, 99.0), spread)
    assert ratio > 1
    assert message.startswith("the root mean square error of out")


def test_one_head_that_is_wrong_is_named():
    rng = np.random.default_rng(3)
    spread = spread_of(rng, row=0)
    error = errors_of(rng, spread)
    error[1, 2] *= 9
    ratio, message = mean_square("out", error, 0 * error, np.full(SHAPE, 99.0), spread)
    assert ratio > 1
    assert "error of out[1, 2] is" in message


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
    assert set(found.ratios) == ({WORST_CASE, PROBABLE, MEAN_SQUARE} if asked else {WORST_CASE})


def test_a_spec_without_a_spread_is_judged_by_the_worst_case_alone():
    plain = replace(FLASH, accuracy=replace(FLASH.accuracy, spread=None))
    case = plain.case("bfloat16/b1.hq4.hkv2.tq17.tk33.d32/default/normal")
    _, [expected] = expect(plain, case, resolve_precision(None, "bfloat16"), "0", False)
    assert not expected.spreads


def test_an_accumulator_in_float16_exceeds_what_is_probable_before_what_is_possible():
    case = FLASH.case("float16/b2.hq4.hkv4.tq128.tk1024.d16/default/normal")
    [clause] = [c for c in FLASH.clauses if c.check == "accuracy"]
    [trial] = trials(FLASH, case, clause)
    [bug] = [m for m in FLASH.mutants if m.name == "accumulator-in-float16"]
    out = {"out": trial.rounded(trial.outputs_of(bug))["out"]}
    ratios = trial.ratios(out, PRESETS["mixed16"])
    assert ratios[WORST_CASE] < 1 < ratios[PROBABLE]
