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
    about sqrt(n)/2 ranks below and above it, which one standard deviation of a binomial is.

    >>> round(median_error([1.0, 1.1, 0.9, 1.0, 1.2, 0.8, 1.0, 1.0, 1.1]), 3)
    0.05
    """
    count, ordered = len(times), sorted(times)
    if count < 2:
        return math.inf
    half = math.sqrt(count) / 2
    low, high = math.floor((count - 1) / 2 - half), math.ceil((count - 1) / 2 + half)
    if low < 0 or high >= count:
        return math.inf
    return (ordered[high] - ordered[low]) / 2 / statistics.median(ordered)


def enough(times: Sequence[float]) -> bool:
    """Whether more rounds would tell little more."""
    return len(times) >= FEWEST and median_error(times) < PRECISE


def steady(before: Sequence[float], now: Sequence[float]) -> bool:
    """Whether two chunks of rounds in a row took equally long."""
    one, other = statistics.median(before), statistics.median(now)
    return abs(one - other) <= STEADY * max(one, other)
