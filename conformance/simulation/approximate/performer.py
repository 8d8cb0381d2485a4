"""Attention through random features with every rounding in the open."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic
from kernelproof.conformance.simulation.family import Family
from kernelproof.reference.approximate.performer import FeatureAttention


def chunked(exact: FeatureAttention, rounded: Arithmetic, *, chunk: int = 64) -> dict[str, Tensor]:
    """out (b h t dv): under causal chunk by chunk, else by one state of all keys."""
    rows, keys = _lifted(exact, "q", (-1,), rounded), _lifted(exact, "k", (-2, -1), rounded)
    v = _tensor(exact.v)
    values = torch.cat([v, torch.ones_like(v[..., :1])], -1)
    if exact.causal is None:
        state = rounded("weights", rounded.dot("state", keys.mT, values))
        return _divided(rounded.dot("sums", rows, state), rounded)
    state = values.new_zeros(*v.shape[:2], rows.shape[-1], values.shape[-1])
    parts: list[Tensor] = []
    for q, k, x in zip(*(each.split(chunk, -2) for each in (rows, keys, values)), strict=True):
        within = rounded("weights", rounded.dot("within", q, k.mT).tril())
        own = rounded.dot("sums", within, x)
        parts.append(rounded.dot("sums", q, rounded("weights", state), own))
        state = rounded.dot("state", k.mT, x, state)
    return _divided(torch.cat(parts, -2), rounded)


def weighed(exact: FeatureAttention, rounded: Arithmetic) -> dict[str, Tensor]:
    """The weights of all pairs, and their mean of v."""
    rows, keys = _lifted(exact, "q", (-1,), rounded), _lifted(exact, "k", (-2, -1), rounded)
    weights = rounded.dot("within", rows, keys.mT)
    weights = rounded("weights", weights if exact.causal is None else weights.tril())
    v = _tensor(exact.v)
    values = torch.cat([v, torch.ones_like(v[..., :1])], -1)
    return _divided(rounded.dot("sums", weights, values), rounded)


def _divided(sums: Tensor, rounded: Arithmetic) -> dict[str, Tensor]:
    total = sums[..., -1:]
    result = rounded("result", sums[..., :-1] / total.masked_fill(total == 0, 1))
    return {"out": rounded("out", result)}


def _tensor(x: Any) -> Tensor:
    return torch.from_numpy(np.array(x, np.float64))


def _lifted(exact: FeatureAttention, name: str, over: Sequence[int], rounded: Arithmetic) -> Tensor:
    """phi of q or k, as it is stored."""
    x, w = _tensor(getattr(exact, name)), _tensor(exact.features)
    scale = rounded("scale", torch.tensor(x.shape[-1] ** -0.25, dtype=torch.float64))
    x = rounded("scaled_query", rounded("scaled", x * scale))
    along = rounded("scores", rounded.dot("along", x, w.mT))
    half = rounded.dot("sum", x[..., None, :], x[..., :, None])[..., 0] / 2
    if exact.kind == "relu":
        return rounded("weights", along.relu())
    exponents = {
        "positive": lambda: rounded("logits", along - half),
        "hyperbolic": lambda: rounded("logits", torch.cat([along, -along], -1) - half),
        "trig": lambda: half,
    }[exact.kind]()
    lowered = rounded("logits", exponents - exponents.amax(tuple(over), keepdim=True))
    phi = rounded("exps", torch.exp(lowered))
    if exact.kind == "trig":
        waves = rounded("waves", torch.cat([along.sin(), along.cos()], -1))
        phi = rounded("exps", phi * waves)
    return rounded("weights", phi)


FAMILY = Family(
    usual=chunked,
    wide=chunked,
    eager=weighed,
    others={"all-pairs": weighed, "chunks-of-16": partial(chunked, chunk=16)},
    size=lambda exact: exact.weights.size + exact.q.size * exact.features.shape[0] // 16,
)
