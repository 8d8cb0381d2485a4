"""Tiled matrix multiplication: every tile of a and b is loaded once per use."""

from __future__ import annotations

from kernelproof.reference.matmul.tiled import tiled
from kernelproof.spec.contracts.costs import cost_clauses
from kernelproof.spec.contracts.matmul.bound import PRODUCT
from kernelproof.spec.contracts.matmul.clauses import growth_clauses, matmul_clauses
from kernelproof.spec.contracts.matmul.costs import TILED
from kernelproof.spec.contracts.matmul.families import FAMILIES, check_family
from kernelproof.spec.contracts.matmul.gradients import BACKWARD, GRADIENT_CLAUSES
from kernelproof.spec.contracts.matmul.mutants import MATMUL_MUTANTS
from kernelproof.spec.domain import Domain
from kernelproof.spec.language import Call, Spec

spec = Spec(
    name="matmul.tiled",
    title="Tiled matrix multiplication",
    source="the blocked algorithm; bound: Higham 2002, eq. 3.13",
    call=Call("a: m k, b: k n", outputs="out: m n"),
    reference=tiled,
    accuracy=PRODUCT,
    domain=Domain(
        sizes={"m": (1, 200), "k": (1, 600), "n": (1, 200)},
        families=FAMILIES,
        options={},
        smoke=(
            "m64.k64.n64/default/normal",
            "m33.k129.n65/default/normal",
            "m48.k1024.n40/default/positive",
            "m100.k100.n100/default/graded",
            "m40.k512.n40/default/cancelling",
            "m64.k384.n128/default/captured",
            "m9.k8000.n10/default/stagnant",
        ),
        core=(
            *(
                f"m128.k{k}.n96/default/{f}"
                for k in (64, 333, 2048)
                for f in ("normal", "positive", "cancelling")
            ),
            "m256.k384.n128/default/captured",
            "m300.k300.n300/default/graded",
            "m1200.k20.n70/default/normal",  # more rows of tiles than a strip for the L2 cache has
        ),
        timed=("m1024.k1024.n1024/default/normal", "m1.k2048.n2048/default/normal"),
        full=("m512.k4096.n512/default/normal", "m1024.k1024.n1024/default/positive"),
        constrain=check_family,
    ),
    costs=TILED,
    clauses=(
        *matmul_clauses(),
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
        *growth_clauses("flops", "traffic", sizes=(128, 256, 384, 512, 640)),
        *GRADIENT_CLAUSES,
    ),
    mutants=MATMUL_MUTANTS,
    backward=BACKWARD,
)
