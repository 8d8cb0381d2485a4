"""What rounding errors of two coordinates have in common: nothing, on the average.

Formats and their roundings are symmetric, to nearest and towards zero alike. Where a coordinate of
all rows of a block is negated, dot products of rows are sums of the same products, and that
coordinate of the features, its errors included, is negated too. Of Gaussian rows both are equally
likely, so that for the errors e of a row

    E (sum_(c != c') e_c e_c') / sum_c e_c^2 = 0,

It lies between -1 and d - 1, and so varies by d - 1 at most (Bhatia and Davis 2000). A constant
that is added to directions, of whatever sign, is far below what a factorisation may be off by, and
makes all errors of a row alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.approximate.features import features
from kernelproof.spec.statistics import Mean

Array = npt.NDArray[Any]


def likeness_of_errors(
    inputs: Mapping[str, Array], options: Mapping[str, Any], outputs: Mapping[str, Array]
) -> list[Mean]:
    """Of features that are whole blocks, how alike the errors of a row are, in the mean."""
    errors = outputs["features"] - features(**inputs).features
    squares, d = (errors**2).sum(1), errors.shape[1]
    alike = (errors.sum(1) ** 2 - squares) / np.where(squares > 0, squares, 1.0)
    draws = alike.reshape(-1, d).mean(1)  # rows of a block have errors in common
    return [Mean("likeness of the errors of a row", draws, 0.0, d - 1)]
