"""Strassen's matrix multiplication: seven products of blocks instead of eight, recursively."""

from __future__ import annotations

from collections.abc import Mapping
from math import log2

from kernelproof.reference.matmul.strassen import CUTOFF, strassen
from kernelproof.spec.contracts.costs import cost_clauses
from kernelproof.spec.contracts.matmul.clauses import growth_clauses, matmul_clauses
from kernelproof.spec.contracts.matmul.families import FINITE, check_family
from kernelproof.spec.contracts.matmul.strassen import STRASSEN
from kernelproof.spec.contracts.matmul.strassen_costs import FAST
from kernelproof.spec.contracts.matmul.strassen_mutants import STRASSEN_MUTANTS
from kernelproof.spec.domain import Domain, Scalar
from kernelproof.spec.language import Call, Clause, Spec


def _check(x: dict[str, int], options: Mapping[str, Scalar], family: str) -> None:
    check_family(x, options, family)
    if "levels" in options and "cutoff" in options:
        raise ValueError(
            f"levels {options['levels']} and cutoff {options['cutoff']}: wanted one of them"
        )
    if int(options.get("levels", 0)) < 0 or int(options.get("cutoff", 1)) < 1:
        given = ", ".join(f"{n} {options[n]}" for n in ("levels", "cutoff") if n in options)
        raise ValueError(f"{given}: wanted levels from 0, or a cutoff from 1")


spec = Spec(
    name="matmul.strassen",
    title="Strassen's and Winograd's matrix multiplication",
    source="Strassen 1969; Winograd's form and bounds: Higham 2002, chapter 23",
    call=Call("a: m k, b: k n", outputs="out: m n", options="levels, cutoff, variant"),
    reference=strassen,
    accuracy=STRASSEN,
    domain=Domain(
        sizes={"m": (1, 100), "k": (1, 300), "n": (1, 100)},
        families=FINITE,
        options={
            "levels": (0, 1, 2, 3),
            "cutoff": (16, 32, CUTOFF),
            "variant": ("strassen", "winograd"),
        },
        smoke=(
            "m64.k64.n64/levels-1/normal",
            "m64.k64.n64/levels-2+variant-winograd/normal",
            "m33.k129.n65/levels-2/normal",
            "m80.k100.n72/variant-winograd/normal",
            "m48.k1024.n40/levels-1/positive",
            "m60.k300.n50/cutoff-32+variant-winograd/graded",
            "m40.k512.n40/levels-1+variant-winograd/cancelling",
            "m64.k384.n64/levels-1/captured",
            "m9.k8000.n10/levels-1/stagnant",
        ),
        core=(
            *(
                f"m96.k{k}.n128/levels-{levels}+variant-{variant}/{family}"
                for k, levels, family in (
                    (65, 1, "positive"),
                    (333, 2, "normal"),
                    (64, 0, "normal"),
                )
                for variant in ("strassen", "winograd")
            ),
            "m40.k70.n48/levels-3+variant-winograd/graded",
            "m130.k200.n140/default/cancelling",
        ),
        timed=("m1024.k1024.n1024/default/normal",),
        full=("m64.k80.n48/levels-4/normal", "m512.k600.n512/levels-3+variant-winograd/positive"),
        constrain=_check,
    ),
    costs=FAST,
    clauses=(
        *matmul_clauses(
            "Of finite factors out differs from the exact product by no more than gamma_(k0 + 5 L) "
            "(Winograd: 7 L) times the recursion of |a| and |b| without a minus, and the declared "
            "roundings, in every element. Factors must be finite: NaN and infinities spread over "
            "whole blocks.",
            without=("nonfinite",),
            options="levels-1",
            own=("levels", "cutoff", "variant"),
        ),
        Clause(
            "matmul.strassen.padding",
            "Sizes that 2^L does not divide, and sizes below it, are right.",
            "semantics",
            smoke=(
                "m1.k1.n1/levels-2/normal",
                "m5.k7.n3/levels-2+variant-winograd/normal",
                "m6.k70.n7/cutoff-3/normal",
            ),
            core=("m3.k5.n2/levels-3/normal", "m37.k41.n43/cutoff-10+variant-winograd/normal"),
        ),
        Clause(
            "matmul.cost.levels",
            "Blocks are halved levels times, or else while their shortest side exceeds cutoff, "
            "which is 64 unless it is given: there are 7^L leaf products.",
            "costs",
            smoke=("m129.k150.n140/default/normal", "m80.k100.n72/cutoff-20/normal"),
            core=("m200.k200.n200/default/normal",),
            metric="flops",
        ),
        *cost_clauses(
            "matmul",
            *("traffic", "footprint", "flops", "additions", "memory"),
            smoke=(
                "m100.k130.n70/levels-2/normal",
                "m256.k192.n256/levels-1+variant-winograd/normal",
                "m130.k128.n140/default/normal",
                "m1.k300.n200/cutoff-50/normal",
            ),
            core=("m300.k64.n500/cutoff-16+variant-winograd/normal",),
        ),
        *growth_clauses(
            *("flops", "traffic"),
            sizes=(16, 32, 64, 128, 256),
            options="cutoff-16",
            exponent=log2(7),
            gap=log2(7) - 2,  # to the additions of blocks
            where=", with leaves of 16",
        ),
    ),
    mutants=STRASSEN_MUTANTS,
)
