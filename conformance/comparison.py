"""Error against bound, element by element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.conformance.verdict import Worst

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Comparison:
    """The worst element of one output, and how many elements had no finite bound."""

    ratio: float
    worst: Worst
    got: Array
    unbounded: int


def compare(
    output: str, step: int, got: Array, exact: Array, bound: Array, *, narrow: bool
) -> Comparison | None:
    """Compare one output; None if it is empty.

    ratio = error / bound, 0/0 = 0, x/0 = inf. NaN and infinities must be where the exact result
    has them. An infinite bound asks for a finite result, unless the result may overflow: to the
    infinity of its own sign, or to anything where declared intermediates are ``narrow``.
    """
    if not exact.size:
        return None
    if np.isnan(bound[np.isfinite(exact)]).any():
        raise ValueError(f"the bound of {output} is NaN where the exact result is finite")
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        wide = got.astype(exact.dtype)
        error = abs(wide - exact)
        special = ~np.isfinite(exact)
        same = np.where(np.isnan(exact), np.isnan(wide), wide == exact)
        overflow = np.isinf(bound) & (narrow | (np.isinf(wide) & (np.sign(wide) == np.sign(exact))))
        ratio = np.where(bound > 0, error / bound, np.where(error == 0, 0.0, np.inf))
        ratio = np.where(np.isfinite(wide), ratio, np.where(overflow, 0.0, np.inf))
        ratio = np.where(special, np.where(same, 0.0, np.inf), ratio)
    bound = np.where(special, 0.0, bound)
    # of several infinite ratios show the one with the largest finite error
    largest = np.where(ratio == ratio.max(), np.nan_to_num(error, nan=0.0, posinf=0.0), -1.0)
    index = np.unravel_index(int(largest.argmax()), ratio.shape)
    worst = Worst(
        output,
        step,
        tuple(int(i) for i in index),
        float(wide[index]),
        float(exact[index]),
        float(error[index]),
        float(bound[index]),
        int((ratio > 1).sum()),
        int(ratio.size),
    )
    unbounded = int(np.isinf(bound).sum())
    return Comparison(float(ratio.max()), worst, np.asarray(wide, np.float64), unbounded)
