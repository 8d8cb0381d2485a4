"""Numbers with how far off they may be: worst-case bounds that compose.

What an implementation computes lies within ``error`` of the exact ``value``, in every element. Each
operation passes on what its operands are off by and adds what it rounds itself (running error
analysis: Wilkinson 1963; Higham, ASNA, section 3.3), so that the bound of a composite algorithm is
that algorithm, written once more in this arithmetic. Sums may be taken in any order.

A factor that is exactly zero, without error, makes an exact zero: nothing is rounded there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.rounding import Format, Rounding, compose, gamma

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Computed:
    """An exact value and the largest error of what is computed of it, element by element."""

    value: Array
    error: Array

    @property
    def largest(self) -> Array:
        """The largest magnitude that may be computed."""
        return np.asarray(abs(self.value) + self.error)

    @property
    def T(self) -> Computed:
        """The last two axes swapped."""
        return self.arranged(lambda x: x.swapaxes(-1, -2))

    def arranged(self, how: Callable[[Array], Array]) -> Computed:
        """Elements moved or repeated: ``how`` must not compute anything of them."""
        return Computed(how(self.value), how(self.error))

    def off_by(self, error: Array | float) -> Computed:
        """The same, so much further off."""
        return Computed(self.value, np.asarray(self.error + error))


def known(value: Array) -> Computed:
    """Inputs: they are what they are."""
    return Computed(value, np.zeros(np.shape(value)))


def product(a: Computed, b: Computed, rounding: Rounding) -> Computed:
    """a b: ... m k, ... k n. The operands may be cast where that is declared."""
    operand = rounding.operands.unit if rounding.operands else 0.0
    relative = compose(gamma(a.value.shape[-1], rounding.accumulate), operand, operand)
    large, larger = a.largest, b.largest
    terms = (large > 0).astype(np.float64) @ (larger > 0).astype(np.float64)
    passed = a.error @ larger + abs(a.value) @ b.error
    return Computed(
        a.value @ b.value, passed + relative * (large @ larger) + terms * rounding.underflow
    )


def times(a: Computed, b: Computed, rounding: Rounding) -> Computed:
    """Element by element, rounded once."""
    passed, magnitude = a.error * b.largest + abs(a.value) * b.error, a.largest * b.largest
    own = rounding.accumulate * magnitude + rounding.underflow * (magnitude > 0)
    return Computed(a.value * b.value, passed + own)


def plus(a: Computed, b: Computed, rounding: Rounding) -> Computed:
    """Element by element, rounded once."""
    value, passed = a.value + b.value, a.error + b.error
    return Computed(value, passed + rounding.accumulate * (abs(value) + passed))


def minus(a: Computed, b: Computed, rounding: Rounding) -> Computed:
    """Element by element, rounded once."""
    return plus(a, Computed(-b.value, b.error), rounding)


def total(a: Computed, axis: int, rounding: Rounding) -> Computed:
    """The sum along an axis, in any order; the axis stays, with size 1."""
    rounded = gamma(a.value.shape[axis], rounding.accumulate)
    return Computed(
        a.value.sum(axis, keepdims=True),
        (a.error + rounded * a.largest).sum(axis, keepdims=True),
    )


def cast(a: Computed, format: Format | None) -> Computed:
    """Stored in a format, if one is declared. Infinitely off where that may overflow."""
    if format is None:
        return a
    own = np.where(a.largest > 0, format.unit * a.largest + format.eta, 0.0)
    return a.off_by(np.where(a.largest < format.largest, own, np.inf))


def output_bound(a: Computed, rounding: Rounding) -> Array:
    """The bound of an output: rounded once more, to its format. Exact zeros stay exact.

    Infinite where it is not known (infinity times zero).
    """
    bound = np.where(a.largest == 0, 0.0, rounding.output_error(a.error, abs(a.value)))
    return np.where(np.isnan(bound) & np.isfinite(a.value), np.inf, bound)
