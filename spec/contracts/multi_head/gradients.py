"""The contract of a layer's gradients: those of attention, between products that go back.

Attention's backward pass starts from inexact q, k, v and out, and from an inexact d_heads
(spec/contracts/gradients/bound.py is made for that); what it gives meets weights and tokens.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from kernelproof.reference.attention.gradients import attention_gradients, summed_over_groups
from kernelproof.reference.attention.multi_head import Array, join_heads, split_heads
from kernelproof.reference.attention.multi_head_gradients import (
    LayerGradients,
    layer_gradients,
    over_tokens,
)
from kernelproof.spec.accuracy import Accuracy, Bounds
from kernelproof.spec.computed import Computed, cast, known, output_bound, plus, product
from kernelproof.spec.contracts.gradients.bound import (
    Start,
    either,
    gradients_of,
    recomputed_probs,
)
from kernelproof.spec.contracts.multi_head.bound import (
    heads_computed,
    inexact_score_error,
    per_query_head,
    projections,
)
from kernelproof.spec.language import Backward, Clause, Outputs, mutants, rounding_mutants, spoiled
from kernelproof.spec.rounding import Rounding


def layer_gradients_bound(exact: LayerGradients, rounding: Rounding) -> Bounds:
    """Worst-case error of every gradient of any right implementation, forward pass included."""
    with np.errstate(invalid="ignore", over="ignore"):
        found = _gradients(exact, rounding)
        return {name: output_bound(each, rounding) for name, each in found.items()}


def _gradients(exact: LayerGradients, rounding: Rounding) -> dict[str, Computed]:
    """All gradients before their last rounding."""
    layer, stored = exact.forward, partial(cast, format=rounding.intermediates)
    multiply = partial(product, rounding=rounding)
    w_q, w_k, w_v, _ = map(known, layer.weights)
    x_q, x_kv, d_out = map(known, (layer.x_q, layer.x_kv, exact.d_out))
    heads = stored(heads_computed(layer, rounding))
    inner = gradients_of(_start(exact, heads, rounding), layer.k.shape[1], rounding)
    dq, dk, dv = (stored(inner[name].arranged(join_heads)) for name in ("dq", "dk", "dv"))
    return {
        "dx_q": multiply(dq, w_q.T),
        "dx_kv": either(
            plus(stored(multiply(dk, w_k.T)), stored(multiply(dv, w_v.T)), rounding),
            # keys and values side by side: one sum
            multiply(_beside(dk, dv), _beside(w_k, w_v).T),
        ),
        "dw_q": multiply(_rows(x_q).T, _rows(dq)),
        "dw_k": multiply(_rows(x_kv).T, _rows(dk)),
        "dw_v": multiply(_rows(x_kv).T, _rows(dv)),
        "dw_o": multiply(_rows(heads.arranged(join_heads)).T, _rows(d_out)),
    }


def _start(exact: LayerGradients, heads: Computed, rounding: Rounding) -> Start:
    """What attention's backward pass starts from."""
    layer = exact.forward
    q, k, v = (each.arranged(per_query_head(layer)) for each in projections(layer, rounding))
    d_joined = product(known(exact.d_out), known(layer.weights[3]).T, rounding)
    d_heads = cast(d_joined, rounding.intermediates)
    return Start(
        q=q,
        k=k,
        v=v,
        scale=layer.attention.scale,
        probs=recomputed_probs(layer.attention, rounding, inexact_score_error(q, k)),
        kept=None,
        out=heads,
        d_out=d_heads.arranged(lambda x: split_heads(x, layer.q.shape[1])),
    )


def _beside(x: Computed, y: Computed) -> Computed:
    return Computed(np.concatenate([x.value, y.value], -1), np.concatenate([x.error, y.error], -1))


def _rows(x: Computed) -> Computed:
    """b t n as b*t n."""
    return x.arranged(lambda y: y.reshape(y.shape[0] * y.shape[1], y.shape[2]))


_changed = partial(spoiled, ("dx_q", "dx_kv", "dw_q", "dw_k", "dw_v", "dw_o"))
"""The bug that makes other gradients."""


