"""Judging statistics: how surprising a measurement is, and which effect would have been seen.

Of n independent draws, x_i their distances from what is wanted, P(failing by chance) <= alpha with
L = log(1 / alpha), because exp of what is compared has an expectation of 1 at most (Markov):

Mean, E x_i = 0 and Var x_i <= v. From exp(x - x^2 / 6) <= 1 + x + x^2 / 3 (Delyon 2009, section 2),

    E exp(l sum x_i - l^2 / 2 V) <= 1,    V = (sum x_i^2 + 2 n v) / 3,

and l = sqrt(2 L / (n v)) makes a limit of the mean of sqrt(2 L v / n) (5 + sum x_i^2 / (n v)) / 6:
that of a normal mean's own Chernoff bound where the draws vary as they may.

Ceiling, draws y_i >= 0 over what they are at most on the average: x_i = y_i - 1 >= -1, E x_i <= 0.
From log(1 + l x) >= l x - psi x^2, psi = -l - log(1 - l), for 0 <= l < 1 (Fan, Grama & Liu 2015),

    E exp(l sum x_i - psi sum x_i^2) <= 1,    whatever the variance of x_i;

l is that of a variance of ``spread``.

Shares and totals are held against their distributions themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, bdtrc, ndtri

from kernelproof.spec.statistics import CHANCE, Array, Ceiling, Mean, Measured, Share, Total

POWER = 0.9
"""With which probability an effect of the size that is called visible is seen."""

_REACH = float(ndtri(POWER))


@dataclass(frozen=True)
class Surprise:
    """One measurement, judged: ``ratio`` is its distance over what chance allows.

    visible: about the smallest deviation from what is wanted that would fail with probability
        ``POWER``.
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
            return (
                f"{m.name}: {m.hits:,} of {m.trials:,} ({m.hits / m.trials:.4g}), wanted "
                f"{m.probability:.4g}; {self.visible:.2g} more or less would show"
            )
        wanted = _expected(m.law) if isinstance(m, Total) else m.wanted
        limit, off = ("at most ", "more") if isinstance(m, Ceiling) else ("", "off")
        return (
            f"{m.name}: {m.draws.mean():.5g} over {m.draws.size:,} draws, wanted "
            f"{limit}{wanted:.5g}; {self.visible:.2g} {off} would show"
        )


def judge_statistics(measured: Sequence[Measured]) -> list[Surprise]:
    """All measurements of one check: together they fail a right implementation with ``CHANCE`` at
    most. What is no number is as far off as can be. Raises ValueError where there are none."""
    if not measured:
        raise ValueError("a statistic measures at least one thing")
    return [_surprise(each, CHANCE / len(measured)) for each in measured]


def _surprise(measured: Measured, chance: float) -> Surprise:
    match measured:
        case Mean():
            return _of_mean(measured, chance)
        case Ceiling():
            return _of_ceiling(measured, chance)
        case Share():
            return _of_share(measured, chance)
        case Total():
            return _of_total(measured, chance)


def _of_mean(mean: Mean, chance: float) -> Surprise:
    """Either side gets half of what chance may do."""
    away, n = mean.draws - mean.wanted, mean.draws.size
    if not np.isfinite(away).all():
        return Surprise(mean, math.inf, math.inf)
    likely = math.sqrt(2 * math.log(2 / chance) * mean.variance / n)
    allowed = likely * (5 + float((away**2).mean()) / mean.variance) / 6
    visible = allowed + _REACH * math.sqrt(mean.variance / n)
    return Surprise(mean, float(abs(away.mean()) / allowed), float(visible))


def _of_ceiling(ceiling: Ceiling, chance: float) -> Surprise:
    away, n = ceiling.draws / ceiling.wanted - 1, ceiling.draws.size
    if not np.isfinite(away).all():
        return Surprise(ceiling, math.inf, math.inf)
    if (away < -1).any():
        raise ValueError(f"{ceiling.name}: a draw is below 0, and a ceiling is of none that are")
    log = math.log(1 / chance) / n
    step = min(math.sqrt(2 * log / ceiling.spread), 0.5)
    allowed = (log - (step + math.log1p(-step)) * float((away**2).mean())) / step
    visible = (allowed + _REACH * float(away.std()) / math.sqrt(n)) * ceiling.wanted
    return Surprise(ceiling, float(max(away.mean(), 0.0) / allowed), float(visible))


def _of_share(share: Share, chance: float) -> Surprise:
    k, n, p = share.hits, share.trials, share.probability
    tails = float(bdtr(k, n, p)), float(bdtrc(k - 1, n, p)) if k else 1.0
    return _of_tails(share, tails, math.sqrt(p * (1 - p) / n), chance)


def _of_total(total: Total, chance: float) -> Surprise:
    """The law of a sum is a convolution, a product of Fourier transforms: right to 1e-14."""
    n, seen, expected = total.draws.size, float(total.draws.sum()), _expected(total.law)
    spread = math.sqrt((_expected(total.law, 2) - expected**2) / n)
    size = n * (total.law.size - 1) + 1
    law = np.fft.irfft(np.fft.rfft(total.law, size) ** n, size)
    k = int(seen) if 0 <= seen < size else 0
    tails = (float(law[: k + 1].sum()), float(law[k:].sum())) if k == seen else (0.0, 0.0)
    return _of_tails(total, tails, spread, chance)


def _expected(law: Array, power: int = 1) -> float:
    return float(law @ np.arange(law.size, dtype=np.float64) ** power)


def _of_tails(
    measured: Measured, tails: tuple[float, float], spread: float, chance: float
) -> Surprise:
    """The distance at which a normal variable has these exact tails, the smaller one."""
    allowed, tail = -float(ndtri(chance / 2)), min(*tails, 0.5)
    away = -float(ndtri(tail)) if tail > 0 else math.inf
    return Surprise(measured, away / allowed, float((allowed + _REACH) * spread))
