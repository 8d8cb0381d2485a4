"""Judging statistics: how surprising an estimate is, and which effect would have been seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import bdtr, bdtrc, ndtri

from kernelproof.spec.statistics import CHANCE, Estimate, Measured, Share

POWER = 0.9
"""With which probability an effect of the size that is called visible is seen."""


@dataclass(frozen=True)
class Surprise:
    """One estimate, judged: ``ratio`` is its distance in standard errors over what chance allows.

    visible: the smallest deviation from what is wanted that would fail with probability ``POWER``.
    Both are plain floats, which travel between processes.
    """

    measured: Measured
    ratio: float
    visible: float

    @property
    def words(self) -> str:
        """What was seen, what was wanted, and what would have been visible."""
        m = self.measured
        if isinstance(m, Share):
            seen, wanted, limit = m.hits / m.trials, m.probability, ""
            return (
                f"{m.name}: {m.hits:,} of {m.trials:,} ({seen:.4g}), wanted {wanted:.4g}; "
                f"{self.visible:.2g} more or less would show"
            )
        limit = "at most " if m.at_most else ""
        return (
            f"{m.name}: {m.seen:.5g} with a standard error of {m.error:.2g}, wanted "
            f"{limit}{m.wanted:.5g}; {self.visible:.2g} {'more' if m.at_most else 'off'} would show"
        )


def judge_estimates(measured: Sequence[Measured]) -> list[Surprise]:
    """All estimates of one check: together they fail a right implementation with ``CHANCE``.
    Raises ValueError where there are none."""
    if not measured:
        raise ValueError("a statistic measures at least one thing")
    return [_surprise(each, CHANCE / len(measured)) for each in measured]


def _surprise(measured: Measured, chance: float) -> Surprise:
    if isinstance(measured, Share):
        allowed = -float(ndtri(chance / 2))
        p = measured.probability
        error = math.sqrt(p * (1 - p) / measured.trials)
        return Surprise(measured, float(_of_share(measured) / allowed), (allowed + _REACH) * error)
    sides = 1 if measured.at_most else 2
    allowed = -float(ndtri(chance / sides))
    ratio, visible = _of_mean(measured) / allowed, (allowed + _REACH) * measured.error
    return Surprise(measured, float(ratio), float(visible))


_REACH = float(ndtri(POWER))


def _of_mean(estimate: Estimate) -> float:
    """Standard errors from what is wanted; NaN is as far as can be."""
    away = estimate.seen - estimate.wanted
    if not (math.isfinite(away) and math.isfinite(estimate.error) and estimate.error >= 0):
        return math.inf
    away = max(away, 0.0) if estimate.at_most else abs(away)
    return away / estimate.error if estimate.error else math.inf if away else 0.0


def _of_share(share: Share) -> float:
    """The distance at which a normal variable has the exact tail of the binomial distribution."""
    k, n, p = share.hits, share.trials, share.probability
    tail = min(float(bdtr(k, n, p)), float(bdtrc(k - 1, n, p)) if k else 1.0, 0.5)
    return -float(ndtri(tail)) if tail > 0 else math.inf
