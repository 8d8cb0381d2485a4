"""Pooled heads with every rounding in the open: a sum, and a division."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic
from kernelproof.conformance.simulation.family import Family
from kernelproof.reference.attention.uptrain import Pooled


def pooled(exact: Pooled, rounded: Arithmetic, *, reciprocal: bool = False) -> dict[str, Tensor]:
    """out (e hkv*d): the sum over each group, divided by g or multiplied by a rounded 1/g."""
    heads = torch.from_numpy(np.asarray(exact.grouped, np.float64)).swapaxes(2, 3)
    group = heads.shape[-1]
    total = rounded.dot("sum", heads, torch.ones(group, 1, dtype=torch.float64))
    share = rounded("reciprocal", torch.tensor(1 / group, dtype=torch.float64))
    mean = rounded("mean", total * share if reciprocal else total / group)
    return {"out": rounded("out", mean.reshape(exact.out.shape))}


def _one_by_one(exact: Pooled, rounded: Arithmetic) -> dict[str, Tensor]:
    """The heads are added one after another, the last first."""
    total = torch.zeros(1, dtype=torch.float64)
    for head in np.moveaxis(np.asarray(exact.grouped, np.float64), 2, 0)[::-1]:
        total = rounded("sum", total + torch.from_numpy(head.copy()))
    mean = rounded("mean", total / exact.grouped.shape[2])
    return {"out": rounded("out", mean.reshape(exact.out.shape))}


def _by_reciprocal(exact: Pooled, rounded: Arithmetic) -> dict[str, Tensor]:
    return pooled(exact, rounded, reciprocal=True)


FAMILY = Family(
    usual=pooled,
    wide=pooled,
    eager=pooled,
    others={"one-by-one": _one_by_one, "reciprocal": _by_reciprocal},
    size=lambda exact: exact.grouped.size,
)
