"""Gradients of additive attention, analytically, for the cotangent dO of out.

With t = tanh(a), P = softmax(w_score · t), D_i = dO_i · out_i, and A, B the sums of dA over keys
and over queries:

dvalue = Pᵀ dO    dP = dO valueᵀ    dE = P (dP - D)    dA_ij = dE_ij w_score (1 - t_ij²)
dquery = A w_queryᵀ    dw_query = queryᵀ A    dkey = B w_keyᵀ    dw_key = keyᵀ B
dw_score = sum_ij dE_ij t_ij    dbias = sum_ij dA_ij
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kernelproof.reference.attention.additive import Additive
from kernelproof.reference.attention.scaled_dot_product import Array


@dataclass(frozen=True)
class AdditiveGradients:
    """A gradient for each input, of its shape, and what leads to them.

    d_scores: dE, b tq tk. of_queries: A, b tq h. of_keys: B, b tk h.
    """

    forward: Additive
    d_out: Array
    d_scores: Array
    of_queries: Array
    of_keys: Array
    dquery: Array
    dkey: Array
    dvalue: Array
    dw_query: Array
    dw_key: Array
    dbias: Array
    dw_score: Array


def additive_gradients(
    forward: Additive, d_out: Array, inputs: Mapping[str, Array]
) -> AdditiveGradients:
    """Gradients of sum(d_out out), d_out: b tq dv; rows without a key add exactly 0."""
    x, softmax = forward, forward.attention
    d_probs = d_out @ softmax.v.swapaxes(-1, -2)
    d_scores = softmax.probs * (d_probs - (d_out * softmax.out).sum(-1, keepdims=True))
    d_argument = d_scores[..., None] * x.w_score * (1 - x.hidden**2)
    of_queries, of_keys = d_argument.sum(2), d_argument.sum(1)
    return AdditiveGradients(
        *(forward, d_out, d_scores, of_queries, of_keys),
        dquery=of_queries @ x.w_query.T,
        dkey=of_keys @ x.w_key.T,
        dvalue=softmax.probs.swapaxes(-1, -2) @ d_out,
        dw_query=(x.query.swapaxes(-1, -2) @ of_queries).sum(0),
        dw_key=(x.key.swapaxes(-1, -2) @ of_keys).sum(0),
        dbias=of_queries.sum((0, 1)),
        dw_score=(d_scores[..., None] * x.hidden).sum((0, 1, 2)),
    )
