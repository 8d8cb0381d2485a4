"""How often a random rotation puts two tokens into one bucket, and how to see that of outputs.

For unit vectors x and y of cosine rho, (x r_k, y r_k) are K = half independent pairs of standard
normal numbers of correlation rho. Both tokens are in bucket k, or both in half + k, if |x r_k| = s
and |y r_k| = u are the largest of theirs and their signs agree. With phi_rho the density of a pair,

p(rho, K) = 2 K integral_{s, u > 0} phi_rho(s, u) G(s, u)^(K - 1),   G = P(|x r| <= s, |y r| <= u)

which is 1 - arccos(rho) / pi for K = 1 and 1 / 2K for rho = 0. At least one of so many independent
rounds does with probability 1 - (1 - p)^rounds. (Its limit for large K, Andoni et al. 2015, theorem
1, is far off for buckets in use.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.contracts.lsh.cases import FAR, NEAR
from kernelproof.spec.statistics import Share, Statistic

Array = npt.NDArray[Any]


@lru_cache(maxsize=64)
def collision_probability(rho: float, half: int) -> float:
    """p(rho, K), right to 2e-4 for rho up to 0.96: the trapezoidal rule in steps of 0.01."""
    s = np.linspace(0.0, 8.0, 801)
    u = s[:, None]

    def density(rho: float) -> Array:
        spread = 1 - rho**2
        exponent = -(s**2 - 2 * rho * s * u + u**2) / (2 * spread)
        return np.asarray(np.exp(exponent) / (2 * np.pi * np.sqrt(spread)))

    inside = (
        2
        * _cumulative(
            _cumulative(density(rho) + density(-rho)).T,
        ).T
    )
    terms = density(rho) * inside ** (half - 1)
    return 2 * half * float(_cumulative(_cumulative(terms).T)[-1, -1])


def _cumulative(x: Array) -> Array:
    """Integrals along the last axis up to each of its points, 0.01 apart."""
    steps = 0.005 * (x[..., 1:] + x[..., :-1])
    return np.concatenate([np.zeros((*x.shape[:-1], 1)), steps.cumsum(-1)], axis=-1)


def _met(
    inputs: Mapping[str, Array], options: Mapping[str, Any], outputs: Mapping[str, Array]
) -> Sequence[Share]:
    """Of the family of pairs: the second of a pair attends to the first where they share a bucket.

    Their positions follow each other, and so do their places in the sorted bucket: the first is in
    the chunk of the second, or in the one before. It alone has a value in the coordinate of the
    pair.
    """
    out, (rounds, _, half) = outputs["out"], inputs["rotations"].shape
    pair = np.arange(out.shape[-2] // 2)
    met = out[..., 2 * pair + 1, pair] > 0
    shares = []
    for name, (along, _), each in (("near", NEAR, met[..., ::2]), ("far", FAR, met[..., 1::2])):
        alone = collision_probability(along / 25, half)
        any_round = 1 - (1 - alone) ** rounds
        shares.append(Share(f"{name} pairs that meet", int(each.sum()), each.size, any_round))
    return shares


COLLISIONS = Statistic(_met)
"""Shares of near and of far pairs that some round puts into one bucket."""
