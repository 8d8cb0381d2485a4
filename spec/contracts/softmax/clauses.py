"""Clauses that all softmax algorithms share."""

from __future__ import annotations

from kernelproof.spec.contracts.costs import cost_clauses, growth_clause
from kernelproof.spec.contracts.integrity import repeat_clause
from kernelproof.spec.contracts.softmax.properties import PROPERTIES, ROW_SPLIT
from kernelproof.spec.language import Clause, Growth, Metric

_COUNTED: tuple[Metric, ...] = ("traffic", "footprint", "exps", "operations", "memory")

_COSTS = cost_clauses(
    "softmax",
    *_COUNTED,
    smoke=(
        "r33.n300/default/normal",
        "r5.n2500/default/normal",
        # large enough for a scratch to stand out from any workspace
        "r500.n800/default/normal",
    ),
    core=("r1.n8300/default/normal", "r100.n1024/default/normal"),
)

_GROWTH = tuple(
    growth_clause(
        f"softmax.complexity.{metric}",
        metric,
        Growth(1, ("n",), sizes=(1024, 2048, 4096, 6144, 8192)),
        at="r4.n8192/default/normal",
    )
    for metric in ("traffic", "exps", "operations")
)

SAFE_CLAUSES: tuple[Clause, ...] = (
    Clause(
        "softmax.accuracy",
        "Every output differs from the exact result by no more than the worst case of the declared "
        "roundings, in every element.",
        "accuracy",
    ),
    Clause(
        "softmax.shape",
        "Every size is right: no row or no column (lse is -inf), lengths of 1, below a tile, not a "
        "multiple of one, and of many tiles.",
        "semantics",
        smoke=(
            "r0.n5/default/normal",
            "r5.n0/default/normal",
            "r1.n7/default/normal",
            "r3.n129/default/normal",
            "r1500.n7/default/normal",
            "r65.n15/default/normal",
            "r2.n2500/default/normal",
        ),
        core=(
            "r0.n0/default/normal",
            *(f"r{r}.n{n}/default/normal" for r, n in ((5, 63), (16, 64), (2, 1023), (9, 1025))),
            "r1.n5001/default/normal",
            "r2.n8300/default/normal",
            "r1.n20000/default/normal",
            "r1200.n9/default/normal",
            "r2100.n2/default/normal",
        ),
    ),
    Clause(
        "softmax.shape.one",
        "A row of one number gives 1.",
        "semantics",
        smoke=("r9.n1/default/huge",),
        core=("r33.n1/default/normal", "r1.n1/default/normal"),
    ),
    Clause(
        "softmax.large",
        "Numbers beyond 88, where exp overflows, and rows at different levels give what is exact: "
        "each row is shifted by its own maximum.",
        "semantics",
        smoke=(
            "r17.n65/default/huge",
            # later tiles, of whatever width, have numbers larger by 88 than the first
            "r16.n2500/default/huge",
            "r9.n300/default/levels",
        ),
        core=("r40.n1500/default/huge", "r33.n2500/default/levels", "r24.n1500/default/levels"),
    ),
    Clause(
        "softmax.large.beyond-65504",
        "Numbers beyond 65504, float16's largest, give what is exact in the dtypes that hold them.",
        "semantics",
        smoke=("r9.n65/default/beyond-65504",),
        core=("r9.n1500/default/beyond-65504",),
        dtypes=("float64", "float32", "bfloat16"),
    ),
    Clause(
        "softmax.masked",
        "An element of -inf gives 0, exactly.",
        "semantics",
        smoke=("r17.n100/default/padded",),
        core=("r33.n1500/default/padded", "r17.n33/default/padded"),
    ),
    Clause(
        "softmax.masked.row",
        "A row of only -inf gives zeros, and lse = -inf, exactly, as a query without keys does in "
        "attention; the formula has 0/0 there.",
        "semantics",
        smoke=("r17.n40/default/masked",),
        core=("r6.n1500/default/masked", "r1.n1/default/masked"),
    ),
    Clause(
        "softmax.nan",
        "A NaN makes its row NaN and no other.",
        "semantics",
        smoke=("r17.n40/default/nan",),
        core=("r33.n1500/default/nan", "r4.n1/default/nan"),
    ),
    Clause(
        "softmax.infinity",
        "An element of +inf makes its row NaN (inf - inf) in every output, and no other.",
        "semantics",
        smoke=("r17.n40/default/infinity",),
        core=("r33.n1500/default/infinity", "r4.n1/default/infinity"),
    ),
    Clause(
        "softmax.layout",
        "x may be transposed, sliced, expanded or at an offset in a larger storage.",
        "integrity",
        smoke=tuple(
            f"r17.n65/default/normal/{layout}"
            for layout in ("transposed", "columns", "sliced", "offset", "expanded")
        ),
        core=tuple(
            f"r33.n1500/default/normal/{layout}"
            for layout in ("transposed", "sliced", "offset", "expanded", "repeated")
        ),
    ),
    repeat_clause("softmax", "r17.n1500/default/normal"),
    *PROPERTIES,
    *_COSTS,
    *_GROWTH,
)

ONLINE_CLAUSES: tuple[Clause, ...] = (*SAFE_CLAUSES, ROW_SPLIT)
