"""Is a time difference real: the statistics of timed metrics, on logarithms of medians.

A *pair* is one fresh process of the base and one of the head, measured one after the other in the
order that a coin gave (``head_first``); d = log(head) - log(base) of their medians. The rule:

1. Screen. Every series has ``rule.processes`` pairs. It is a suspect if the Hodges-Lehmann
   estimate (median of the Walsh averages (d_i + d_j) / 2, i <= j) is ``rule.screen`` or more on
   either side, or if its noise is too large for step 4 to say more than ``inconclusive``.
2. Confirm. A suspect alone is measured again, in ``rule.confirm`` new pairs, and judged by these
   only: what chance made large in the screen has no part in them.
3. It is ``slower`` (``faster``) if a signed-rank test, exact and two-sided, rejects at
   ``rule.alpha`` with Holm's correction over all suspects, and the estimate is ``rule.budget`` or
   more on that side. The test is Wilcoxon's with ranks capped at ``CAP``: the smallest differences
   count less, all others alike, so that one spike weighs no more than any other pair.
4. Otherwise it is ``inconclusive`` if the estimate is ``rule.budget`` or more without that
   evidence, or if an effect of ``rule.resolution`` is neither *detectable* (steps 1 to 3 find it at
   this noise with probability ``rule.power``) nor outside the interval of the estimate. What is
   left is a ``pass``.

Why no false alarm comes of the machine. If base and head are equal, the order alone decides which
of two times is called the head's; a fair coin makes the signs of all d independent and symmetric,
whatever the times were: drifting, correlated, heavy-tailed, of two modes (Fisher 1935, The Design
of Experiments, section 21). The p-value uses nothing else, the pairs of step 3 are new ones, and
Holm's correction holds under any dependence between series (Holm 1979): over all series of a
run, the chance of one false verdict is at most ``rule.alpha``. It breaks where base and head differ
in what is not the kernel: a cache that the first of them fills, a path, a build.

Family-wise, not a share of false discoveries: one false alarm stops somebody's work, however many
true ones stand beside it; so not ``scipy.stats.false_discovery_control``.

The test asks whether there is a difference, the budget whether it matters. A test of "more than the
budget" would find a slow-down of exactly the budget as rarely as a false alarm. The price: a true
change a little below the budget is reported when noise lifts its estimate over it.

Why ``resolution`` is not the budget. A slow-down of exactly the budget is estimated below it half
the time, at any noise: the detectable effect is always above the budget, about 2.6 percent at 1
percent noise and the defaults. ``inconclusive`` is for what a user would call blind: a slow-down
of 5 percent could be there. What was planned may be too noisy by a little and the data tell all the
same; then the interval, not the power, is the answer (Hoenig and Heisey 2001).

Sources: Wilcoxon 1945; Hodges and Lehmann 1963; Hollander, Wolfe, Chicken 2014, chapter 3 (test,
estimate and interval from Walsh averages); Policello and Hettmansperger 1976 (capped ranks).
``benchmarks/gate_study.py`` measures all of this.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Verdict: TypeAlias = Literal["pass", "faster", "slower", "inconclusive"]

CAP = 5
"""The largest rank. Without a cap one spike on the wrong side costs the largest of all ranks: where
3 percent of processes had spikes, 24 pairs confirmed 76 percent of slow-downs by 10 percent among
120 suspects, and 98 percent with this cap. Gaussian noise sees no difference from 3 percent on."""

TRIALS = 2000
"""Simulated series behind a detectable effect; its quantile is then known to 2 percent."""


@dataclass(frozen=True)
class Rule:
    """How a time difference is judged; shares of a time, 0.02 = 2 percent.

    budget: the smallest slow-down that counts. alpha: chance of a false verdict in a whole run.
    processes: pairs of the screen. screen: effect that makes a suspect. confirm: pairs that judge
    one. resolution: largest detectable effect with which a series still passes. power: probability
    with which a detectable effect is found. confidence: of the interval of a single series.
    """

    budget: float = 0.02
    alpha: float = 0.01
    processes: int = 5
    screen: float = 0.012
    confirm: int = 24
    resolution: float = 0.05
    power: float = 0.9
    confidence: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.screen <= self.budget <= self.resolution:
            raise ValueError(
                f"wanted 0 < screen <= budget <= resolution, got {self.screen:g}, {self.budget:g}, "
                f"{self.resolution:g}: the screen must let through what the budget counts"
            )
        for name in ("alpha", "power", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"wanted {name} between 0 and 1, got {getattr(self, name):g}")
        if self.processes < 3:
            raise ValueError(f"wanted 3 pairs or more to screen by, got {self.processes}")
        if critical(self.confirm, self.alpha) < 0:
            raise ValueError(
                f"{self.confirm} pairs cannot prove anything at {self.alpha:g}: their smallest "
                f"p-value is {2.0 ** (1 - self.confirm):.2g}; raise confirm"
            )


@dataclass(frozen=True)
class Decision:
    """What is known of one series; shares of the base's time, +0.03 = 3 percent slower.

    effect, interval: Hodges-Lehmann estimate and its interval at ``rule.confidence``, from the
    ``pairs`` pairs that decided. minimum_detectable_effect: found with probability ``rule.power``.
    p: adjusted for all suspects; 1 of what was none. noise: of one process's median.
    """

    verdict: Verdict
    effect: float
    interval: tuple[float, float]
    minimum_detectable_effect: float
    p: float
    noise: float
    pairs: int


def head_first(pairs: int, seed: int | str) -> list[bool]:
    """The coins: whether the head is measured before the base, pair by pair."""
    coin = random.Random(f"order of base and head {seed}")
    return [coin.random() < 0.5 for _ in range(pairs)]


def screen(base: Sequence[Any], head: Sequence[Any], rule: Rule) -> list[int]:
    """The series to measure again, by index.

    base, head: per series, log medians of processes in the order of their pairs; the first
    ``rule.processes`` of them are looked at.
    """
    first = _first(_paired(base, head, rule), rule)
    return [int(i) for i in np.flatnonzero(_suspected(first, rule))]


def decide(base: Sequence[Any], head: Sequence[Any], rule: Rule) -> list[Decision]:
    """One decision for each series.

    base, head: as of ``screen``; the pairs of suspects that follow the first ``rule.processes`` are
    those that confirm. A suspect without any is ``inconclusive``.
    """
    pairs = _paired(base, head, rule)
    first = _first(pairs, rule)
    suspects = [int(i) for i in np.flatnonzero(_suspected(first, rule))]
    fresh = {i: pairs[i][rule.processes :] for i in suspects}
    p_values = dict(zip(suspects, holm([signed_rank_p(fresh[i]) for i in suspects]), strict=True))
    clear = np.delete(np.arange(len(pairs)), suspects)
    # had a clear series been a suspect, it would have been one more of them
    seen = dict.fromkeys(range(len(pairs)), np.inf)
    seen |= _seen(first[clear], clear, rule.confirm, rule, len(suspects) + 1)
    for i in suspects:
        seen |= _seen(fresh[i][None], [i], len(fresh[i]), rule, len(suspects))
    judged = {i: d for i, d in fresh.items() if len(d)}
    return [
        _decided(judged.get(i, row), p_values.get(i, 1.0), seen[i], rule)
        for i, row in enumerate(first)
    ]


def detectable(noise: float, processes: int, rule: Rule, *, suspects: int = 1) -> float:
    """The slow-down that is found with probability ``rule.power``; inf if none can be.

    noise: of one process's log median, Gaussian. processes: pairs that confirm. suspects: series
    that share ``rule.alpha``. All steps of the rule are linear in the noise, so each of ``TRIALS``
    simulated series has its own smallest slow-down that passes screen, budget and test.
    """
    tolerated = critical(processes, rule.alpha / suspects)
    return float(_detectable(np.array([noise]), processes, rule, tolerated)[0])


def walsh_averages(d: Array) -> Array:
    """(d_i + d_j) / 2 for i <= j, ascending. d: ... pairs. -> ... pairs (pairs + 1) / 2."""
    i, j = np.triu_indices(d.shape[-1])
    return np.sort((d[..., i] + d[..., j]) / 2, axis=-1)


def hodges_lehmann(d: Array) -> Array:
    """The median of the Walsh averages. d: ... pairs. -> ..."""
    return np.asarray(np.median(walsh_averages(d), axis=-1))


def pair_noise(d: Array) -> Array:
    """Standard deviation of a process's log median: median |d_i - d_j| over a Gaussian's.

    d: ... pairs. -> ... It takes 29 percent of wild pairs (Rousseeuw and Croux 1993): one spike
    in five is not noise, two are. A pair has two processes, hence sqrt(2).
    """
    i, j = np.triu_indices(d.shape[-1], 1)
    median = np.median(np.abs(d[..., i] - d[..., j]), axis=-1)
    return np.asarray(median / (2 * 0.6744897501960817))


@lru_cache(maxsize=256)
def signed_rank_distribution(pairs: int, cap: int = CAP) -> Array:
    """P(W <= w) of the sum of ranks 1 .. pairs, none above cap, with random signs, for every w."""
    density = np.ones(1)
    for rank in range(1, pairs + 1):
        density = np.convolve(density, [0.5, *[0.0] * (min(rank, cap) - 1), 0.5])
    return np.cumsum(density)


def signed_rank_p(d: Array, cap: int = CAP) -> Array:
    """The exact two-sided p-value. d: ... pairs. -> ..."""
    against = np.minimum(_against(d, cap), _against(-d, cap))
    return np.asarray(np.minimum(2 * signed_rank_distribution(d.shape[-1], cap)[against], 1.0))


def _against(d: Array, cap: int) -> Array:
    """The sum of the ranks of all d that are not above 0, by size.

    Zeros count on both sides, and of equal sizes those below 0 come last: ties make the test more
    careful, never less.
    """
    wrong = d <= 0
    by_size = np.take_along_axis(wrong, np.lexsort((wrong, np.abs(d)), axis=-1), axis=-1)
    return np.asarray((by_size * np.minimum(np.arange(d.shape[-1]) + 1, cap)).sum(-1))


def critical(pairs: int, level: float, cap: int = CAP) -> int:
    """The largest rank sum of one sign whose two-sided p-value is at most level; -1: none is."""
    return int(np.searchsorted(2 * signed_rank_distribution(pairs, cap), level, "right")) - 1


def holm(p_values: Sequence[Any]) -> list[float]:
    """Adjusted p-values: max over j <= i of (m - j) p_(j), ascending (Holm 1979)."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(steps, 1.0)
    return [float(each) for each in adjusted]


