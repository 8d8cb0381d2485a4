"""Clauses of attention over projected keys."""

from __future__ import annotations

from kernelproof.spec.contracts.costs import cost_clauses, growth_clause
from kernelproof.spec.contracts.integrity import layout_clause, property_clause, repeat_clause
from kernelproof.spec.language import Clause, Growth
from kernelproof.spec.relations import axis_permuted, exchanged

_SMALL = ("b2.h2.t33.d16.r9/default/normal",)

LINFORMER_CLAUSES = (
    Clause(
        "approximate.accuracy",
        "out differs from the exact result for the given projections by no more than the worst "
        "case of the declared roundings, in every element.",
        "accuracy",
    ),
    Clause(
        "approximate.projections",
        "proj_k mixes keys and proj_v values, each row one mixture of all tokens; there may be one "
        "row, or as many as tokens.",
        "semantics",
        smoke=[
            f"b1.h2.t{t}.d16.r{r}/default/{family}"
            for t, r, family in ((20, 1, "normal"), (17, 17, "normal"), (40, 7, "pooling"))
        ],
        core=("b1.h2.t17.d16.r17/default/pooling", "b1.h1.t5.d16.r12/default/normal"),
    ),
    Clause(
        "approximate.scale",
        "scale is 1/sqrt(d) of the query and key head size unless an explicit one is given, 0 and "
        "a negative one included.",
        "semantics",
        smoke=[f"b1.h2.t20.d16.dv24.r8/{o}/normal" for o in ("default", "scale-0.0", "scale--0.3")],
        core=("b1.h2.t20.d20.r8/scale-1.0/normal",),
    ),
    Clause(
        "approximate.shape.ragged",
        "Any number of tokens is right, one and a prime one; without queries the result is empty.",
        "semantics",
        smoke=("b1.h2.t1.d16.r5/default/normal", "b1.h1.t131.d16.dv7.r20/default/normal"),
        core=("b0.h2.t9.d16.r5/default/normal", "b1.h1.t257.d16.r33/default/normal"),
    ),
    Clause(
        "approximate.shape.any",
        "No batch, head, coordinate or mixture is one too many.",
        "semantics",
        smoke=(
            "b3.h5.t20.d96.dv80.r130/default/normal",
            "b1.h1.t20.d96.r130/default/large-logit",
        ),
    ),
    Clause(
        "approximate.softmax.wide",
        "Logits beyond 88 and beyond any number that they might be held to stay finite, and tell "
        "which mixture weighs most.",
        "semantics",
        smoke=("b1.h2.t17.d16.r24/default/huge",),
    ),
    Clause(
        "approximate.nan",
        "A NaN in a query makes its row NaN and no other; a NaN in a key or a value, of which "
        "every mixture holds a part, makes every row of its head NaN.",
        "semantics",
        smoke=[f"b1.h2.t17.d16.r9/default/nan-{role}" for role in ("query", "key", "value")],
    ),
    layout_clause("approximate", "b2.h2.t17.d16.r9/default/normal"),
    repeat_clause("approximate", "b2.h2.t65.d16.r24/default/normal"),
    property_clause(
        "approximate",
        "mixtures-permuted",
        "Permuting the rows of both projections changes nothing.",
        axis_permuted("r", None, ("scale",)),
        _SMALL,
    ),
    property_clause(
        "approximate",
        "tokens-permuted",
        "Permuting all tokens, and the columns of both projections, permutes the outputs.",
        axis_permuted("t", 2, ("scale",)),
        _SMALL,
    ),
    property_clause(
        "approximate",
        "tokens-exchanged",
        "Exchanging two tokens, and two columns of both projections, exchanges two rows of the "
        "outputs: each call takes the projections that it is given, however alike the last ones.",
        axis_permuted("t", 2, ("scale",), words="t exchanged", ordered=exchanged),
        _SMALL,
    ),
    property_clause(
        "approximate",
        "heads-permuted",
        "Permuting the heads permutes the outputs.",
        axis_permuted("h", 1, ("scale",)),
        _SMALL,
    ),
    property_clause(
        "approximate",
        "batch-permuted",
        "Permuting the batch permutes the outputs.",
        axis_permuted("b", 0, ("scale",)),
        _SMALL,
    ),
    *cost_clauses(
        "approximate",
        *("traffic", "footprint", "flops", "exps", "memory"),
        smoke=(
            "b2.h2.t100.d32.dv24.r20/default/normal",
            # long enough for t x t scores to stand out from any workspace
            "b1.h1.t800.d16.r16/default/normal",
        ),
    ),
    *(
        growth_clause(
            f"approximate.complexity.{metric}",
            metric,
            Growth(1, ("t",), sizes=(128, 256, 384, 512, 640)),
            at="b1.h1.t640.d16.r16/default/normal",
        )
        for metric in ("flops", "traffic")
    ),
)
"""The clauses of attention over projected keys."""
