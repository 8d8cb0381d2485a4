"""Clauses of uptraining."""

from __future__ import annotations

from kernelproof.spec.contracts.costs import cost_clauses, growth_clause
from kernelproof.spec.contracts.integrity import repeat_clause
from kernelproof.spec.contracts.uptrain.properties import UPTRAIN_PROPERTIES
from kernelproof.spec.language import Clause, Growth

UPTRAIN_CLAUSES = (
    Clause(
        "attention.accuracy",
        "out is the mean of the heads of each group, off by no more than gamma_(g + 1) of the "
        "mean of their magnitudes and the declared roundings, in every element.",
        "accuracy",
    ),
    Clause(
        "attention.groups",
        "Head h belongs to group h // g with g = hq / hkv, for any number of groups.",
        "semantics",
        smoke=("hq6.hkv3.d16.e24/default/normal", "hq12.hkv2.d7.e5/default/normal"),
        core=("hq7.hkv1.d3.e9/default/normal", "hq20.hkv4.d33.e1/default/normal"),
    ),
    Clause(
        "attention.uptrain.one-each",
        "With as many key heads as heads every weight stays as it is.",
        "semantics",
        smoke=("hq4.hkv4.d16.e24/default/normal",),
        core=("hq1.hkv1.d16.e24/default/normal",),
        exact=True,
    ),
    Clause(
        "attention.uptrain.identical",
        "Heads that are the same, a power of two of them, pool to themselves, exactly where their "
        "sum is exact.",
        "semantics",
        smoke=("hq8.hkv4.d16.e24/default/identical", "hq16.hkv2.d16.e24/default/identical"),
        exact=True,
    ),
    Clause(
        "attention.layout",
        "Weights may be transposed, sliced, expanded or at an offset in a larger storage.",
        "integrity",
        smoke=tuple(
            f"hq6.hkv2.d16.e24/default/normal/{layout}"
            for layout in ("transposed", "sliced", "offset", "expanded")
        ),
    ),
    repeat_clause("attention", "hq12.hkv2.d16.e65/default/normal"),
    *UPTRAIN_PROPERTIES,
    *cost_clauses(
        "attention",
        *("traffic", "footprint", "operations", "memory"),
        # large enough for a copy of the weights to stand out from any workspace
        smoke=("hq8.hkv2.d64.e600/default/normal", "hq6.hkv6.d20.e33/default/normal"),
        core=("hq32.hkv1.d16.e100/default/normal",),
    ),
    growth_clause(
        "attention.complexity.traffic",
        "traffic",
        Growth(1, ("e",), sizes=(32, 64, 128, 256, 512)),
        at="hq8.hkv2.d16.e512/default/normal",
    ),
)
"""The clauses of the mean over groups of heads."""
