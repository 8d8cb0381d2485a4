"""Complexity: the exponent with which a count grows, fitted over sizes, against what a spec claims.

Counts have no noise. What makes the exponent uncertain is what the power does not say: terms of
lower order, the largest of which is fitted too, and tiles that do not divide a size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from kernelproof.conformance.verdict import Verdict
from kernelproof.spec.language import Clause, Metric, Spec

Array: TypeAlias = npt.NDArray[np.float64]

CONFIDENCE = 0.95
RESOLUTION = 0.02
"""Exponents that are no further apart are the same: what second terms of lower order leave."""
WIDEST = 0.08
"""Half of the widest interval that says anything: it still tells log2 7 from 3."""
UPPER: tuple[Metric, ...] = ("traffic",)
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


def fit_exponent(sizes: Sequence[int], counts: Sequence[int], lower: float = 1.0) -> Fit:
    """The p of count = c size^p (1 + s / size^lower), by least squares.

    s is what the next term weighs: the diagonal of causal tiles, a first read.
    The interval is Student's t of the residuals (``CONFIDENCE``). Raises ValueError for counts that
    are not above 0.

    >>> fit_exponent([1, 2, 4, 8, 16], [3, 12, 48, 192, 768])[0].__round__(6)
    2.0
    """
    if min(counts) <= 0:
        raise ValueError(f"counts {list(counts)}: wanted all above 0")
    from scipy.special import stdtrit  # a quarter of a second, for those who ask

    n, y = (np.asarray(each, np.float64) / max(each) for each in (sizes, counts))
    found = _nearest(n, y, lower)
    for _ in range(20):  # Gauss and Newton, from so near that each step doubles the digits
        residual, terms = _linearised(n, y, lower, found)
        found = found + np.linalg.lstsq(terms, residual)[0]
    residual, terms = _linearised(n, y, lower, found)
    freedom = len(n) - terms.shape[1]
    variance = np.square(residual).sum() / freedom * np.linalg.inv(terms.T @ terms)[0, 0]
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2) * np.sqrt(variance))
    return Fit(float(found[0]), float(found[0]) - half, float(found[0]) + half)


def _linearised(n: Array, y: Array, lower: float, found: Array) -> tuple[Array, Array]:
    """Relative residuals, and how they change with the exponent and the two weights."""
    p, first, second = found
    leading, following = n**p / y, n ** (p - lower) / y
    model = first * leading + second * following
    return 1 - model, np.stack([np.log(n) * model, leading, following], axis=1)


def _nearest(n: Array, y: Array, lower: float) -> Array:
    """Of exponents about the slope the nearest, with its two weights: they are linear."""
    slope = float(np.polyfit(np.log(n), np.log(y), 1)[0])
    tried = []
    for p in slope + lower * np.linspace(-2, 2, 81):
        terms = np.stack([n**p, n ** (p - lower)], axis=1) / y[:, None]
        weights = np.linalg.lstsq(terms, np.ones_like(y))[0]
        if weights[0] <= abs(weights[1]):
            continue  # the first term is the one that weighs more, at the largest size at least
        tried.append((float(np.square(terms @ weights - 1).sum()), [float(p), *weights]))
    return np.array(min(tried)[1])


def closed_form(spec: Spec, clause: Clause) -> Fit:
    """The exponent of the spec's own closed form, for the best tiles of the largest size."""
    assert clause.growth and clause.metric
    case = spec.case(f"{spec.domain.dtypes[0]}/{clause.core[0]}")
    points = [spec.sizes(point, dict(case.options)) for point in clause.growth.points(case)]
    best = spec.costs.best_tiles(points[-1])
    form, choose = getattr(spec.costs, clause.metric), clause.growth.tiles
    counts = [form(x.with_tiles(**{**best, **(choose(x) if choose else {})})) for x in points]
    return fit_exponent(clause.growth.sizes, counts, clause.growth.lower)


def finding(clause: Clause, counts: Sequence[int]) -> dict[str, Any]:
    """Verdict, ratio and the fitted exponent, as fields of a Result."""
    assert clause.growth and clause.metric
    growth, shown = clause.growth, _shown(clause, counts)
    if min(counts) <= 0:
        return {"verdict": Verdict.UNMEASURED, "message": f"nothing to fit: {shown}"}
    fit = fit_exponent(growth.sizes, counts, growth.lower)
    found = {"exponent": list(fit)}
    if fit.half_width > WIDEST:
        message = f"no power of the size fits: {shown}"
        return {**found, "verdict": Verdict.UNMEASURED, "message": message}
    away = fit.exponent - growth.exponent
    away = max(away, 0.0) if clause.metric in UPPER else abs(away)
    ratio = away / (fit.half_width + RESOLUTION)
    if ratio <= 1:
        return {**found, "ratio": ratio}
    message = (
        f"{shown} grow with the power {fit.exponent:.3f} ({fit.low:.3f} to {fit.high:.3f}): wanted "
        f"{growth.exponent:.4g}"
    )
    return {**found, "ratio": ratio, "verdict": Verdict.FAIL, "message": message}


_WORDS: Mapping[Metric, str] = {
    "traffic": "bytes moved",
    "flops": "FLOPs of products",
    "exps": "exponentials",
    "operations": "floating-point operations",
    "additions": "additions",
}


def _shown(clause: Clause, counts: Sequence[int]) -> str:
    assert clause.growth and clause.metric
    sizes = " = ".join(clause.growth.axes)
    pairs = zip(clause.growth.sizes, counts, strict=True)
    each = ", ".join(f"{count:,} at {size}" for size, count in pairs)
    return f"{_WORDS[clause.metric]} where {sizes}: {each}"
