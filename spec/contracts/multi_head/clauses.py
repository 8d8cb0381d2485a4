"""Clauses of attention layers."""

from __future__ import annotations

from kernelproof.spec.contracts.costs import cost_clauses, growth_clause
from kernelproof.spec.contracts.integrity import layout_clause, repeat_clause
from kernelproof.spec.contracts.multi_head.properties import LAYER_PROPERTIES
from kernelproof.spec.language import Clause, Growth

_H = "hq4.hkv2"

_VALUES = (
    Clause(
        "attention.accuracy",
        "out differs from the exact result by no more than the worst case of the declared "
        "roundings, those of the projections passed on, in every element.",
        "accuracy",
    ),
    Clause(
        "attention.layer.inputs",
        "Queries are projected from x_q, keys and values from x_kv: the same tokens in "
        "self-attention, others in cross-attention.",
        "semantics",
        smoke=(f"b2.{_H}.tq12.tk12.d8.e24/default/normal",),
        core=(f"b2.{_H}.tq33.tk33.d16.e48/causal-top-left/self",),
    ),
    Clause(
        "attention.layer.heads",
        "Head h takes columns h d to (h + 1) d of w_q, head j = h // g likewise of w_k and w_v, "
        "and rows h dv to (h + 1) dv of w_o.",
        "semantics",
        smoke=("b2.hq6.hkv3.tq9.tk12.d8.dv12.e32/default/normal",),
        core=(
            "b1.hq8.hkv2.tq9.tk20.d8.e64/causal-bottom-right/normal",
            "b2.hq4.hkv1.tq9.tk20.d16.e33/default/normal",
            "b1.hq16.hkv16.tq5.tk9.d8.e128/default/normal",
            "b1.hq1.hkv1.tq9.tk20.d64.e20/default/normal",
        ),
    ),
    Clause(
        "attention.layer.biases",
        "b_q, b_k, b_v and b_o, where given, are added to their products.",
        "semantics",
        smoke=(f"b2.{_H}.tq9.tk12.d8.e24/biases-normal/normal",),
        core=("b1.hq3.hkv3.tq20.tk9.d16.dv8.e24/biases-normal+causal-top-left/self",),
    ),
    Clause(
        "attention.layer.trained",
        "A layer of a trained model is right, whose logits lie between -55 and 69.",
        "semantics",
        smoke=("b1.hq4.hkv4.tq9.tk48.d32.e384/biases-layer0/captured-layer0",),
        core=("b1.hq4.hkv2.tq20.tk96.d32.e384/biases-layer0/captured-layer0",),
        # queries and keys in bfloat16 leave such logits off by more than 1
        dtypes=("float64", "float32", "float16"),
    ),
    Clause(
        "attention.scale.default",
        "scale defaults to 1/sqrt(d) of a head, whatever dv and e are.",
        "semantics",
        smoke=("b1.hq1.hkv1.tq30.tk4.d4.dv64.e96/default/large-logit",),
        core=(f"b1.{_H}.tq9.tk20.d80.e48/default/large-logit",),
    ),
    Clause(
        "attention.scale.explicit",
        "An explicit scale is obeyed, also 0, 1 and a negative one.",
        "semantics",
        smoke=tuple(f"b1.{_H}.tq9.tk12.d8.e24/scale-{s}/normal" for s in (0.0, 1.0, -0.3)),
    ),
    Clause(
        "attention.mask.boolean",
        "mask is boolean and broadcasts to b hq tq tk; True = may attend.",
        "semantics",
        smoke=tuple(
            f"b2.{_H}.tq9.tk12.d8.e24/mask-{mask}/normal"
            for mask in ("random", "padding", "per-query", "per-head", "matrix")
        ),
        core=tuple(
            f"b3.hq6.hkv3.tq17.tk33.d16.e48/{options}/normal"
            for options in ("mask-random", "mask-padding+causal-top-left+scale-0.3")
        ),
    ),
    Clause(
        "attention.mask.fully-masked-row",
        "A token that may attend to none gives out = b_o, or 0 without biases, exactly.",
        "semantics",
        smoke=(
            f"b2.{_H}.tq17.tk12.d8.e24/mask-rows/normal",
            f"b2.{_H}.tq9.tk12.d8.e24/biases-normal+mask-none/normal",
        ),
        core=(f"b2.{_H}.tq17.tk12.d8.e24/biases-normal+mask-rows/normal",),
    ),
    Clause(
        "attention.mask.hidden-keys",
        "Tokens of x_kv that a boolean mask hides never influence the output while they are "
        "finite.",
        "semantics",
        smoke=(f"b2.{_H}.tq9.tk12.d8.e24/mask-padding/masked-large",),
    ),
    Clause(
        "attention.causal.top-left",
        "causal top-left lets token i of x_q attend to tokens j <= i of x_kv.",
        "semantics",
        smoke=(f"b1.{_H}.tq12.tk17.d8.e24/causal-top-left/normal",),
        core=(f"b1.{_H}.tq17.tk12.d8.e24/causal-top-left/normal",),
    ),
    Clause(
        "attention.causal.bottom-right",
        "causal bottom-right lets token i attend to tokens j <= i + tk - tq; those before the "
        "first give out = b_o.",
        "semantics",
        smoke=(
            f"b1.{_H}.tq12.tk17.d8.e24/causal-bottom-right/normal",
            f"b1.{_H}.tq17.tk12.d8.e24/biases-normal+causal-bottom-right/normal",
        ),
    ),
    Clause(
        "attention.nan.query",
        "A NaN in token i of x_q makes row i NaN and no other.",
        "semantics",
        smoke=(f"b2.{_H}.tq9.tk12.d8.e24/default/nan-token",),
    ),
    Clause(
        "attention.shape.empty",
        "tk = 0 gives b_o, or zeros; tq = 0 or b = 0 give empty tensors.",
        "semantics",
        smoke=(
            f"b2.{_H}.tq5.tk0.d8.e24/biases-normal/normal",
            f"b1.{_H}.tq0.tk9.d8.e24/default/normal",
        ),
        core=(f"b0.{_H}.tq5.tk9.d16.e48/default/normal", f"b2.{_H}.tq5.tk0.d8.e24/default/normal"),
    ),
    Clause(
        "attention.shape.ragged",
        "Lengths, heads and widths of 1, or not a multiple of a tile, are right.",
        "semantics",
        smoke=(
            "b1.hq1.hkv1.tq1.tk1.d1.e1/default/normal",
            f"b1.{_H}.tq1.tk129.d24.e65/default/normal",
        ),
        core=(
            f"b1.{_H}.tq65.tk130.d33.e40/default/normal",
            "b1.hq2.hkv1.tq9.tk1100.d8.e16/default/normal",
        ),
    ),
    layout_clause("attention", f"b2.{_H}.tq9.tk12.d8.e24/biases-normal/normal"),
    repeat_clause("attention", f"b2.{_H}.tq33.tk65.d32.e64/default/normal"),
)

