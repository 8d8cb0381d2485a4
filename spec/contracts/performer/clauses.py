"""Clauses of attention through random features."""

from __future__ import annotations

from kernelproof.spec.contracts.costs import cost_clauses, growth_clause
from kernelproof.spec.contracts.integrity import layout_clause, repeat_clause
from kernelproof.spec.contracts.performer.properties import PERFORMER_PROPERTIES
from kernelproof.spec.language import Clause, Growth

_SIZES = (256, 384, 512, 640, 768)  # of whole chunks, as many in each of two spans
_COUNTED = (
    "b2.h2.t100.d32.dv24.r48/default/normal",
    "b1.h2.t130.d16.r32/kind-hyperbolic+causal-top-left/small",
)
_RELU_CAUSAL = "kind-relu+causal-top-left"
_OTHER_KINDS = ("b1.h1.t90.d16.r32/kind-trig/small", "b1.h1.t90.d16.r32/kind-relu/small")

PERFORMER_CLAUSES = (
    Clause(
        "approximate.accuracy",
        "out differs from the exact result for the given features by no more than the worst case "
        "of the declared roundings, in every element.",
        "accuracy",
    ),
    Clause(
        "approximate.kind",
        "phi is that of the kind: positive unless another is asked for.",
        "semantics",
        smoke=[f"b1.h2.t33.d16.r32/kind-{kind}/small" for kind in ("hyperbolic", "trig", "relu")]
        + ["b1.h2.t33.d16.r32/kind-positive/normal"],
        core=[
            f"b1.h2.t70.d16.dv24.r48/kind-{kind}+causal-top-left/small"
            for kind in ("hyperbolic", "trig", "relu")
        ],
    ),
    Clause(
        "approximate.causal",
        "Under causal query i sees the keys j <= i, in the sum and in its normaliser, however many "
        "positions are taken at once.",
        "semantics",
        smoke=[f"b1.h2.t{t}.d16.r24/causal-top-left/normal" for t in (33, 129)],
        core=[f"b2.h1.t{t}.d16.r24/causal-top-left/growing" for t in (2, 64, 200)],
    ),
    Clause(
        "approximate.scale",
        "q and k are scaled by d^-1/4 each, also where dv differs or d is no power of two.",
        "semantics",
        smoke=("b1.h2.t20.d24.dv40.r32/default/normal", "b1.h1.t20.d20.dv7.r16/default/normal"),
        core=("b1.h1.t20.d80.r100/default/normal", "b1.h1.t20.d1.r8/default/normal"),
    ),
    Clause(
        "approximate.features.any-number",
        "There may be fewer features than coordinates, more, or one.",
        "semantics",
        smoke=[f"b1.h2.t20.d16.r{r}/default/normal" for r in (1, 7, 150)],
    ),
    Clause(
        "approximate.stabilised",
        "Exponents are lowered by the largest of each query and of all keys of a head, so that "
        "features stay finite where their exponents exceed those of the format.",
        "semantics",
        smoke=(
            "b1.h2.t33.d64.r48/default/large",
            "b1.h2.t33.d16.r24/default/growing",
            "b1.h2.t9.d64.r24/default/growing-queries",
        ),
        core=("b1.h2.t33.d64.r48/kind-hyperbolic+causal-top-left/large",),
    ),
    Clause(
        "approximate.epsilon",
        "Nothing is added to the features or to the normaliser.",
        "semantics",
        smoke=("b1.h2.t40.d32.r32/default/large", "b1.h2.t12.d16.r32/kind-relu/tiny"),
    ),
    Clause(
        "approximate.zero-weights",
        "A query whose weights are all zero, as those of relu may be, gives out = 0, like a row "
        "without a key in softmax attention.",
        "semantics",
        smoke=[f"b1.h2.t40.d16.r24/{o}/opposite" for o in ("kind-relu", _RELU_CAUSAL)],
        core=(f"b2.h1.t150.d32.dv24.r40/{_RELU_CAUSAL}/opposite",),
    ),
    Clause(
        "approximate.shape.ragged",
        "Any number of positions is right: one, and what is no multiple of a chunk; of none the "
        "result is empty.",
        "semantics",
        smoke=("b1.h2.t1.d16.r16/default/normal", "b1.h1.t17.d16.r16/causal-top-left/normal"),
        core=(
            "b1.h2.t0.d16.r16/default/normal",
            "b1.h2.t0.d16.r16/kind-trig+causal-top-left/small",
            "b1.h2.t257.d16.r16/causal-top-left/normal",
        ),
    ),
    layout_clause("approximate", "b2.h2.t33.d16.r24/default/normal"),
    repeat_clause("approximate", "b1.h2.t65.d16.r24/causal-top-left/normal"),
    *PERFORMER_PROPERTIES,
    *cost_clauses("approximate", "footprint", "flops", "exps", smoke=_COUNTED, core=_OTHER_KINDS),
    *cost_clauses(
        "approximate",
        *("traffic", "memory"),
        # long enough for t x t weights to stand out from any workspace
        smoke=(*_COUNTED, "b1.h1.t800.d16.r16/default/normal"),
        core=("b1.h1.t800.d16.r16/causal-top-left/normal", *_OTHER_KINDS),
    ),
    *(
        growth_clause(
            f"approximate.complexity.{metric}{under}",
            metric,
            Growth(1, ("t",), sizes=_SIZES),
            at=f"b1.h1.t768.d16.r16/{options}/normal",
            where=words,
        )
        for metric in ("flops", "traffic")
        for under, options, words in (
            ("", "default", ""),
            ("-under-causal", "causal-top-left", " under causal"),
        )
    ),
)
"""The clauses of attention through random features."""
