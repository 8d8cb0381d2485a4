"""The gates on the error of one output: worst case, probable, mean square."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.conformance.comparison import Comparison, compare
from kernelproof.conformance.expectation import Expected
from kernelproof.spec.accuracy import Spread, mean_square_limit, probable_bound
from kernelproof.spec.rounding import Format

Array = npt.NDArray[Any]

WORST_CASE, PROBABLE, MEAN_SQUARE = GATES = ("worst-case", "probable", "mean-square")


@dataclass(frozen=True)
class Gauged:
    """One output under all gates that apply: the comparison of the worst element, and ratios.

    probable: the worst element under the probable bound, where it applies.
    message: what the mean-square gate says, if it fails.
    """

    comparison: Comparison
    ratios: dict[str, float]
    probable: Comparison | None = None
    message: str = ""


def gauge(
    output: str, step: int, got: Array, expected: Expected, format: Format, *, narrow: bool
) -> Gauged | None:
    """Hold one output against every gate that applies to its case; None if it is empty.

    ``format``: that of the output. The statistical gates are not asked where the worst case fails.
    """
    exact, bound = expected.outputs[output], expected.bounds[output]
    worst = compare(output, step, got, exact, bound, narrow=narrow)
    if worst is None:
        return None
    ratios = {WORST_CASE: worst.ratio}
    spread = expected.spreads.get(output)
    if spread is None or not math.isfinite(worst.ratio):
        return Gauged(worst, ratios)
    likely = np.fmin(bound, probable_bound(spread, format.unit))
    probable = compare(output, step, got, exact, likely, narrow=narrow)
    assert probable is not None
    ratios[PROBABLE] = probable.ratio
    ratios[MEAN_SQUARE], message = mean_square(output, got, exact, bound, spread)
    return Gauged(worst, ratios, probable, message)


def mean_square(
    output: str, got: Array, exact: Array, bound: Array, spread: Spread
) -> tuple[float, str]:
    """The largest ratio of a group's error to its limit: of each head, and of the whole output.

    A message if it is above 1. Elements without a finite bound are left out.
    """
    with np.errstate(invalid="ignore"):
        judged = np.isfinite(exact) & np.isfinite(bound) & np.isfinite(spread.last + spread.bias)
        error = np.where(judged, abs(got.astype(exact.dtype) - exact), 0.0).astype(np.float64)
    parts = [np.where(judged, part, 0.0) for part in spread.parts()]
    heads = math.prod(exact.shape[:-2])
    places = list(np.ndindex(*exact.shape[:-2])) if heads > 1 else []
    worst, message = 0.0, ""
    for groups, names in ((1, [()]), (len(places), places)):
        if not names:
            continue
        shape = (groups, -1, exact.shape[-1])
        norms = np.sqrt(np.square(error).reshape(shape).sum((1, 2)))
        own = Spread(*(part.reshape(shape) for part in parts))
        limits = mean_square_limit(own, 1 + len(places))
        ratios = np.where(limits > 0, norms / np.where(limits > 0, limits, 1), 0.0)
        place = int(ratios.argmax())
        if ratios[place] > max(worst, 1.0):
            where = f"{output}[{', '.join(map(str, names[place]))}]" if names[place] else output
            root = math.sqrt(error.size / groups)
            message = (
                f"the root mean square error of {where} is {norms[place] / root:.3g}: at most "
                f"{limits[place] / root:.3g} if rounding errors are independent"
            )
        worst = max(worst, float(ratios[place]))
    return worst, message