_COSTS = cost_clauses(
    "attention",
    *("traffic", "footprint", "flops", "exps", "memory"),
    smoke=(
        f"b2.{_H}.tq60.tk90.d16.e32/default/normal",
        f"b1.{_H}.tq50.tk70.d16.e48/biases-normal+causal-bottom-right/normal",
        # long enough for a tq x tk scratch to stand out from any workspace
        "b1.hq1.hkv1.tq600.tk600.d8.e8/default/normal",
        # projections are most of the work
        f"b1.{_H}.tq16.tk16.d32.e256/default/normal",
    ),
    core=(
        f"b2.{_H}.tq60.tk70.d32.dv48.e40/mask-padding/normal",
        "b1.hq4.hkv4.tq1.tk300.d32.e128/default/normal",
    ),
)

_GROWTH = (
    growth_clause(
        "attention.complexity.flops",
        "flops",
        Growth(2, ("tq", "tk"), sizes=(128, 256, 384, 512, 640)),
        at=f"b1.{_H}.tq640.tk640.d16.e16/default/normal",
    ),
    growth_clause(
        "attention.complexity.traffic",
        "traffic",
        Growth(2, ("tq", "tk"), sizes=(128, 256, 384, 512, 640)),
        at=f"b1.{_H}.tq640.tk640.d16.e16/default/normal",
    ),
    growth_clause(
        "attention.complexity.flops-of-projections",
        "flops",
        Growth(1, ("tq",), sizes=(128, 256, 384, 512, 640)),
        at=f"b1.{_H}.tq640.tk20.d16.e256/default/normal",
        where=" where there are few keys",
    ),
)

LAYER_CLAUSES = (*_VALUES, *LAYER_PROPERTIES, *_COSTS, *_GROWTH)
"""The clauses of an attention layer."""
