"""The gates on the error of one output: worst case, probable, mean square, mean."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.conformance.comparison import Comparison, compare
from kernelproof.conformance.expectation import Expected
from kernelproof.spec.accuracy import (
    Spread,
    mean_square_limit,
    probable_bound,
    signed_sum_limit,
)
from kernelproof.spec.rounding import Format

Array = npt.NDArray[Any]

WORST_CASE, PROBABLE, MEAN_SQUARE, MEAN = GATES = (
    *("worst-case", "probable"),
    *("mean-square", "mean"),
)
SUMS = (MEAN_SQUARE, MEAN)
"""Gates on all elements together."""


@dataclass(frozen=True)
class Gauged:
    """One output under all gates that apply: the comparison of the worst element, and ratios.

    probable: the worst element under the probable bound, where it applies.
    messages: what a gate on sums says, if it fails.
    """

    comparison: Comparison
    ratios: dict[str, float]
    probable: Comparison | None = None
    messages: dict[str, str] = field(default_factory=dict)


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
    # an infinite bound allows an overflow, whatever is probable
    smaller = np.fmin(bound, probable_bound(spread, format.unit))
    likely = np.where(np.isfinite(bound), smaller, bound)
    probable = compare(output, step, got, exact, likely, narrow=narrow)
    assert probable is not None
    ratios[PROBABLE] = probable.ratio
    with np.errstate(invalid="ignore"):
        error = (got.astype(exact.dtype) - exact).astype(np.float64)
        known = np.isfinite(sum(spread.parts()))
        judged = np.isfinite(exact) & np.isfinite(bound) & known
    error = np.where(judged, error, 0.0)
    judged_spread = replace(spread, **_parts(spread, judged))
    messages = {}
    ratios[MEAN_SQUARE], messages[MEAN_SQUARE] = mean_square(output, error, judged_spread)
    ratios[MEAN], messages[MEAN] = mean(output, error * np.sign(exact), judged_spread)
    return Gauged(worst, ratios, probable, messages)


def _parts(spread: Spread, judged: Array) -> dict[str, Any]:
    """The parts of a spread that vary, 0 where an element has no finite bound."""
    parts = {name: getattr(spread, name) for name in ("last", "bias", "element", "row")}
    return {n: np.where(judged, part, 0.0) for n, part in parts.items() if np.ndim(part)}


def mean(output: str, error: Array, spread: Spread) -> tuple[float, str]:
    """The ratio of the summed errors, each with the sign of its result, to their limit."""
    total, limit = abs(float(error.sum())), signed_sum_limit(spread)
    ratio = total / limit if limit else np.inf if total else 0.0
    if ratio <= 1:
        return ratio, ""
    return ratio, (
        f"the errors of {output}, each with the sign of its result, have a mean of "
        f"{error.mean():.3g}: at most {limit / error.size:.3g} if rounding errors are independent"
    )


def mean_square(output: str, error: Array, spread: Spread) -> tuple[float, str]:
    """The largest ratio of a group's error to its limit: of each head (of a matrix, each row), and
    of the whole output. A message if it is above 1."""
    parts = spread.parts()
    # where the elements of a row share nothing, each is a row of its own
    width = error.shape[-1] if np.ndim(spread.row) else 1
    places = error.shape[:-2] if np.ndim(spread.row) else error.shape[:-1]
    heads = math.prod(places)
    worst, message = 0.0, ""
    for groups in dict.fromkeys((1, heads)):
        shape = (groups, -1, width)
        norms = np.sqrt(np.square(error).reshape(shape).sum((1, 2)))
        last, bias, element, row = (part.reshape(shape) for part in parts)
        own = replace(spread, last=last, bias=bias, element=element, row=row)
        limits = mean_square_limit(own, 1 + heads)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = np.where(norms > 0, norms / limits, 0.0)
        place = int(ratios.argmax())
        if ratios[place] > max(worst, 1.0):
            index = ", ".join(str(int(i)) for i in np.unravel_index(place, places))
            where = f"{output}[{index}]" if groups > 1 else output
            root = math.sqrt(error.size / groups)
            message = (
                f"the root mean square error of {where} is {norms[place] / root:.3g}: at most "
                f"{limits[place] / root:.3g} if rounding errors are independent"
            )
        worst = max(worst, float(ratios[place]))
    return worst, message
