"""Flash-Decoding, operator by operator: splits of the keys are an axis, merged by their lse."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from kernelproof.impls.registration import implementation


@implementation(
    "attention.flash_decoding",
    name="torch-flash-decoding",
    backends=["cpu", "cuda"],
    dtypes=["float64", "float32", "float16", "bfloat16"],
    precision="strict32",
)
def flash_decoding(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    lengths: Tensor | None = None,
    splits: int | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of q: b hq 1 d over the first lengths: b of k: b hkv tk d and v: b hkv tk dv.

    Sequence after sequence: nothing beyond a length is touched. Everything is in at least float32;
    only out is rounded to the inputs' dtype.
    """
    (b, hq, _, d), (_, hkv, tk, dv) = q.shape, v.shape
    wide = torch.promote_types(q.dtype, torch.float32)
    out = torch.empty(b, hq, 1, dv, dtype=q.dtype, device=q.device)
    lse = torch.empty(b, hq, 1, dtype=wide, device=q.device)
    queries = q.to(wide) * (1 / math.sqrt(d) if scale is None else scale)
    queries = queries.reshape(b, hkv, hq // max(hkv, 1), d)
    for sequence, n in enumerate([tk] * b if lengths is None else lengths.tolist()):
        size = max(1, -(-n // (splits or 1)))
        keys, values = (dealt(x[sequence, :, :n].to(wide), size) for x in (k, v))
        merged, total = merge(*attend(queries[sequence], keys, values, n))
        out[sequence], lse[sequence] = merged.view(hq, 1, dv), total.view(hq, 1)
    return out, lse


def dealt(keys: Tensor, size: int) -> Tensor:
    """Keys h n d in parts of equal size, h s size d, of which the last is filled up with zeros."""
    n = keys.shape[1]
    parts = -(-n // size)
    whole: Tensor = pad(keys, (0, 0, 0, parts * size - n))
    return whole.view(len(keys), parts, size, keys.shape[2])


def attend(q: Tensor, k: Tensor, v: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Attention of q: h g d over each split of k: h s size d and v: h s size dv, which hold n keys.

    Returns out: h s g dv and lse: h s g.
    """
    scores = q[:, None] @ k.mT
    parts, size = k.shape[1:3]
    scores[:, -1:, :, size - (parts * size - n) :] = -math.inf
    lse = torch.logsumexp(scores, -1)
    return scores.sub_(lse[..., None]).exp_() @ v, lse


def merge(out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor]:
    """out = sum_s e^(lse_s - lse) out_s and lse = log sum_s e^lse_s, of out: h s g dv, lse: h s g.

    Every split holds a key; without any split out = 0 and lse = -inf.
    """
    whole = torch.logsumexp(lse, 1)
    shares = torch.exp(lse - whole[:, None])
    return (shares[..., None] * out).sum(1), whole
