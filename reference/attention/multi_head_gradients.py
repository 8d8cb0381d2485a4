"""Gradients of an attention layer, for the cotangent d_out of out, analytically:

    d_heads = d_out w_oᵀ                 dw_o = [head_1 ... head_hq]ᵀ d_out
    dq, dk, dv: attention for d_heads (reference/attention/gradients.py), heads side by side
    dx_q = dq w_qᵀ                       dw_q = x_qᵀ dq
    dx_kv = dk w_kᵀ + dv w_vᵀ            dw_k = x_kvᵀ dk      dw_v = x_kvᵀ dv

Gradients of weights are sums over all tokens of all batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kernelproof.reference.attention.gradients import Gradients, attention_gradients
from kernelproof.reference.attention.multi_head import Array, MultiHead, join_heads, split_heads


@dataclass(frozen=True)
class LayerGradients:
    """The gradients, and those of the attention inside (b heads t d)."""

    forward: MultiHead
    d_out: Array
    inner: Gradients
    dx_q: Array
    dx_kv: Array
    dw_q: Array
    dw_k: Array
    dw_v: Array
    dw_o: Array


def layer_gradients(exact: MultiHead, d_out: Array, inputs: Mapping[str, Array]) -> LayerGradients:
    """Gradients of sum(d_out out) with regard to tokens and weights, d_out: b tq e."""
    w_q, w_k, w_v, w_o = exact.weights
    d_heads = split_heads(d_out @ w_o.T, exact.q.shape[1])
    inner = attention_gradients(exact.attention, d_heads, exact.k.shape[1])
    dq, dk, dv = (join_heads(each) for each in (inner.dq, inner.dk, inner.dv))
    return LayerGradients(
        exact,
        d_out,
        inner,
        dx_q=dq @ w_q.T,
        dx_kv=dk @ w_k.T + dv @ w_v.T,
        dw_q=over_tokens(exact.x_q, dq),
        dw_k=over_tokens(exact.x_kv, dk),
        dw_v=over_tokens(exact.x_kv, dv),
        dw_o=over_tokens(join_heads(exact.attention.out), d_out),
    )


def over_tokens(rows: Array, gradients: Array) -> Array:
    """rowsᵀ gradients, summed over batch and tokens: n m, of b t n and b t m."""
    (b, t, n), m = rows.shape, gradients.shape[-1]
    product: Array = rows.reshape(b * t, n).T @ gradients.reshape(b * t, m)
    return product
