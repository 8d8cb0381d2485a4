"""How far random features estimate exp(x . y) from what it is: mean square errors in closed form.

    SM = exp(x . y) = E L f(w . z)    positive      f = exp     L = exp(-(|x|^2 + |y|^2) / 2)
                                      hyperbolic        cosh    the same
                                      trig              cos     L = exp((|x|^2 + |y|^2) / 2)

with z = x + y, of trig x - y, and estimated by the mean over m rows w_i. Each w_i . z is normal, of
variance s = |z|^2: independent rows have the error L^2 Var f / m (Choromanski et al. 2021, lemma
2; trig after Rahimi & Recht 2007):

    positive    exp(|x + y|^2) SM^2 (1 - exp(-|x + y|^2)) / m
    hyperbolic  half of that, times 1 - exp(-|x + y|^2)
    trig        exp(|x + y|^2) SM^-2 (1 - exp(-|x - y|^2))^2 / 2 m

Of orthogonal rows, of the lengths of independent ones, every two have a covariance, too. As |w_i +
w_j|^2 is chi squared of 2 d degrees, in a direction that is uniform,

    E exp((w_i + w_j) . z) = sum_k (d)_k / (d / 2)_k (s / 2)^k / k! = 1F1(d; d / 2; s / 2),

and as much with w_i - w_j, so that all three kinds have the error L^2 (Var f + (m - 1) C) / m with

    positive, hyperbolic    C = 1F1(d; d / 2; s / 2) - exp(s)
    trig                    C = 1F1(d; d / 2; -s / 2) - exp(-s)

The first C is below 0 in every dimension from 2 on and at every z but 0: (d)_k / (d / 2)_k is a
product of 2 (d + i) / (d + 2 i), below 2^k from k = 2 on, and exp(s) = sum_k 2^k (s / 2)^k / k!.
Positive and hyperbolic estimates of orthogonal features are less spread than those of independent
ones. The terms of the second C have either sign: it has to be computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import hyp1f1

Array = npt.NDArray[Any]

KINDS = ("positive", "hyperbolic", "trig")


def independent_error(kind: str, x: Array, y: Array, m: int) -> float:
    """Mean square error of the estimate by m independent rows."""
    softmax, along, apart = np.exp(x @ y), ((x + y) ** 2).sum(), ((x - y) ** 2).sum()
    of_one = {
        "positive": np.exp(along) * softmax**2 * (1 - np.exp(-along)),
        "hyperbolic": np.exp(along) * softmax**2 * (1 - np.exp(-along)) ** 2 / 2,
        "trig": np.exp(along) / softmax**2 * (1 - np.exp(-apart)) ** 2 / 2,
    }[kind]
    return float(of_one / m)


def orthogonal_error(kind: str, x: Array, y: Array, m: int) -> float:
    """The same of m orthogonal rows, m <= d."""
    return independent_error(kind, x, y, m) + (m - 1) / m * covariance(kind, x, y)


def covariance(kind: str, x: Array, y: Array) -> float:
    """Of the estimates by two orthogonal rows."""
    d, squares = len(x), (x**2).sum() + (y**2).sum()
    sign = -1 if kind == "trig" else 1
    s = sign * ((x + sign * y) ** 2).sum()
    return float(np.exp(-sign * squares) * (hyp1f1(d, d / 2, s / 2) - np.exp(s)))


def orthogonal_bound(x: Array, y: Array, m: int) -> float:
    """What the error of m orthogonal rows of the positive kind is at most: that of independent
    ones less 2 (m - 1) / (m (d + 2)) (SM - L)^2 (Choromanski et al. 2021, theorem 2)."""
    least = np.exp(-((x**2).sum() + (y**2).sum()) / 2)
    gain = 2 * (m - 1) / (m * (len(x) + 2)) * (np.exp(x @ y) - least) ** 2
    return independent_error("positive", x, y, m) - float(gain)
