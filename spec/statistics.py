"""Statistics: what random inputs make of results on the average.

Where an algorithm approximates by random features or hashes, each result is right or wrong given
them, as any other is; that they are drawn as they should be shows only in many of them. A clause
about that measures numbers whose expectation is known, and how far chance takes them from it.

How often chance fails a right implementation is a theorem for each kind of measurement, whatever
the distribution of the draws: heavy tails and skew included. None takes sums for normal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

CHANCE = 1e-7
"""How often a check of statistics may fail a right implementation; its measurements share it."""


class Mean(NamedTuple):
    """Independent draws of a known expectation; variance: what that of a draw is at most."""

    name: str
    draws: Array
    wanted: float
    variance: float


class Ceiling(NamedTuple):
    """Independent draws, none below 0, whose expectation is ``wanted`` at most: only more is wrong.

    spread: their variance over the square of their expectation, or near it. What would be seen
    depends on it; what chance may do does not.
    """

    name: str
    draws: Array
    wanted: float
    spread: float


class Share(NamedTuple):
    """How many of so many independent trials had a property, and the probability of it."""

    name: str
    hits: int
    trials: int
    probability: float


class Total(NamedTuple):
    """Independent draws of whole numbers, and their law: law[k] is the probability of k."""

    name: str
    draws: Array
    law: Array


Measured: TypeAlias = Mean | Ceiling | Share | Total
Measure: TypeAlias = Callable[
    [Mapping[str, Array], Mapping[str, Any], Mapping[str, Array]], Sequence[Measured]
]


@dataclass(frozen=True, eq=False)
class Statistic:
    """What to measure of a call: of its inputs, options and outputs by name, all in float64.

    Seeds of gate tiers are fixed, so that a verdict is the same each time; under ``--seed random``
    a right implementation fails with probability ``CHANCE`` at most. (Rounding moves a measurement
    by far less than chance does: results are held against their error bounds first.)
    """

    measure: Measure
