"""Complexity: the exponent with which a count grows, fitted over sizes, against a spec's claim.

Each count is within its budget, or the check has failed before. The exponent then says in one
number that the work is that of the algorithm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from kernelproof.conformance.costs import UNITS
from kernelproof.conformance.verdict import Verdict
from kernelproof.spec.language import Clause, Metric, Spec

Array: TypeAlias = npt.NDArray[np.float64]

CONFIDENCE = 0.95
RESOLUTION = 0.02
"""Exponents that are no further apart are the same: what second terms of lower order leave."""
WIDEST = 0.08
"""Half of the widest interval that says anything: it still tells log2 7 from 3."""
AT_MOST: tuple[Metric, ...] = ("traffic",)
"""Metrics that may grow more slowly than claimed: larger sizes may afford larger tiles."""


class Fit(NamedTuple):
    """An exponent and the interval of confidence about it."""

    exponent: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """How far the exponent may be off."""
        return (self.high - self.low) / 2


def fit_exponent(sizes: Sequence[int], counts: Sequence[int], gap: float = 1.0) -> Fit:
    """The p of count = c size^p (1 + s / size^gap), by least squares of relative errors.

    The first term weighs more, at the largest size at least. The interval holds every p whose
    residuals are no larger than those of the best by more than Student's t allows (``CONFIDENCE``);
    it is infinite where no p fits at all. Raises ValueError for counts that are not above 0.

    >>> round(fit_exponent([1, 2, 4, 8, 16], [3, 12, 48, 192, 768]).exponent, 6)
    2.0
    """
    if min(counts) <= 0:
        raise ValueError(f"counts {list(counts)}: wanted all above 0")
    from scipy.special import stdtrit  # a quarter of a second, for those who ask

    n, y = (np.asarray(each, np.float64) / max(each) for each in (sizes, counts))

    def residual(p: float) -> float:
        # the weights of the two terms are linear
        terms = np.stack([n**p, n ** (p - gap)], axis=1) / y[:, None]
        weights = np.linalg.lstsq(terms, np.ones_like(y))[0]
        dominant = weights[0] > abs(weights[1])
        return float(np.square(terms @ weights - 1).sum()) if dominant else np.inf

    slope = float(np.polyfit(np.log(n), np.log(y), 1)[0])
    best = _least(residual, slope, gap)
    least, freedom = residual(best), len(n) - 3
    if not np.isfinite(least):
        return Fit(slope, -np.inf, np.inf)
    allowed = least * (1 + stdtrit(freedom, (1 + CONFIDENCE) / 2) ** 2 / freedom) + 1e-15
    low, high = (_end(residual, best, side * 2 * gap, allowed) for side in (-1, 1))
    return Fit(best, low, high)


def _least(residual: Callable[[float], float], middle: float, reach: float) -> float:
    """The best of a grid that is refined about its best point."""
    grid = middle + np.linspace(-2 * reach, 2 * reach, 401)
    for _ in range(6):
        best = float(grid[int(np.argmin([residual(p) for p in grid]))])
        step = grid[1] - grid[0]
        grid = np.linspace(best - step, best + step, 41)
    return best


def _end(residual: Callable[[float], float], best: float, reach: float, allowed: float) -> float:
    """Where the residuals leave what is allowed, on one side; infinite if they do not within reach,
    or if there the other term would be the first."""
    inside, outside = 0.0, reach
    if residual(best + reach) <= allowed:
        return float(np.copysign(np.inf, reach))
    for _ in range(50):
        half = (inside + outside) / 2
        inside, outside = (half, outside) if residual(best + half) <= allowed else (inside, half)
    if not np.isfinite(residual(best + outside)):
        return float(np.copysign(np.inf, reach))
    return best + inside


def closed_form(spec: Spec, clause: Clause) -> Fit:
    """The exponent of the spec's own closed form, for the best tiles of the largest size, without
    what is apart."""
    assert clause.growth and clause.metric
    case = spec.case(f"{spec.domain.dtypes[0]}/{clause.core[0]}")
    points = [spec.sizes(point, dict(case.options)) for point in clause.growth.points(case)]
    best = spec.costs.best_tiles(points[-1])
    form, choose = getattr(spec.costs, clause.metric), clause.growth.tiles
    tiled = [x.with_tiles(**{**best, **(choose(x) if choose else {})}) for x in points]
    apart = clause.growth.apart or (lambda x: 0)
    counts = [form(x) - apart(x) for x in tiled]
    return fit_exponent(clause.growth.sizes, counts, clause.growth.gap)


def judge_growth(clause: Clause, counts: Sequence[int]) -> dict[str, Any]:
    """Verdict, ratio and the fitted exponent, as fields of a Result."""
    assert clause.growth and clause.metric
    growth, shown = clause.growth, _shown(clause, counts)
    if min(counts) <= 0:
        return {"verdict": Verdict.UNMEASURED, "message": f"nothing to fit: {shown}"}
    fit = fit_exponent(growth.sizes, counts, growth.gap)
    if not fit.half_width <= WIDEST:
        message = f"no power of the size fits, perhaps since tiles do not divide sizes: {shown}"
        return {"verdict": Verdict.UNMEASURED, "message": message}
    away = fit.exponent - growth.exponent
    away = max(away, 0.0) if clause.metric in AT_MOST else abs(away)
    ratio = away / (fit.half_width + RESOLUTION)
    found = {"exponent": list(fit), "ratio": ratio}
    if ratio <= 1:
        return found
    message = (
        f"{shown} grow with the power {fit.exponent:.3f} ({fit.low:.3f} to {fit.high:.3f}): wanted "
        f"{growth.exponent:.4g}"
    )
    return {**found, "verdict": Verdict.FAIL, "message": message}


def _shown(clause: Clause, counts: Sequence[int]) -> str:
    assert clause.growth and clause.metric
    sizes = " = ".join(clause.growth.axes)
    pairs = zip(clause.growth.sizes, counts, strict=True)
    each = ", ".join(f"{count:,} at {size}" for size, count in pairs)
    return f"{UNITS[clause.metric]} where {sizes}: {each}"
