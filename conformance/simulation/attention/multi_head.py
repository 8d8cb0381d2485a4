"""An attention layer with every rounding in the open: projections, attention, projection."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic
from kernelproof.conformance.simulation.attention.scaled_dot_product import (
    standard_attention,
    tiled_attention,
)
from kernelproof.conformance.simulation.family import Family, Simulation
from kernelproof.reference.attention.multi_head import Array, MultiHead, join_heads, split_heads
from kernelproof.reference.attention.scaled_dot_product import Attention


def layer(
    exact: MultiHead, rounded: Arithmetic, *, attention: Simulation = tiled_attention
) -> dict[str, Tensor]:
    """out, b tq e, with this attention between the projections."""
    out = attention(projected_attention(exact, rounded), rounded)["out"]
    joined = rounded("intermediates", torch.from_numpy(join_heads(out.numpy())))
    return {"out": rounded("out", _projected(joined, exact, 3, rounded))}


def projected_attention(exact: MultiHead, rounded: Arithmetic) -> Attention:
    """The record of the attention inside, of projections that are rounded."""
    q, k, v = (
        rounded("intermediates", _projected(as_tensor(x), exact, number, rounded))
        for number, x in enumerate((exact.x_q, exact.x_kv, exact.x_kv))
    )
    heads, kv_heads = exact.q.shape[1], exact.k.shape[1]
    queries = split_heads(q.numpy(), heads)
    keys, values = (
        split_heads(x.numpy(), kv_heads).repeat(heads // kv_heads, axis=1) for x in (k, v)
    )
    return replace(exact.attention, q=queries, k=keys, v=values)


def _projected(x: Tensor, exact: MultiHead, number: int, rounded: Arithmetic) -> Tensor:
    """x w + b, for one of the four projections."""
    weight = as_tensor(exact.weights[number])
    made = rounded.dot("projections", x, weight)
    if exact.biases is None:
        return made
    made = rounded("intermediates", made)
    return rounded("sums", made + as_tensor(exact.biases[number]))


def as_tensor(x: Array) -> Tensor:
    """In float64, in which every format is held."""
    return torch.from_numpy(np.asarray(x, np.float64))


def _size(exact: MultiHead) -> int:
    """Scores, and what sums of projections pass through."""
    terms: Any = exact.out.shape[-1] // 16 + 1
    return int(exact.attention.scores.size + terms * (exact.q.size + exact.k.size + exact.v.size))


_standard = partial(layer, attention=standard_attention)
FAMILY = Family(
    usual=layer,
    wide=partial(layer, attention=partial(tiled_attention, tile=128)),
    eager=_standard,
    others={
        "narrow-tiles": partial(layer, attention=partial(tiled_attention, tile=16)),
        "standard": _standard,
    },
    size=_size,
)