def _paired(base: Sequence[Any], head: Sequence[Any], rule: Rule) -> list[Array]:
    """d of every series."""
    if len(base) != len(head):
        raise ValueError(f"{len(base)} series of the base, {len(head)} of the head: wanted pairs")
    pairs = []
    for i, (one, other) in enumerate(zip(base, head, strict=True)):
        if len(one) != len(other) or len(one) < rule.processes:
            raise ValueError(
                f"series {i} has {len(one)} processes of the base and {len(other)} of the head: "
                f"wanted {rule.processes} or more of each, in pairs"
            )
        d = np.asarray(other, float) - np.asarray(one, float)
        if not np.isfinite(d).all():
            raise ValueError(
                f"series {i} has times that are not finite: wanted logarithms of s > 0"
            )
        pairs.append(d)
    return pairs


def _first(pairs: Sequence[Array], rule: Rule) -> Array:
    """The pairs of the screen: series pairs."""
    return np.array([d[: rule.processes] for d in pairs]).reshape(len(pairs), rule.processes)


def _suspected(d: Array, rule: Rule) -> Array:
    """Whether each series is to be measured again. d: series pairs. -> series."""
    if not len(d):
        return np.zeros(0, bool)
    noise = pair_noise(d)
    suspected = np.abs(hodges_lehmann(d)) >= np.log1p(rule.screen)
    while True:
        # each suspect takes from what the others can prove: the blind may become more
        tolerated = critical(rule.confirm, rule.alpha / (suspected.sum() + 1))
        more = suspected | (noise > _largest_noise(rule, tolerated))
        if more.sum() == suspected.sum():
            return np.asarray(more)
        suspected = more


