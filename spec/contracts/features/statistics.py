"""What orthogonal features are for: unbiased estimates of exp(x . y), in every direction.

They are less spread than those of independent features (Choromanski et al. 2021, theorem 2).
For z = x + y and the m rows w_i of a block, SM = exp(x . y) is estimated by

    SM_m = L / m sum_i exp(w_i . z),    L = exp(-(|x|^2 + |y|^2) / 2),    m <= d,

with a mean square error of at most

    exp(|z|^2) SM^2 (1 - exp(-|z|^2)) / m - 2 (m - 1) / (m (d + 2)) (SM - L)^2,

of which independent features have the first term alone. Here x = y = z / 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.statistics import Estimate, mean_of

Array = npt.NDArray[Any]

FAR, NEAR = 1.74, 1.0
"""|z|^2 of the means, where bias is large, and of the errors, whose own spread grows with it."""


def estimate_errors(
    inputs: Mapping[str, Array], options: Mapping[str, Any], outputs: Mapping[str, Array]
) -> list[Estimate]:
    """Of features that are whole blocks: the mean estimate along some directions, and the mean
    square error over all axes."""
    d = outputs["features"].shape[1]
    blocks = outputs["features"].reshape(-1, d, d)
    means = [
        mean_of(f"estimates along {words}", estimates(blocks, z)[:, 0], np.exp(FAR / 4))
        for words, z in _directions(d)
    ]
    errors = estimates(blocks, np.sqrt(NEAR) * np.eye(d)) - np.exp(NEAR / 4)
    spread = mean_of("mean square error", (errors**2).mean(1), orthogonal_error(d), at_most=True)
    return [*means, spread]


def estimates(blocks: Array, z: Array) -> Array:
    """SM_m of every block (n m d) for every column of z (d c): n c."""
    shift = (z**2).sum(0) / 4
    found: Array = np.exp(blocks @ z - shift).mean(1)
    return found


def orthogonal_error(d: int) -> float:
    """The largest mean square error of d orthogonal features at ``NEAR``."""
    softmax, smallest = np.exp(NEAR / 4), np.exp(-NEAR / 4)
    independent = np.exp(NEAR) * softmax**2 * (1 - np.exp(-NEAR)) / d
    return float(independent - 2 * (d - 1) / (d * (d + 2)) * (softmax - smallest) ** 2)


def _directions(d: int) -> Iterator[tuple[str, Array]]:
    """Vectors z of length sqrt(FAR), d 1 each: coordinates are no directions like any other to a
    factorisation, and signs that it leaves to chance are biased along coherent ones."""
    axes = np.eye(d)
    random = np.random.default_rng(0).standard_normal(d)
    for words, z in (
        ("all ones", np.ones(d)),
        ("an axis", axes[0]),
        ("the sum of two axes", axes[0] + axes[1]),
        ("a random direction", random),
    ):
        yield words, (np.sqrt(FAR) * z / np.linalg.norm(z))[:, None]
