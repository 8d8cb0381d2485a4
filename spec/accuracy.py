"""The accuracy contract of a spec: four gates on the error of an output.

1. **Worst case**: |error| <= bound in every element, on all inputs. Never wrong.
2. **Probable**: the same with a smaller bound, where rounding errors are independent.
3. **Mean square**: the errors of a head, and of the whole output, squared and added.
4. **Mean**: the errors of the whole output, each with the sign of its result, added.

All but the first hold for inputs whose rounding errors are independent and of mean zero (*generic*
input families): a bug that hides below the worst case in every element shows in a sum over many, an
accumulator in bfloat16 behind a bfloat16 output in that of squares, a division that is 0.1 percent
off in that of errors. On coherent inputs (equal weights, values that repeat) right implementations
exceed them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kernelproof.spec.rounding import Format, Rounding

Array: TypeAlias = npt.NDArray[Any]
Bounds: TypeAlias = Mapping[str, Array]

FALSE_ALARMS = 1e-9
"""How often a right implementation may exceed a statistical gate, per output of a call, if its
rounding errors are independent."""


@dataclass(frozen=True)
class Spread:
    """What the error of one output is the sum of, where rounding errors are independent.

    Amplitudes: the root of the sum of squares of the largest values of single errors, for each
    element (the shape of the output, or one that broadcasts to it).

    element: of errors that no other element shares, such as those of its own sum.
    row: of errors that the elements along the last axis share, such as those of a weight.
    bias: the sum of errors that may all have one sign, or that rows share: truncations, an
        exponential's own error, casts of operands.
    last: the largest error of the last rounding, to the format of the output.
    shared: how many elements of the output one error of ``element`` reaches, where not one alone:
        a product of blocks that is added to several quadrants.
    rows: how many rows one error of ``row`` reaches, where not one alone: one of a symmetric matrix
        of scores.
    """

    last: Array
    bias: Array | float = 0.0
    element: Array | float = 0.0
    row: Array | float = 0.0
    shared: int = 1
    rows: int = 1

    @property
    def independent(self) -> Array:
        """The amplitude of all independent errors but the last."""
        return np.hypot(self.element, self.row)

    def parts(self) -> list[Array]:
        """last, bias, element and row, each in the shape of the output."""
        parts = (self.last, self.bias, self.element, self.row)
        return [np.broadcast_to(part, self.last.shape) for part in parts]


@dataclass(frozen=True)
class Accuracy:
    """How far a right implementation may be off, given the exact record and its roundings.

    worst_case: per output a bound on every element, on all inputs.
    spread: per output what its error is made of, for the gates on generic inputs; a spec without
        it is judged by the worst case alone.
    """

    worst_case: Callable[[Any, Rounding], Bounds]
    spread: Callable[[Any, Rounding], Mapping[str, Spread]] | None = None


def probable_bound(spread: Spread, unit: float) -> Array:
    """The second gate: |error| <= bias + lambda * amplitude + last, in every element.

    False-alarm rate: ``FALSE_ALARMS`` per output, if errors are independent, of mean zero and at
    most so large: Azuma's inequality for sum x_j delta_j, |delta_j| <= 1, gives
    P(|sum| > lambda ||x||) <= 2 exp(-lambda^2 / 2) (Higham & Mary 2019, Ipsen & Zhou
    2020), here with the union over all elements. ``unit``: roundoff of the output's format.
    """
    deviations = np.sqrt(2 * np.log(2 * max(spread.last.size, 1) / FALSE_ALARMS))
    bound: Array = spread.last + (1 + unit) * (spread.bias + deviations * spread.independent)
    return bound


def mean_square_limit(spread: Spread, groups: int) -> Array:
    """The third gate: the largest 2-norm of the errors of a group of rows, one of ``groups``.

    ``spread``: of arrays of three axes: group, row, element of a row.

    False-alarm rate: ``FALSE_ALARMS`` per output, if errors are independent, of mean zero and
    uniform up to their largest value. The norm of error = X delta is a convex function of delta
    with Lipschitz constant ||X||_2, so that with u_j the largest |delta_j|

        P(norm > sqrt(E norm^2) + t) <= exp(-t^2 / (8 ||X diag(u)||_2^2))

    (Boucheron, Lugosi & Massart 2013, theorem 6.10). E norm^2 is a third of the sum of squared
    amplitudes. X has a block per element and one per row, and its norm is at most the root
    of the sum of squares of the largest block of each kind. Where an error reaches s elements,
    a column of X has s entries, (sum_e w_e x_ej)^2 <= s sum_e w_e^2 x_ej^2 (Cauchy-Schwarz), and
    the block of an element counts s times. Likewise that of a row, whose errors reach r rows.
    """
    last, bias, element, row = (np.square(part) for part in spread.parts())
    expected = np.sqrt((last + element + row).sum((1, 2)) / 3)
    single = (last + spread.shared * element).max((1, 2), initial=0.0)
    largest = np.sqrt(single + spread.rows * row.sum(2).max(1, initial=0.0))
    tail = np.sqrt(8 * np.log(groups / FALSE_ALARMS))
    limit: Array = expected + tail * largest + np.sqrt(bias.sum((1, 2)))
    return limit


def signed_sum_limit(spread: Spread) -> float:
    """The fourth gate: the largest |sum of errors, each with the sign of its result|.

    False-alarm rate: ``FALSE_ALARMS`` per output, if errors are independent, of mean zero and at
    most so large (Azuma, as above). A row's shared errors add up over its elements before they meet
    those of other rows: the root of their squares is at most the sum of the row's amplitudes
    (Minkowski). An error that reaches s elements, or s rows, counts with at most s times the sum of
    its squares (Cauchy-Schwarz).
    """
    last, bias, element, row = spread.parts()
    single = np.square(last) + spread.shared * np.square(element)
    squares = single.sum() + spread.rows * np.square(row.sum(-1)).sum()
    return float(bias.sum() + np.sqrt(2 * np.log(2 / FALSE_ALARMS) * squares))


def half_ulp(magnitude: Array, format: Format) -> Array:
    """The largest error of rounding numbers of this magnitude to a format, to nearest."""
    exponent = np.frexp(np.asarray(magnitude, np.float64))[1]
    ulp = np.where(np.isfinite(magnitude), np.ldexp(format.unit, exponent - 1), 0.0)
    return np.where(magnitude == 0, format.eta, np.maximum(ulp, format.eta))
