"""Statistics: what random inputs make of results on the average.

Where an algorithm approximates by random features or hashes, each result is right or wrong given
them, as any other is; that they are drawn as they should be shows only in many of them. A clause
about that measures numbers whose expectation is known, and how far chance takes them from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

CHANCE = 1e-7
"""How often a check of statistics may fail a right implementation; its estimates share it."""


class Estimate(NamedTuple):
    """A mean over independent draws: what was seen, its expectation, and its standard error.

    at_most: the expectation is an upper limit, and only more is wrong.
    """

    name: str
    seen: float
    wanted: float
    error: float
    at_most: bool = False


class Share(NamedTuple):
    """How many of so many independent trials had a property, and the probability of it."""

    name: str
    hits: int
    trials: int
    probability: float


Measured: TypeAlias = Estimate | Share
Measure: TypeAlias = Callable[
    [Mapping[str, Array], Mapping[str, Any], Mapping[str, Array]], Sequence[Measured]
]


@dataclass(frozen=True, eq=False)
class Statistic:
    """What to measure of a call: of its inputs, options and outputs by name, all in float64.

    Seeds of gate tiers are fixed, so that a verdict is the same each time; under ``--seed random``
    a right implementation fails with probability ``CHANCE`` at most, as far as means over the
    draws of a case are normal.
    """

    measure: Measure


def mean_of(name: str, draws: Array, wanted: float, *, at_most: bool = False) -> Estimate:
    """The estimate that independent draws make, its standard error taken from them."""
    error = float(draws.std(ddof=1) / np.sqrt(draws.size))
    return Estimate(name, float(draws.mean()), wanted, error, at_most)
