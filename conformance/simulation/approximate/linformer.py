"""Attention over projected keys with every rounding in the open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic
from kernelproof.conformance.simulation.attention.scaled_dot_product import FAMILY as ATTENTION
from kernelproof.conformance.simulation.family import Family, Simulation
from kernelproof.reference.approximate.linformer import ProjectedAttention


def _over(attend: Simulation) -> Simulation:
    """out (b h t dv), by one of the simulations of attention over what is mixed."""

    def simulate(exact: ProjectedAttention, rounded: Arithmetic) -> dict[str, Tensor]:
        k = _mixed(exact.proj_k, exact.k, rounded)
        v = _mixed(exact.proj_v, exact.v, rounded)
        return {"out": attend(replace(exact.attention, k=k, v=v), rounded)["out"]}

    return simulate


def _mixed(projection: Any, x: Any, rounded: Arithmetic) -> Any:
    made = rounded.dot(
        "mixed", *(torch.from_numpy(np.array(y, np.float64)) for y in (projection, x))
    )
    return np.asarray(torch.Tensor.numpy(rounded("intermediates", made)))


FAMILY = Family(
    usual=_over(ATTENTION.usual),
    wide=_over(ATTENTION.wide),
    eager=_over(ATTENTION.eager),
    others={name: _over(each) for name, each in ATTENTION.others.items()},
    size=lambda exact: exact.attention.scores.size + exact.k.size * len(exact.proj_k) // 16,
)