def _decided(d: Array, p: float, seen: float, rule: Rule) -> Decision:
    """The verdict by the pairs d. seen: the detectable effect."""
    effect, averages = float(hodges_lehmann(d)), walsh_averages(d)
    # with uncapped ranks, those below 0 sum up to the number of Walsh averages there (Tukey 1949)
    outside = max(critical(len(d), 1 - rule.confidence, cap=len(d)), 0)
    low, high = float(averages[outside]), float(averages[-1 - outside])
    verdict: Verdict = "pass"
    if abs(effect) >= np.log1p(rule.budget):
        verdict = "inconclusive"
        if p <= rule.alpha:
            verdict = "slower" if effect > 0 else "faster"
    elif seen > rule.resolution:
        excluded = max(-low, high) < np.log1p(rule.resolution)
        # inf: nothing was measured again, or too little to prove anything
        verdict = "pass" if excluded and np.isfinite(seen) else "inconclusive"
    return Decision(
        verdict,
        float(np.expm1(effect)),
        (float(np.expm1(low)), float(np.expm1(high))),
        seen,
        p,
        float(pair_noise(d)),
        len(d),
    )


def _seen(d: Array, series: Any, pairs: int, rule: Rule, suspects: int) -> dict[int, float]:
    """The detectable effects of series, by their index. d: series pairs."""
    if not pairs:
        return dict.fromkeys((int(i) for i in series), np.inf)
    tolerated = critical(pairs, rule.alpha / suspects)
    found = _detectable(pair_noise(d), pairs, rule, tolerated)
    return {int(i): float(each) for i, each in zip(series, found, strict=True)}


