"""Clauses of orthogonal features."""

from __future__ import annotations

from kernelproof.spec.contracts.costs import cost_clauses, growth_clause
from kernelproof.spec.contracts.features.errors import likeness_of_errors
from kernelproof.spec.contracts.features.properties import FEATURES_PROPERTIES
from kernelproof.spec.contracts.features.statistics import estimate_errors
from kernelproof.spec.contracts.integrity import repeat_clause
from kernelproof.spec.language import Clause, Growth
from kernelproof.spec.statistics import Statistic

FEATURES_CLAUSES = (
    Clause(
        "approximate.accuracy",
        "Each row is off by no more than a backward stable factorisation of its block makes it: "
        "by reflectors, by rotations, or by Gram-Schmidt taken twice.",
        "accuracy",
    ),
    Clause(
        "approximate.features.blocks",
        "Every d rows are a block of their own; the last one may be shorter, and so may be the "
        "only one.",
        "semantics",
        smoke=(
            *("d16.r5/default/normal", "d7.r20/default/normal", "d8.r8/default/normal"),
            "d3.r200/default/normal",  # 66 blocks and a shorter one
        ),
        core=(
            *("d1.r4/default/normal", "d16.r33/default/normal", "d20.r1/default/normal"),
            "d2.r4200/default/normal",
        ),
    ),
    Clause(
        "approximate.features.wide",
        "Rows may have any number of coordinates.",
        "semantics",
        smoke=("d130.r20/default/normal",),
    ),
    Clause(
        "approximate.features.signs",
        "Each feature points to the side that its row does, g_i . w_i >= 0, as in Gram-Schmidt: "
        "other signs are not left to chance.",
        "semantics",
        smoke=("d4.r12/default/normal", "d2.r9/default/equal-norms"),
    ),
    Clause(
        "approximate.layout",
        "Inputs may be transposed, sliced or at an offset in a larger storage.",
        "integrity",
        smoke=tuple(
            f"d8.r20/default/normal/{layout}" for layout in ("transposed", "sliced", "offset")
        ),
    ),
    repeat_clause("approximate", "d16.r40/default/normal"),
    *FEATURES_PROPERTIES,
    Clause(
        "approximate.features.estimates",
        "Over many blocks the mean of the positive estimate of exp(x . y) is exp(x . y) along "
        "coherent directions and others; mean square errors of positive, hyperbolic and trig "
        "estimates are at most those of orthogonal features, below those of independent ones.",
        "statistics",
        smoke=("d16.r32000/default/normal",),
        dtypes=("float32",),
        statistic=Statistic(estimate_errors),
    ),
    Clause(
        "approximate.features.no-constant",
        "Nothing is added to rows, directions or features: over many blocks the errors of the "
        "coordinates of a row have nothing in common.",
        "statistics",
        smoke=("d16.r1600/default/normal",),
        dtypes=("float32",),
        statistic=Statistic(likeness_of_errors),
    ),
    *cost_clauses(
        "approximate",
        *("traffic", "footprint", "memory"),
        # large enough for copies to stand out from any workspace
        smoke=("d64.r4096/default/normal", "d16.r40/default/normal"),
    ),
    growth_clause(
        "approximate.complexity.traffic",
        "traffic",
        Growth(1, ("r",), sizes=(64, 128, 256, 384, 512)),
        at="d16.r512/default/normal",
    ),
)
"""The clauses of rows that are made orthogonal."""
