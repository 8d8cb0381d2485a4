"""Naive matrix multiplication: every output reads its own row of a and column of b."""

from __future__ import annotations

from kernelproof.reference.matmul.naive import naive
from kernelproof.spec.contracts.costs import cost_clauses
from kernelproof.spec.contracts.matmul.bound import PRODUCT
from kernelproof.spec.contracts.matmul.clauses import growth_clauses, matmul_clauses
from kernelproof.spec.contracts.matmul.costs import NAIVE
from kernelproof.spec.contracts.matmul.families import FAMILIES, check_family
from kernelproof.spec.contracts.matmul.mutants import MATMUL_MUTANTS
from kernelproof.spec.domain import Domain
from kernelproof.spec.language import Call, Spec

spec = Spec(
    name="matmul.naive",
    title="Naive matrix multiplication",
    source="the textbook's three loops; bound: Higham 2002, eq. 3.13",
    call=Call("a: m k, b: k n", outputs="out: m n"),
    reference=naive,
    accuracy=PRODUCT,
    domain=Domain(
        sizes={"m": (1, 60), "k": (1, 600), "n": (1, 60)},
        families=FAMILIES,
        options={},
        smoke=(
            "m32.k32.n28/default/normal",
            "m17.k129.n33/default/normal",
            "m16.k1024.n20/default/positive",
            "m20.k100.n25/default/graded",
            "m16.k512.n16/default/cancelling",
            "m24.k384.n16/default/captured",
            "m9.k8000.n10/default/stagnant",
        ),
        core=(
            *(
                f"m16.k{k}.n24/default/{f}"
                for k in (64, 333, 2048)
                for f in ("normal", "positive", "cancelling")
            ),
            "m30.k100.n20/default/graded",
        ),
        timed=("m512.k512.n512/default/normal",),
        full=("m200.k1024.n200/default/normal",),
        constrain=check_family,
    ),
    costs=NAIVE,
    clauses=(
        *matmul_clauses(outputs=300),
        *cost_clauses(
            "matmul",
            *("traffic", "footprint", "operations", "memory"),
            smoke=("m20.k3000.n25/default/normal", "m1.k300.n200/default/normal"),
            core=("m20.k1500.n30/default/normal",),
        ),
        *growth_clauses("operations", "traffic", sizes=(2, 4, 8, 16, 32)),
    ),
    mutants=MATMUL_MUTANTS,
)
