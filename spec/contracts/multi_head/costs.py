"""Closed forms of an attention layer: its projections, and standard attention between them.

The layer that materialises everything converts each input once to the accumulator's format, reads
it for each product, and copies projections and heads into the order that attention, and the last
product, want.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from kernelproof.reference.attention.scaled_dot_product import allowed
from kernelproof.spec.contracts.attention.costs import (
    STANDARD,
    group,
    keys_seen,
    standard_memory,
    standard_traffic,
    useful_flops,
)
from kernelproof.spec.language import WORKSPACE, Sizes


def weight_elements(x: Sizes) -> Mapping[str, int]:
    """Elements of the four weights."""
    return {
        "w_q": x.e * x.hq * x.d,
        "w_k": x.e * x.hkv * x.d,
        "w_v": x.e * x.hkv * x.dv,
        "w_o": x.hq * x.dv * x.e,
    }


def _projected(x: Sizes) -> tuple[int, int, int, int]:
    """Elements of q, k, v and the joined heads."""
    queries, keys = x.b * x.tq * x.hq, x.b * x.tk * x.hkv
    return queries * x.d, keys * x.d, keys * x.dv, queries * x.dv


def projection_flops(x: Sizes, queries: int, keys: int) -> int:
    """Of q, k, v and out for so many tokens of x_q and of x_kv."""
    of_queries = x.hq * (x.d + x.dv)
    return 2 * x.e * (queries * of_queries + keys * x.hkv * (x.d + x.dv))


def layer_flops(x: Sizes) -> int:
    """All projections, and the tiles that attention visits."""
    return projection_flops(x, x.b * x.tq, x.b * x.tk) + STANDARD.flops(x)


def useful_layer_flops(x: Sizes) -> int:
    """The projections of tokens that see, or are seen, under causal, and their pairs."""
    seen = keys_seen(x, np.arange(x.tq))
    queries, keys = int((seen > 0).sum()), int(seen.max(initial=0))
    return projection_flops(x, x.b * queries, x.b * keys) + useful_flops(x)


def needed_elements(x: Sizes) -> Mapping[str, int]:
    """Distinct elements of the inputs that some output depends on, under mask and causal."""
    shape = (x.b, x.hq, x.tq, x.tk)
    mask, causal = x.options.get("mask"), x.options.get("causal")
    visible = np.broadcast_to(allowed(shape, mask, causal), shape)
    heads = visible.any(axis=(0, 2, 3))
    key_heads = int(heads.reshape(x.hkv, group(x)).any(axis=1).sum())
    return {
        "x_q": int(visible.any(axis=(1, 3)).sum()) * x.e,
        "x_kv": int(visible.any(axis=(1, 2)).sum()) * x.e,
        "w_q": x.e * int(heads.sum()) * x.d,
        "w_k": x.e * key_heads * x.d,
        "w_v": x.e * key_heads * x.dv,
        "w_o": int(heads.sum()) * x.dv * x.e,
    }


def compulsory(x: Sizes) -> int:
    """Each needed element read once, each output written once."""
    return (sum(needed_elements(x).values()) + x.b * x.tq * x.e) * x.item


def _bias_elements(x: Sizes) -> int:
    widths = x.hq * x.d + x.hkv * (x.d + x.dv) + x.e
    return widths if x.options.get("biases") is not None else 0


def layer_traffic(x: Sizes) -> int:
    """Every product reads its factors and its bias and writes its result once; tokens of keys are
    factors of two. Projections and heads are copied once into another order. What is narrower
    than the accumulator is converted: read, and written wide; out the other way round."""
    tokens = x.b * (x.tq + x.tk) * x.e
    weights, biases = sum(weight_elements(x).values()), _bias_elements(x)
    factors = tokens + x.b * x.tk * x.e + weights + biases
    # q, k and v are written here and read by attention, heads the other way round
    projected, out = sum(_projected(x)), x.b * x.tq * x.e
    moved = factors + projected + 2 * projected + out
    converted = tokens + weights + biases + out if x.item < x.wide else 0
    return standard_traffic(_wide(x)) + moved * x.wide + converted * (x.item + x.wide)


def _wide(x: Sizes) -> Sizes:
    """The attention between the projections: everything in the accumulator's format."""
    return replace(x, item=x.wide)


def layer_memory(x: Sizes) -> int:
    """What attention holds; the inputs converted; each projection and its copy; out before its
    conversion."""
    inputs = x.b * (x.tq + x.tk) * x.e + sum(weight_elements(x).values()) + _bias_elements(x)
    held = inputs + 2 * sum(_projected(x)) + x.b * x.tq * x.e
    return standard_memory(_wide(x)) + held * x.wide + WORKSPACE


LAYER_COSTS = replace(
    STANDARD,
    flops=layer_flops,
    useful=useful_layer_flops,
    reads=needed_elements,
    compulsory=compulsory,
    traffic=layer_traffic,
    cap=lambda x: 2 * layer_traffic(x),
    memory=layer_memory,
    lower=lambda x: 0,  # what lies between the projections need not lie in slow memory
)
"""Costs of a layer that materialises projections, S and P."""
