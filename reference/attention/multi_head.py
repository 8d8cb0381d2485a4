"""Multi-head attention (Vaswani et al. 2017, section 3.2.2), exactly:

    q = x_q w_q + b_q      k = x_kv w_k + b_k      v = x_kv w_v + b_v      heads side by side
    head_h = softmax(scale q_h k_jᵀ + mask) v_j     j = h // g: g query heads share a key head
    out = [head_1 ... head_hq] w_o + b_o

Self-attention has x_q = x_kv; cross-attention has two. With as many key heads as query heads it is
the paper's, with fewer grouped-query attention, with one multi-query attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.grouped_query import grouped_query
from kernelproof.reference.attention.scaled_dot_product import Attention

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class MultiHead:
    """The inputs, the projections (b heads t d), attention per query head, and the output."""

    x_q: Array
    x_kv: Array
    weights: tuple[Array, Array, Array, Array]
    biases: tuple[Array, Array, Array, Array] | None
    q: Array
    k: Array
    v: Array
    attention: Attention
    out: Array


def multi_head(
    x_q: Array,
    x_kv: Array,
    w_q: Array,
    w_k: Array,
    w_v: Array,
    w_o: Array,
    *,
    heads: int,
    kv_heads: int,
    biases: tuple[Array, Array, Array, Array] | None = None,
    **options: Any,
) -> MultiHead:
    """The layer on x_q: b tq e and x_kv: b tk e, for w_q: e hq*d, w_k: e hkv*d, w_v: e hkv*dv and
    w_o: hq*dv e. biases: b_q, b_k, b_v, b_o. mask, causal, scale: as in attention."""
    b_q, b_k, b_v, b_o = biases or np.zeros(4, x_q.dtype)
    q = split_heads(x_q @ w_q + b_q, heads)
    k, v = (split_heads(x_kv @ w + b, kv_heads) for w, b in ((w_k, b_k), (w_v, b_v)))
    attention = grouped_query(q, k, v, **options)
    out = join_heads(attention.out) @ w_o + b_o
    return MultiHead(x_q, x_kv, (w_q, w_k, w_v, w_o), biases, q, k, v, attention, out)


def split_heads(x: Array, heads: int) -> Array:
    """From b t heads*d to b heads t d."""
    b, t, width = x.shape
    return x.reshape(b, t, heads, width // heads).swapaxes(1, 2)


def join_heads(x: Array) -> Array:
    """From b heads t d to b t heads*d."""
    b, heads, t, d = x.shape
    return x.swapaxes(1, 2).reshape(b, t, heads * d)
