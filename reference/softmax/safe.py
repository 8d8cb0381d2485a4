"""Softmax over the last axis, shifted by the maximum of each row so that no exp overflows:

m_i = max_j x_ij        l_i = sum_j exp(x_ij - m_i)        out_ij = exp(x_ij - m_i) / l_i
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Softmax:
    """x and out: r n; lse_i = m_i + log l_i: r."""

    x: Array
    out: Array
    lse: Array


def safe(x: Array) -> Softmax:
    """The softmax of the rows of x: r n. A row of only -inf gives zeros, and lse = -inf."""
    top = x.max(-1, keepdims=True, initial=-np.inf)
    exps = np.exp(x - np.where(top == -np.inf, 0, top))
    total = exps.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = (top + np.log(total))[..., 0]
    return Softmax(x, exps / np.where(total == 0, 1, total), lse)
