"""Safe softmax with every rounding in the open: maximum, sum, division."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic
from kernelproof.conformance.simulation.family import Family
from kernelproof.reference.softmax.safe import Softmax


def numbers(exact: Softmax) -> Tensor:
    """x: r n."""
    return torch.from_numpy(np.asarray(exact.x, np.float64))


def shifted_exps(x: Tensor, top: Tensor, r: Arithmetic) -> Tensor:
    """exp(x - top); a row of only -inf is shifted by 0: exp(-inf) = 0."""
    shift = torch.where(top == -torch.inf, 0.0, top)
    return r("exps", torch.exp(r("logits", x - shift)))


def total_of(exps: Tensor, r: Arithmetic) -> Tensor:
    """The sum of each row: r 1."""
    return r.dot("sum", exps, torch.ones(exps.shape[-1], 1, dtype=torch.float64))


def divided(exps: Tensor, total: Tensor, r: Arithmetic) -> Tensor:
    """out, 0 in a row of only -inf."""
    return r("out", r("result", exps / torch.where(total == 0, 1.0, total)))


def three_passes(exact: Softmax, r: Arithmetic, *, tile: int | None = None) -> dict[str, Tensor]:
    """out (r n), the sum taken tile by tile and added up."""
    x = numbers(exact)
    if not x.numel():
        return {"out": x}
    exps = shifted_exps(x, x.amax(-1, keepdim=True), r)
    total = x.new_zeros(len(x), 1)
    for part in exps.split(tile or x.shape[1], dim=1):
        total = r("sum", total + total_of(part, r))
    return {"out": divided(exps, total, r)}


FAMILY = Family(
    usual=three_passes,
    wide=three_passes,
    eager=three_passes,
    others={
        "narrow-tiles": partial(three_passes, tile=16),
        "wide-tiles": partial(three_passes, tile=256),
    },
    size=lambda exact: exact.x.size,
)
