"""Additive attention (Bahdanau, Cho & Bengio 2014), exactly:

e_ij = w_score · tanh(w_queryᵀ q_i + w_keyᵀ k_j + bias)        weights = softmax_j(e)
out = weights value, and [out; query] in the form of a decoder. Scores have no 1/sqrt(h).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernelproof.reference.attention.scaled_dot_product import Array, Attention, allowed, attend


@dataclass(frozen=True)
class Additive:
    """The inputs and outputs, and the quantities that an error bound is made of.

    projected_query: w_queryᵀ q, b tq h. projected_key: w_keyᵀ k, b tk h. hidden: tanh, b tq tk h.
    attention: what the softmax of the scores (b tq tk) gives, before a decoder's concatenation.
    """

    query: Array
    key: Array
    w_query: Array
    w_key: Array
    bias: Array
    w_score: Array
    projected_query: Array
    projected_key: Array
    hidden: Array
    attention: Attention
    out: Array
    weights: Array


def additive(
    query: Array,
    key: Array,
    value: Array,
    w_query: Array,
    w_key: Array,
    bias: Array,
    w_score: Array,
    *,
    mask: Array | None = None,
    form: str | None = None,
) -> Additive:
    """Attention of query: b tq dq over key: b tk dk and value: b tk dv, by h hidden units.

    mask: boolean, broadcast to b tq tk; True = may attend. A row with no allowed key gives
    weights and out of 0. form: None, or "decoder".
    """
    queries, keys = query @ w_query, key @ w_key
    hidden = np.tanh(queries[:, :, None] + keys[:, None] + bias)
    scores = hidden @ w_score
    scores = np.where(allowed(scores.shape, mask, None), scores, -np.inf)
    attention = attend(query, key, value, 1.0, scores)
    parts = (query, key, w_query, w_key, bias, w_score, queries, keys, hidden, attention)
    return Additive(*parts, in_form(form, attention.out, query), attention.weights)


def in_form(form: str | None, out: Array, query: Array) -> Array:
    """out: b tq dv, or as a decoder passes it on: [out; query], b tq dv+dq."""
    return np.concatenate([out, query], axis=-1) if form == "decoder" else out
