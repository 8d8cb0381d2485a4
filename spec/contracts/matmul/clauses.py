"""Clauses that all classical matrix multiplications share."""

from __future__ import annotations

from kernelproof.spec.contracts.costs import cost_clauses, growth_clause
from kernelproof.spec.contracts.matmul.properties import MATMUL_PROPERTIES
from kernelproof.spec.language import Clause, Growth

MATMUL_CLAUSES: tuple[Clause, ...] = (
    Clause(
        "matmul.accuracy",
        "out differs from the exact product by no more than gamma_k |a| |b| and the declared "
        "roundings, in every element.",
        "accuracy",
    ),
    Clause(
        "matmul.shape.ragged",
        "Sizes of 1, below a tile and not a multiple of one are right.",
        "semantics",
        smoke=(
            "m1.k1.n1/default/normal",
            "m7.k129.n33/default/normal",
            "m65.k17.n1/default/normal",
        ),
        core=(
            "m129.k65.n127/default/normal",
            "m1.k1000.n1/default/normal",
            "m16.k15.n17/default/normal",
            "m1200.k20.n70/default/normal",  # more rows of tiles than a strip for the L2 cache has
            "m8.k4500.n8/default/normal",
            "m8.k8300.n8/default/normal",
            "m2100.k9.n8/default/normal",
            "m8.k9.n1100/default/normal",
        ),
    ),
    Clause(
        "matmul.shape.empty",
        "k = 0 gives zeros; m = 0 or n = 0 give an empty tensor.",
        "semantics",
        smoke=("m5.k0.n7/default/normal",),
        core=("m0.k5.n7/default/normal", "m5.k7.n0/default/normal", "m0.k0.n0/default/normal"),
        exact=True,
    ),
    Clause(
        "matmul.nonfinite",
        "NaN and infinities propagate as IEEE 754 says, to their row and column and no "
        "further; infinity times zero is NaN and is never skipped.",
        "semantics",
        smoke=("m33.k40.n35/default/nonfinite",),
        core=("m5.k16.n5/default/nonfinite", "m130.k130.n130/default/nonfinite"),
    ),
    Clause(
        "matmul.exact",
        "Matrices of zeros and ones multiply without error.",
        "semantics",
        smoke=("m33.k129.n35/default/bits",),
        core=("m64.k250.n64/default/bits", "m64.k64.n64/default/identity"),
        exact=True,
    ),
    Clause(
        "matmul.layout",
        "Inputs may be transposed, sliced, expanded or at an offset in a larger storage.",
        "integrity",
        smoke=tuple(
            f"m33.k65.n40/default/normal/{layout}"
            for layout in ("transposed", "sliced", "offset", "expanded", "mixed")
        ),
        core=("m130.k257.n70/default/normal/transposed", "m130.k257.n70/default/normal/sliced"),
    ),
    Clause(
        "matmul.deterministic",
        "The same call twice gives equal bits, unless the implementation declares atomics.",
        "integrity",
        smoke=("m65.k257.n65/default/normal",),
        repeat=True,
    ),
    *MATMUL_PROPERTIES,
    *cost_clauses(
        "matmul",
        *("traffic", "footprint", "flops", "memory"),
        smoke=(
            "m100.k130.n70/default/normal",
            "m256.k200.n256/default/normal",
            "m1.k300.n200/default/normal",
        ),
        core=("m300.k64.n500/default/normal", "m512.k512.n512/default/normal"),
    ),
    *(
        growth_clause(
            f"matmul.complexity.{metric}",
            metric,
            Growth(3, ("m", "k", "n"), sizes=(128, 256, 384, 512, 640)),
            at="m640.k640.n640/default/normal",
        )
        for metric in ("flops", "traffic")
    ),
)
