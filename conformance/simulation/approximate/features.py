"""Orthogonal features with every rounding in the open: Gram-Schmidt taken twice, and reflectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic
from kernelproof.conformance.simulation.family import Family, Simulation
from kernelproof.reference.approximate.features import Orthogonal

Directions = Callable[[Tensor, Arithmetic], Tensor]


def _simulation(directions: Directions) -> Simulation:
    """features (r d), of directions for the rows of a block."""

    def simulate(exact: Orthogonal, rounded: Arithmetic) -> dict[str, Tensor]:
        rows, norms = _tensor(exact.gaussians), _tensor(exact.norms)
        made = torch.cat([directions(block, rounded) for block in rows.split(rows.shape[1])])
        return {"features": rounded("out", rounded("scaled", norms[:, None] * made))}

    return simulate


def _tensor(x: Any) -> Tensor:
    return torch.from_numpy(np.array(x, np.float64))


def _length(x: Tensor, rounded: Arithmetic) -> Tensor:
    return rounded("length", rounded.dot("sum", x[None], x[:, None])[0, 0].sqrt())


def _gram_schmidt(block: Tensor, rounded: Arithmetic) -> Tensor:
    made = block.new_zeros(0, block.shape[1])
    for row in block:
        rest = row[:, None]
        for _ in range(2):
            along = rounded.dot("sum", made, rest)
            rest = rounded("rest", rest - rounded.dot("sum", made.T, along))
        unit = rounded("direction", rest[:, 0] / _length(rest[:, 0], rounded))
        made = torch.cat([made, unit[None]])
    return made


def _reflected(block: Tensor, rounded: Arithmetic) -> Tensor:
    """Householder's factorisation of the columns, their diagonal made positive."""
    x, vectors, signs = block.T.clone(), [], []
    for k in range(x.shape[1]):
        column = x[k:, k]
        length = _length(column, rounded)
        sign = -1.0 if column[0] < 0 else 1.0
        v = rounded("reflector", column / rounded("pivot", column[0] + sign * length))
        v[0] = 1.0
        tau = rounded("tau", 2 / rounded.dot("sum", v[None], v[:, None])[0, 0])
        x[k:] = _reflect(x[k:], v, tau, rounded)
        vectors.append((v, tau))
        signs.append(-sign)
    q = torch.eye(*x.shape, dtype=torch.float64)
    for k, (v, tau) in reversed(list(enumerate(vectors))):
        q[k:] = _reflect(q[k:], v, tau, rounded)
    return q.T * torch.tensor(signs, dtype=torch.float64)[:, None]


def _reflect(x: Tensor, v: Tensor, tau: Tensor, rounded: Arithmetic) -> Tensor:
    along = rounded("along", tau * rounded.dot("sum", v[None], x))
    return rounded("rest", x - rounded("step", v[:, None] * along))


FAMILY = Family(
    usual=_simulation(_gram_schmidt),
    wide=_simulation(_gram_schmidt),
    eager=_simulation(_gram_schmidt),
    others={"reflectors": _simulation(_reflected)},
    size=lambda exact: exact.features.size * exact.features.shape[1] // 4,
)