@lru_cache(maxsize=16)
def _trials(screening: int, confirming: int) -> tuple[Array, Array, Array]:
    """Simulated series of noise 1: estimates of the screen and of confirming, pairs of that."""
    rng = np.random.default_rng(20)
    # a pair has the noise of two processes
    before = np.sqrt(2) * rng.standard_normal((TRIALS, screening))
    after = np.sqrt(2) * rng.standard_normal((TRIALS, confirming))
    return hodges_lehmann(before), hodges_lehmann(after), after


@lru_cache(maxsize=256)
def _least_rejected(screening: int, confirming: int, tolerated: int) -> Array:
    """The smallest shift of each trial at which its rank sum against is tolerated, and no more."""
    d = _trials(screening, confirming)[2]
    low, high = -d.max(-1), -d.min(-1)  # none is above 0, none below
    for _ in range(24):
        middle = (low + high) / 2
        rejects = _against(d + middle[:, None], CAP) <= tolerated
        low, high = np.where(rejects, low, middle), np.where(rejects, middle, high)
    return np.asarray(high)


def _detectable(noise: Array, pairs: int, rule: Rule, tolerated: int) -> Array:
    """``detectable`` of several noises; tolerated: the largest rank sum that rejects."""
    if tolerated < 0:
        return np.full(noise.shape, np.inf)
    screened, estimate, _ = _trials(rule.processes, pairs)
    rejected = _least_rejected(rule.processes, pairs, tolerated)
    least = np.maximum(np.multiply.outer(noise, rejected), 0)
    least = np.maximum(least, np.log1p(rule.budget) - np.multiply.outer(noise, estimate))
    least = np.maximum(least, np.log1p(rule.screen) - np.multiply.outer(noise, screened))
    return np.asarray(np.expm1(np.quantile(least, rule.power, axis=-1)))


@lru_cache(maxsize=256)
def _largest_noise(rule: Rule, tolerated: int) -> float:
    """The noise at which the detectable effect is the resolution; -1 if nothing can be proved."""
    low, high = -1.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        seen = _detectable(np.array([max(middle, 0.0)]), rule.confirm, rule, tolerated)[0]
        low, high = (low, middle) if seen > rule.resolution else (middle, high)
    return low
