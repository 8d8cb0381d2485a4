"""What rounding errors of orthogonal features have in common: nothing, on the average.

Formats and their roundings are symmetric, to nearest and towards zero alike: where all rows of a
block are negated, its features and their errors are, too. Of Gaussian rows both are equally likely,
so that the expectation of an error is 0, whatever its size. A constant that is added to directions
is far below what a factorisation may be off by, and not below the mean of many errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.approximate.features import features
from kernelproof.spec.statistics import Estimate, mean_of

Array = npt.NDArray[Any]


def common_error(
    inputs: Mapping[str, Array], options: Mapping[str, Any], outputs: Mapping[str, Array]
) -> list[Estimate]:
    """Of features that are whole blocks, the errors of the coordinates of each block, summed."""
    exact, lengths = features(**inputs).features, inputs["norms"][:, None]
    errors = (outputs["features"] - exact) / lengths
    d = errors.shape[1]
    sums = errors.reshape(-1, d * d).sum(1)
    return [mean_of("errors of a block, summed", np.asarray(sums), 0.0)]
