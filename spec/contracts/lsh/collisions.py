"""How often a random rotation puts two tokens into one bucket, and how to see that of outputs.

For unit vectors x and y of cosine rho, (x r_k, y r_k) are K = half independent pairs of standard
normal numbers of correlation rho. Both tokens are in bucket k, or both in half + k, if |x r_k| = s
and |y r_k| = u are the largest of theirs and their signs agree. With phi_rho the density of a pair,

p(rho, K) = 2 K integral_{s, u > 0} phi_rho(s, u) G(s, u)^(K - 1),   G = P(|x r| <= s, |y r| <= u)

which is 1 - arccos(rho) / pi for K = 1 and 1 / 2K for rho = 0. At least one of so many independent
rounds does with probability 1 - (1 - p)^rounds, of each two of them 1 - (1 - p)^2. (Its limit for
large K, Andoni et al. 2015, theorem 1, is far off for buckets in use.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from math import comb
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.spec.contracts.lsh.families import FAR, NEAR
from kernelproof.spec.statistics import Share, Statistic, Total

Array = npt.NDArray[Any]


@lru_cache(maxsize=256)
def collision_probability(rho: float, half: int) -> float:
    """p(rho, K), right to 1e-7 for rho up to 0.99: the trapezoidal rule in steps of 0.01 and 0.02,
    whose errors, of the second order, cancel in the mean of -1/3 and 4/3."""
    fine, coarse = _integral(rho, half, 0.01), _integral(rho, half, 0.02)
    return fine + (fine - coarse) / 3


def _integral(rho: float, half: int, step: float) -> float:
    s = np.arange(0.0, 8.0 + step / 2, step)
    u = s[:, None]

    def density(rho: float) -> Array:
        spread = 1 - rho**2
        exponent = -(s**2 - 2 * rho * s * u + u**2) / (2 * spread)
        return np.asarray(np.exp(exponent) / (2 * np.pi * np.sqrt(spread)))

    def up_to(x: Array) -> Array:
        """Integrals over both axes up to each point."""
        return _cumulative(_cumulative(x, step).T, step).T

    inside = 2 * up_to(density(rho) + density(-rho))
    return 2 * half * float(up_to(density(rho) * inside ** (half - 1))[-1, -1])


def _cumulative(x: Array, step: float) -> Array:
    """Integrals along the last axis up to each of its points."""
    steps = step / 2 * (x[..., 1:] + x[..., :-1])
    return np.concatenate([np.zeros((*x.shape[:-1], 1)), steps.cumsum(-1)], axis=-1)


def meetings(
    inputs: Mapping[str, Array], options: Mapping[str, Any], outputs: Mapping[str, Array]
) -> Iterator[tuple[str, Array, float]]:
    """Of the family of pairs, where duplicates are counted: which pairs, in how many rounds each of
    them shares a bucket, and with which probability in one.

    Their positions follow each other, and so do their places in the sorted bucket: the first is in
    the chunk of the second, or in the one before. The first alone has a value in the coordinate of
    the pair: out has exp(S - lse) there, times the number of rounds.
    """
    out, (_, d, half) = outputs["out"], inputs["rotations"].shape
    second = 2 * np.arange(out.shape[-2] // 2) + 1
    of_first = out[..., second, second // 2] * np.exp(outputs["lse"][..., second])
    for number, (name, partner) in enumerate((("near", NEAR), ("far", FAR))):
        # the second token has length 25, too
        rounds = of_first[..., number::2] / np.exp(partner[0] / np.sqrt(d))
        yield name, np.rint(rounds).ravel(), collision_probability(partner[0] / 25, half)


def _met(
    inputs: Mapping[str, Array], options: Mapping[str, Any], outputs: Mapping[str, Array]
) -> Sequence[Share]:
    rounds = len(inputs["rotations"])
    return [
        Share(f"rounds in which {name} pairs meet", int(met.sum()), rounds * met.size, p)
        for name, met, p in meetings(inputs, options, outputs)
    ]


def _missed_twice(
    inputs: Mapping[str, Array], options: Mapping[str, Any], outputs: Mapping[str, Array]
) -> Sequence[Total]:
    rounds = len(inputs["rotations"])
    return [
        Total(
            f"how many two rounds both part a {name} pair",
            twice(rounds - met),
            law_of_two(p, rounds),
        )
        for name, met, p in meetings(inputs, options, outputs)
    ]


def twice(missed: Array) -> Array:
    """How many two there are among so many rounds."""
    return np.asarray(missed * (missed - 1) / 2)


def law_of_two(p: float, rounds: int) -> Array:
    """How many two rounds both miss a pair, where rounds are independent: the probability of each
    number. Its expectation is (1 - p)^2 of all two."""
    law = np.zeros(comb(rounds, 2) + 1)
    for missed in range(rounds + 1):
        law[comb(missed, 2)] += comb(rounds, missed) * (1 - p) ** missed * p ** (rounds - missed)
    return law


COLLISIONS = Statistic(_met)
"""Shares of near and of far pairs that a round puts into one bucket."""

INDEPENDENCE = Statistic(_missed_twice)
"""How many of all two rounds both part a pair."""
