"""Clauses of self-attention without parameters."""

from __future__ import annotations

from kernelproof.spec.contracts.costs import cost_clauses, growth_clause
from kernelproof.spec.contracts.dot_product.properties import PROPERTIES
from kernelproof.spec.contracts.integrity import repeat_clause
from kernelproof.spec.language import Clause, Growth, Metric

_GROWING: tuple[Metric, ...] = ("flops", "traffic")

_COSTS = cost_clauses(
    "attention",
    *("traffic", "footprint", "flops", "exps", "memory"),
    smoke=(
        "b2.t100.d64/default/normal",
        "b1.t1.d32/default/normal",
        # long enough for a t x t scratch to stand out from any workspace
        "b1.t600.d16/default/normal",
    ),
    core=("b3.t130.d80/default/normal",),
)

_GROWTH = tuple(
    growth_clause(
        f"attention.complexity.{metric}",
        metric,
        Growth(2, ("t",), sizes=(128, 256, 384, 512, 640)),
        at="b1.t640.d16/default/normal",
    )
    for metric in _GROWING
)

DOT_PRODUCT_CLAUSES: tuple[Clause, ...] = (
    Clause(
        "attention.accuracy",
        "out differs from the exact result by no more than the worst case of the declared "
        "roundings, in every element.",
        "accuracy",
    ),
    Clause(
        "attention.unscaled",
        "Logits are x_i·x_j as they are, whatever d: no scale, no mask, no token left out.",
        "semantics",
        smoke=[f"b2.t40.d{d}/default/normal" for d in (16, 64)] + ["b1.t33.d80/default/clustered"],
        core=[f"b1.t70.d{d}/default/normal" for d in (8, 24, 33, 96, 128, 256)],
    ),
    Clause(
        "attention.shape.empty",
        "t = 0 or b = 0 gives an empty tensor, and one token alone gives itself.",
        "semantics",
        smoke=[f"b{b}.t{t}.d32/default/normal" for b, t in ((2, 0), (0, 9), (2, 1))],
    ),
    Clause(
        "attention.shape.ragged",
        "Lengths below a tile and not a multiple of one are right.",
        "semantics",
        smoke=[f"b2.t{t}.d32/default/normal" for t in (2, 7, 65, 129)],
        core=[f"b1.t{t}.d16/default/clustered" for t in (15, 64, 127, 257, 513)]
        + ["b17.t3.d16/default/normal"],
    ),
    Clause(
        "attention.statistics.wide",
        "Maximum, sum and accumulator are kept in at least float32: logits beyond 88 and beyond "
        "65504 stay finite where the true result is.",
        "semantics",
        smoke=[
            "b1.t65.d32/default/level",
            "b1.t65.d32/default/huge",
            "b1.t65.d8/default/beyond-65504",
        ],
        core=[f"b1.t130.d64/default/{f}" for f in ("level", "huge", "rising")],
    ),
    Clause(
        "attention.nan.token",
        "A NaN in a token makes every row of its sequence NaN, and no other.",
        "semantics",
        smoke=["b2.t33.d32/default/nan-token"],
        core=["b1.t130.d32/default/nan-token"],
    ),
    Clause(
        "attention.layout",
        "x may be transposed, sliced, expanded or at an offset in a larger storage.",
        "integrity",
        smoke=[
            f"b2.t33.d32/default/normal/{layout}"
            for layout in ("transposed", "columns", "sliced", "offset", "expanded")
        ],
    ),
    repeat_clause("attention", "b2.t129.d64/default/normal"),
    *PROPERTIES,
    *_COSTS,
    *_GROWTH,
)
