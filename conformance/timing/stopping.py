"""When enough was measured: noise of a median, without assuming how times are distributed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

PRECISE = 0.005
"""Relative standard error of the median at which a series ends."""
FEWEST = 24
"""Rounds without which no noise is known."""
STEADY = 0.02
"""How little the medians of two chunks in a row differ once a kernel is warm."""


def median_error(times: Sequence[float]) -> float:
    """The relative standard error of a median, from order statistics: half the distance of those
    sqrt(n)/2 ranks below and above it, which is a standard deviation of the binomial that says how
    many of n times lie below the true median.

    >>> median_error([1.0, 2.0, 3.0, 4.0])
    0.4
    """
    ordered, middle = sorted(times), (len(times) - 1) / 2
    half = math.sqrt(len(times)) / 2
    if half > middle:
        return math.inf
    low, high = (_between(ordered, middle + side) for side in (-half, half))
    return (high - low) / 2 / statistics.median(ordered)


def _between(ordered: Sequence[float], rank: float) -> float:
    """The order statistic at a rank, whole or not."""
    below = math.floor(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (rank - below) * (ordered[above] - ordered[below])


def enough(times: Sequence[float]) -> bool:
    """Whether more rounds would tell little more."""
    return len(times) >= FEWEST and median_error(times) < PRECISE


def steady(before: Sequence[float], now: Sequence[float]) -> bool:
    """Whether two chunks of rounds in a row took equally long."""
    one, other = statistics.median(before), statistics.median(now)
    return abs(one - other) <= STEADY * max(one, other)