def _through(e: LayerGradients, **wrong: Array) -> dict[str, Array]:
    """All gradients of tokens and projections, for some other gradients of q, k and v."""
    made = {name: wrong.get(name, getattr(e.inner, name)) for name in ("dq", "dk", "dv")}
    dq, dk, dv = (join_heads(each) for each in made.values())
    w_q, w_k, w_v, _ = e.forward.weights
    return {
        "dx_q": dq @ w_q.T,
        "dx_kv": dk @ w_k.T + dv @ w_v.T,
        "dw_q": over_tokens(e.forward.x_q, dq),
        "dw_k": over_tokens(e.forward.x_kv, dk),
        "dw_v": over_tokens(e.forward.x_kv, dv),
    }


def _group_sum_missing(e: LayerGradients) -> Outputs | None:
    """dk and dv are those of the first query head of each group."""
    x, inner, key_heads = e.forward.attention, e.inner, e.forward.k.shape[1]
    hq = x.q.shape[1]
    if hq == key_heads:
        return None
    first = (np.arange(hq) % (hq // key_heads) == 0)[:, None, None]
    dk = x.scale * ((inner.d_scores * first).swapaxes(-1, -2) @ x.q)
    dv = (x.weights * first).swapaxes(-1, -2) @ inner.d_out
    summed = {"dk": summed_over_groups(dk, key_heads), "dv": summed_over_groups(dv, key_heads)}
    return _through(e, **summed)


def _output_projection_missing(e: LayerGradients) -> Outputs | None:
    """d_heads is d_out, where it is as wide."""
    layer = e.forward
    if len(layer.weights[3]) != e.d_out.shape[-1]:
        return None
    d_heads = split_heads(e.d_out, layer.q.shape[1])
    wrong = attention_gradients(layer.attention, d_heads, layer.k.shape[1])
    return _through(e, dq=wrong.dq, dk=wrong.dk, dv=wrong.dv)


def _delta_omitted(e: LayerGradients) -> Outputs:
    inner = replace(e.forward.attention, out=0 * e.forward.attention.out)
    wrong = attention_gradients(inner, e.inner.d_out, e.forward.k.shape[1])
    return _through(e, dq=wrong.dq, dk=wrong.dk, dv=wrong.dv)


def _self(e: LayerGradients) -> Outputs | None:
    """Both gradients of tokens are their sum: right where x_q and x_kv are one tensor."""
    if e.dx_q.shape != e.dx_kv.shape:
        return None
    return {"dx_q": e.dx_q + e.dx_kv, "dx_kv": e.dx_q + e.dx_kv}


def _first_batch(e: LayerGradients) -> Outputs | None:
    if len(e.d_out) < 2:
        return None
    rows = e.forward.x_q, e.forward.x_kv, join_heads(e.forward.attention.out)
    made = join_heads(e.inner.dq), join_heads(e.inner.dv), e.d_out
    products = zip(("dw_q", "dw_v", "dw_o"), rows, made, strict=True)
    return {name: over_tokens(x[:1], gradients[:1]) for name, x, gradients in products}


def _heads_along_the_sequence(e: LayerGradients) -> Outputs:
    b, heads, tq, dv = e.forward.attention.out.shape
    joined = e.forward.attention.out.reshape(b, tq, heads * dv)
    return {"dw_o": over_tokens(joined, e.d_out)}


GRADIENT_MUTANTS = (
    *mutants(
        {
            "zeros": (
                "returns zeros",
                _changed(lambda e: {"dx_q": 0 * e.dx_q, "dx_kv": 0 * e.dx_kv, "dw_o": 0 * e.dw_o}),
            ),
            "group-sum-missing": (
                "gradients of keys and values are those of the first query head of each group",
                _changed(_group_sum_missing),
            ),
            "output-projection-missing": (
                "d_out reaches the heads without w_o",
                _changed(_output_projection_missing),
            ),
            "values-detached": (
                "dx_kv lacks what flows back through values",
                _changed(lambda e: {"dx_kv": join_heads(e.inner.dk) @ e.forward.weights[1].T}),
            ),
            "as-of-self-attention": (
                "dx_q and dx_kv are both their sum, as of one tensor",
                _changed(_self),
            ),
            "delta-omitted": (
                "dS is P dP: rowsum(dO O) is not subtracted",
                _changed(_delta_omitted),
            ),
            "scale-missing": (
                "dq is not multiplied by scale",
                _changed(lambda e: _through(e, dq=e.inner.dq / e.forward.attention.scale)),
            ),
            "first-batch-alone": (
                "gradients of weights are those of the first batch",
                _changed(_first_batch),
            ),
            "heads-along-the-sequence": (
                "dw_o is made of heads that were not moved behind the sequence",
                _changed(_heads_along_the_sequence),
            ),
        }
    ),
    # what flows back through logits is little beside what 16-bit intermediates may be off by
    replace(
        *mutants(
            {
                "keys-detached": (
                    "dx_kv lacks what flows back through keys",
                    _changed(lambda e: {"dx_kv": join_heads(e.inner.dv) @ e.forward.weights[2].T}),
                ),
            }
        ),
        undeclared_in="strict32",
    ),
    *rounding_mutants(
        {
            "projections-accumulated-in-bfloat16": (
                "the sums of products with weights and tokens are accumulated in bfloat16",
                {"projections": "bfloat16"},
            ),
            "intermediates-in-bfloat16": (
                "projections and what flows back to them are stored in bfloat16, undeclared",
                {"intermediates": "bfloat16"},
            ),
        },
        undeclared_in="strict32",
    ),
)

LAYER_BACKWARD = Backward(
    of="x_q, x_kv, w_q, w_k, w_v, w_o",
    reference=layer_gradients,
    accuracy=Accuracy(worst_case=layer_gradients_bound),
    mutants=GRADIENT_MUTANTS,
)
"""Gradients of an attention layer with regard to tokens and weights."""

GRADIENT_CLAUSES = (
    Clause(
        "attention.gradients",
        "The gradients of x_q, x_kv and the four weights, of a given d_out, differ from the exact "
        "ones by no more than the worst case of the declared roundings, in every element; those of "
        "weights are sums over batch and tokens.",
        "gradients",
        smoke=(
            "b2.hq4.hkv2.tq12.tk12.d8.e32/default/normal",
            "b1.hq2.hkv2.tq20.tk12.d8.dv12.e24/biases-normal+causal-bottom-right/normal",
            "b2.hq2.hkv1.tq3.tk3.d4.e8/default/normal",
            "b2.hq4.hkv2.tq12.tk12.d8.e32/scale--0.3/normal",
            "b2.hq4.hkv2.tq100.tk12.d8.e32/default/normal",
        ),
        core=(
            "b1.hq4.hkv4.tq12.tk24.d32.e384/biases-layer5/captured-layer5",
            "b2.hq6.hkv3.tq33.tk65.d16.e96/mask-random/normal",
        ),
    ),
    Clause(
        "attention.gradients.groups",
        "The gradients of w_k and w_v of head j are sums over the query heads of its group.",
        "gradients",
        smoke=("b1.hq6.hkv2.tq9.tk12.d8.e24/default/normal",),
        core=("b1.hq4.hkv1.tq9.tk12.d8.e24/causal-top-left/self",),
    ),
    Clause(
        "attention.gradients.empty-row",
        "A token that attends to none has a gradient of 0 and adds nothing to those of x_kv, w_q, "
        "w_k and w_v; a token that none sees has a gradient of 0: exactly.",
        "gradients",
        smoke=(
            "b1.hq4.hkv2.tq17.tk9.d8.e24/causal-bottom-right/normal",
            "b2.hq4.hkv2.tq9.tk12.d8.e24/mask-rows/normal",
            "b1.hq4.hkv2.tq5.tk12.d8.e24/causal-top-left/normal",
        ),
    ),
    Clause(
        "attention.gradients.layout",
        "Inputs and d_out may be transposed, sliced or at an offset in a larger storage.",
        "gradients",
        smoke=tuple(
            f"b2.hq4.hkv2.tq9.tk12.d8.e24/default/normal/{layout}"
            for layout in ("transposed", "sliced", "offset", "mixed")
        ),
    ),
)
"""The clauses about gradients."""
