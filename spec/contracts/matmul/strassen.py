"""The contract of fast matrix products: how far off recursion on blocks may be.

Every term of an element of out passes one leaf product and, per level, at most so many additions
of blocks; without cancellation the terms add up to ``plus``, the recursion of |a| and |b| in which
every minus is a plus. So

    |out^ - out| <= gamma_(k0 + c L) plus,     k0 = ceil(k / 2^L)

No multiple of |a| |b| bounds the error. Higham's normwise bound (2002, theorems 23.2 and 23.3)
does, but allows a hundred to ten million times what right code is off by: useless as a gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.matmul.strassen import BlockProduct
from kernelproof.spec.accuracy import Accuracy, Spread, half_ulp
from kernelproof.spec.rounding import Rounding, compose, gamma

Array = npt.NDArray[Any]

BEFORE: Mapping[str, int] = {"strassen": 1 + 1, "winograd": 2 + 2}
"""Additions of a level, at most, that make both factors of one product: M1, P6."""

AFTER = 3
"""Additions of a level, at most, from a product to a quadrant of the result."""

REACH: Mapping[str, int] = {"strassen": 2, "winograd": 4}
"""Quadrants, at most, that one product of a level is added to."""


def strassen_bound(exact: BlockProduct, rounding: Rounding) -> Mapping[str, Array]:
    """Worst-case error of ``out`` (m n): leaf sums, additions of blocks, declared casts of
    operands, underflow in each of the 4^L leaf products of an element, output."""
    with np.errstate(invalid="ignore", over="ignore"):
        k0, additions = _depth(exact), (BEFORE[exact.variant] + AFTER) * exact.levels
        error = compose(gamma(k0 + additions, rounding.accumulate), *_casts(rounding)) * exact.plus
        error = error + _underflow(exact, rounding)
        bound = rounding.output_error(error, abs(exact.out))
        return {
            "out": np.where(_largest(exact) + error < rounding.statistics.largest, bound, np.inf)
        }


def strassen_spread(exact: BlockProduct, rounding: Rounding) -> Mapping[str, Spread]:
    """What the error of ``out`` is made of.

    Leaf sums and the additions behind them make k0 + 3 L independent errors, each at most u times
    what its sum holds, and what all sums of a level hold adds up to plus. A leaf product reaches
    ``REACH`` quadrants in every level. Errors of the factors are shared by rows and columns.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        k0, levels, u = _depth(exact), exact.levels, rounding.accumulate
        behind = k0 + AFTER * levels
        drift = gamma(behind, u) if rounding.truncating else 0.0
        factors = gamma(BEFORE[exact.variant] * levels, u)
        bias = compose(drift, factors, *_casts(rounding)) * exact.plus
        spread = Spread(
            last=np.maximum(half_ulp(abs(exact.out), rounding.out), rounding.underflow),
            bias=bias + _underflow(exact, rounding),
            element=0.0 if rounding.truncating else np.sqrt(behind) * u * exact.plus,
            shared=REACH[exact.variant] ** levels,
        )
        return {"out": spread}


def _depth(exact: BlockProduct) -> int:
    """k0, the terms of a sum in a leaf product."""
    return -(-int(exact.a.shape[1]) >> exact.levels)


def _casts(rounding: Rounding) -> tuple[float, float]:
    operand = rounding.operands.unit if rounding.operands else 0.0
    return operand, operand


def _underflow(exact: BlockProduct, rounding: Rounding) -> float:
    return float(4**exact.levels * _depth(exact) * rounding.underflow)


def _largest(exact: BlockProduct) -> Array:
    """What no intermediate of an element exceeds: a sum of blocks has at most 4^L terms."""
    inputs = max(abs(x).max(initial=0.0) for x in (exact.a, exact.b))
    largest: Array = np.maximum(exact.plus, 4**exact.levels * inputs)
    return largest


STRASSEN = Accuracy(worst_case=strassen_bound, spread=strassen_spread)
"""The contract of Strassen's and Winograd's product."""
