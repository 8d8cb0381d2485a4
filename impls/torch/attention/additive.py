"""Additive attention: operator by operator, over blocks of queries."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernelproof.impls.registration import implementation

ROWS = 16
"""Queries of a block: the hidden units of all tq x tk pairs are never held."""


@implementation(
    "attention.additive",
    name="torch-additive",
    backends=["cpu", "cuda"],
    dtypes=["float64", "float32", "float16", "bfloat16"],
    precision="strict32",
    gradients=True,
)
def additive(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    w_query: Tensor,
    w_key: Tensor,
    bias: Tensor,
    w_score: Tensor,
    *,
    mask: Tensor | None = None,
    form: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of query: b tq dq over key: b tk dk and value: b tk dv, by h hidden units.

    Everything is in at least float32; only out and weights are rounded to the inputs' dtype.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    queries = query.to(wide) @ w_query.to(wide) + bias.to(wide)
    keys, w = key.to(wide) @ w_key.to(wide), w_score.to(wide)
    scores = queries.new_empty(len(query), query.shape[1], key.shape[1])
    for first in range(0, query.shape[1], ROWS):
        rows = slice(first, first + ROWS)
        scores[:, rows] = (queries[:, rows, None] + keys[:, None]).tanh_() @ w
    if mask is not None:
        # rows without any key keep their scores: a softmax of -inf alone is 0 / 0, its gradient too
        scores.masked_fill_(~mask & mask.any(-1, keepdim=True), -math.inf)
    weights = torch.softmax(scores, -1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0.0)
    out = (weights @ value.to(wide)).to(query.dtype)
    if form == "decoder":
        out = torch.cat([out, query], -1)
    return out, weights.to(query.dtype)
