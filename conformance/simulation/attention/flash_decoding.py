"""Flash-Decoding with every rounding in the open: the results of splits, merged by their lse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kernelproof.conformance.simulation.arithmetic import Arithmetic
from kernelproof.conformance.simulation.attention.scaled_dot_product import (
    attention_family,
    tiled_attention,
)
from kernelproof.reference.attention.flash_decoding import SplitAttention


def split_attention(exact: SplitAttention, rounded: Arithmetic) -> dict[str, Tensor]:
    """out and lse; as many splits as the record says, else three, each with an out and an lse."""
    tk = max(exact.k.shape[-2], 1)
    size = -(-tk // (exact.splits or 3))
    each = [tiled_attention(_part(exact, s, s + size), rounded) for s in range(0, tk, size)]
    return merged_by_lse(each, rounded)


def merged_by_lse(each: Sequence[Mapping[str, Tensor]], rounded: Arithmetic) -> dict[str, Tensor]:
    """out and lse of all parts from those of each, one after another."""
    top = torch.stack([part["lse"] for part in each]).amax(0)
    shift = torch.where(top == -torch.inf, 0.0, top)
    total, out = torch.zeros_like(top), torch.zeros_like(each[0]["out"])
    for part in each:
        share = rounded("exps", torch.exp(rounded("logits", part["lse"] - shift)))
        weighed = rounded("accumulator", share[..., None] * part["out"])
        total, out = rounded("sum", total + share), rounded("accumulator", out + weighed)
    out = out / torch.where(total == 0, 1.0, total)[..., None]
    lse = rounded("lse", rounded("logits", top + rounded("logits", torch.log(total))))
    return {"out": rounded("out", rounded("result", out)), "lse": lse}


def _part(exact: SplitAttention, begin: int, end: int) -> SplitAttention:
    """The record of some of the keys."""
    rows, columns = (..., slice(begin, end), slice(None)), (..., slice(begin, end))
    kept = {name: getattr(exact, name)[columns] for name in ("scores", "probs", "weights")}
    return replace(exact, k=exact.k[rows], v=exact.v[rows], **kept)


_ATTENTION = attention_family()

FAMILY = replace(_ATTENTION, others={**_ATTENTION.others, "merged-by-lse": split_attention})
"""Attention of one query, and its splits merged by lse."""
