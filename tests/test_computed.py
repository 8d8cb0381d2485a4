"""Errors that compose: bounds hold of what float32 computes, and zeros stay exact."""

from __future__ import annotations

import numpy as np
import pytest

from kernelproof.spec.computed import (
    Computed,
    cast,
    known,
    minus,
    output_bound,
    plus,
    product,
    times,
    total,
)
from kernelproof.spec.rounding import FORMATS, resolve_precision

FLOAT32 = resolve_precision(None, "float32").rounding("float32")


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def inexact(x, seed=9):
    """Numbers that are off, and what an implementation has in their place."""
    off = np.random.default_rng(seed).uniform(-1e-4, 1e-4, x.shape)
    return Computed(x.astype(np.float64), abs(off)), (x + off)


@pytest.mark.parametrize(
    ("bounded", "plain"),
    [
        (lambda a, b: product(a, b.T, FLOAT32), lambda a, b: a @ b.T),
        (lambda a, b: times(a, b, FLOAT32), lambda a, b: a * b),
        (lambda a, b: plus(a, b, FLOAT32), lambda a, b: a + b),
        (lambda a, b: minus(a, b, FLOAT32), lambda a, b: a - b),
        (lambda a, b: total(a, -1, FLOAT32), lambda a, b: a.sum(-1, keepdims=True)),
    ],
    ids=["product", "times", "plus", "minus", "total"],
)
def test_what_is_computed_of_inexact_operands_lies_within_the_error(bounded, plain):
    (a, off_a), (b, off_b) = inexact(numbers(20, 300)), inexact(numbers(20, 300, seed=1))
    found = bounded(a, b)
    exact = plain(a.value, b.value)
    got = plain(off_a.astype(np.float32), off_b.astype(np.float32))
    rounded = a.off_by(2.0**-24 * a.largest), b.off_by(2.0**-24 * b.largest)
    error = abs(got - exact)
    assert (found.value == exact).all()
    assert (error <= bounded(*rounded).error).all()
    assert error.max() > found.error.min() / 1000


def test_an_error_of_an_operand_is_passed_on_whole():
    a = known(np.full((1, 1), 3.0)).off_by(0.5)
    b = known(np.full((1, 1), 2.0)).off_by(0.25)
    # (3.5)(2.25) - 6
    assert product(a, b, FLOAT32).error == pytest.approx(1.875, rel=1e-6)
    assert times(a, b, FLOAT32).error == pytest.approx(1.875, rel=1e-6)
    assert plus(a, b, FLOAT32).error == pytest.approx(0.75, rel=1e-5)


def test_exact_zeros_stay_exact():
    zeros, b = known(np.zeros((3, 4))), known(numbers(4, 5).astype(float))
    found = product(zeros, b, FLOAT32)
    assert not found.error.any()
    assert not cast(found, FORMATS["bfloat16"]).error.any()
    assert not output_bound(found, FLOAT32).any()


def test_a_cast_that_may_overflow_has_no_bound():
    found = cast(known(np.array([1.0, 70000.0])), FORMATS["float16"])
    assert found.error[0] == pytest.approx(2.0**-11, rel=1e-3)
    assert found.error[1] == np.inf


def test_a_bound_that_is_not_a_number_is_infinite():
    a = Computed(np.array([[0.0, 1.0]]), np.array([[0.0, np.inf]]))
    with np.errstate(invalid="ignore"):
        found = product(a, known(np.zeros((2, 1))), FLOAT32)
        assert output_bound(found, FLOAT32) in (np.inf, 0.0)
