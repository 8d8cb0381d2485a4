"""Where a noisy sequence has steps: change points, on logarithms of times in order of commits.

The method, chosen by what ``benchmarks/change_study.py`` measured:

1. Values are clipped at ``CLIP`` standard deviations from their median; the deviation comes from
   successive differences, which a step hardly moves. A spike is then an ordinary value.
2. A segment is split where the standardised difference of the means of its two sides is largest
   (binary segmentation: Scott and Knott 1974), if at most ``ALPHA`` of the orders of its values
   have one as large, by ``ORDERS`` random ones; at least ``SHORTEST`` values on a side. Where noise
   has no order this is exact: a sequence without steps has any with probability ``ALPHA``.
3. Each place is looked for again between its neighbours. Steps whose estimate is below the budget
   are taken back, the smallest first: noise that wanders from day to day passes 2, but is small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

ALPHA, CLIP, ORDERS, SHORTEST = 0.01, 3.0, 999, 2

FEWEST = 10
"""Values of which some order can be as rare as ``ALPHA``: 5 and 5 stand apart in 2 of 252."""

_GAUSSIAN = 1.482602218505602
"""Standard deviation over median absolute deviation, of a normal distribution."""

_Z90 = 1.6448536269514722


@dataclass(frozen=True)
class Step:
    """x[place] is the first value after it.

    size, interval: median of all differences across it (Hodges and Lehmann 1963) and its interval
    at 90 percent (Moses 1965), of the values up to the neighbouring steps. p: share of orders.
    """

    place: int
    size: float
    interval: tuple[float, float]
    p: float


def find_steps(x: Array, least: float) -> list[Step]:
    """The steps of x that are at least so large, in order."""
    places = _located(x, sorted(_splits(x, 0)))
    while places:
        sizes = [abs(shift(x[a:b], x[b:c])[0]) for a, b, c in _around(places, len(x))]
        smallest = int(np.argmin(sizes))
        if sizes[smallest] >= least:
            break
        del places[smallest]
    return [
        Step(b, *shift(x[a:b], x[b:c]), share_of_orders(x[a:c], b - a))
        for a, b, c in _around(places, len(x))
    ]


def shift(before: Array, after: Array) -> tuple[float, tuple[float, float]]:
    """By how much one sample lies above the other: estimate and interval."""
    differences = np.sort(np.subtract.outer(after, before), axis=None)
    product, together = differences.size, len(before) + len(after) + 1
    outside = math.floor(product / 2 - _Z90 * math.sqrt(product * together / 12))
    outside = max(outside, 0)
    interval = float(differences[outside]), float(differences[-1 - outside])
    return float(np.median(differences)), interval


def clipped(x: Array) -> Array:
    """x without what is far off; not where successive values are mostly equal."""
    scale = _GAUSSIAN * np.median(np.abs(np.diff(x))) / math.sqrt(2)
    middle = np.median(x)
    return np.clip(x, middle - CLIP * scale, middle + CLIP * scale) if scale else x


def step_statistics(x: Array) -> Array:
    """|difference of means| over its standard deviation, but for a constant. x: ... values.

    -> ... places, the first of them at ``SHORTEST``
    """
    n = x.shape[-1]
    k = np.arange(SHORTEST, n - SHORTEST + 1)
    sums = np.cumsum(x - x.mean(-1, keepdims=True), axis=-1)[..., k - 1]
    return np.asarray(np.abs(sums) / np.sqrt(k * (n - k)))


def share_of_orders(x: Array, at: int | None = None) -> float:
    """Of the orders of x, how many have a step as large: as the largest of x, or as that at a
    place. The orders are random and always the same ones."""
    values = clipped(x)
    here = step_statistics(values)
    largest = here.max() if at is None else here[at - SHORTEST]
    orders = np.random.default_rng(len(x)).permuted(np.tile(values, (ORDERS, 1)), axis=1)
    # sums of the same numbers in another order differ by their rounding
    as_large = step_statistics(orders).max(-1) >= largest * (1 - 1e-9)
    return float((1 + as_large.sum()) / (1 + ORDERS))


def _splits(x: Array, start: int) -> Iterator[int]:
    """Places of all splits of x, which starts at that place of the whole."""
    if len(x) < FEWEST or np.ptp(x) == 0 or share_of_orders(x) > ALPHA:
        return
    place = _largest(x)
    yield start + place
    yield from _splits(x[:place], start)
    yield from _splits(x[place:], start + place)


def _largest(x: Array) -> int:
    return SHORTEST + int(step_statistics(clipped(x)).argmax())


def _located(x: Array, places: list[int]) -> list[int]:
    """Each place where the step between its neighbours is largest."""
    found = list(places)
    for i in range(len(found)):
        a, _, c = list(_around(found, len(x)))[i]
        found[i] = a + _largest(x[a:c])
    return found


def _around(places: list[int], end: int) -> Iterator[tuple[int, int, int]]:
    """Of each place: the one before it, itself, the one after it."""
    bounds = [0, *places, end]
    return zip(bounds[:-2], bounds[1:-1], bounds[2:], strict=True)
