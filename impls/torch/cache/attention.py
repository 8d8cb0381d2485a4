"""Attention over what a key/value cache holds."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Attention of q: b hq t d over all of k, v: b hkv tokens d: out like q, lse: b hq t."""
    b, hq, t, d = q.shape
    hkv = k.shape[1]
    wide = torch.promote_types(q.dtype, torch.float32)
    # the g query heads of a group read its keys once: b hkv (g t) d
    queries = q.reshape(b, hkv, hq // hkv * t, d).to(wide) * (1 / math.sqrt(d))
    scores = queries @ k.to(wide).transpose(-2, -1)
    lse = torch.logsumexp(scores, -1)
    out = torch.softmax(scores, -1) @ v.to(wide)
    return out.to(q.dtype).reshape(q.shape), lse.reshape(b, hq, t)
