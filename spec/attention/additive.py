"""Additive attention: a small network with one hidden layer scores each query with each key."""

from __future__ import annotations

from kernelproof.reference.attention.additive import additive
from kernelproof.spec.contracts.additive.backward import BACKWARD, GRADIENT_CLAUSES
from kernelproof.spec.contracts.additive.clauses import CLAUSES
from kernelproof.spec.contracts.additive.costs import COSTS
from kernelproof.spec.contracts.additive.families import FAMILIES, MASKS, check_family
from kernelproof.spec.contracts.additive.mutants import ADDITIVE_MUTANTS
from kernelproof.spec.contracts.additive.spread import ADDITIVE
from kernelproof.spec.domain import Domain
from kernelproof.spec.language import Call, Spec

spec = Spec(
    name="attention.additive",
    title="Additive attention",
    source="Bahdanau, Cho & Bengio 2014, section 3.1 and appendix A.1.2",
    call=Call(
        "query: b tq dq, key: b tk dk, value: b tk dv, "
        "w_query: dq h, w_key: dk h, bias: h, w_score: h",
        outputs="out: b tq dv, weights: b tq tk",
        options="mask, form",
        axis_defaults={"dk": "dq", "dv": "dq"},
    ),
    reference=additive,
    accuracy=ADDITIVE,
    domain=Domain(
        sizes={
            "b": (1, 2),
            "h": (2, 64),
            "tq": (1, 40),
            "tk": (1, 100),
            "dv": (4, 64),
            "dq": (4, 64),
            "dk": (4, 64),
        },
        families=FAMILIES,
        options={"mask": MASKS, "form": ("decoder",)},
        smoke=(
            "b2.h24.tq20.tk40.dv16.dq12.dk20/default/normal",
            "b2.h32.tq17.tk70.dq16/mask-random/large-score",
            "b1.h16.tq5.tk600.dv48.dq8/default/positive-value",
            "b2.h16.tq9.tk50.dv40.dq12/default/heavy-tailed",
            "b1.h16.tq9.tk33.dq12/default/saturated",
            "b1.h16.tq9.tk33.dq12/default/plateau",
            "b1.h16.tq9.tk33.dq12/default/one-hot",
            "b1.h8.tq9.tk33.dq12/default/tiny-value",
            "b1.h4.tq2.tk4500.dq4/default/stagnant",
            "b2.h32.tq12.tk48.dq96/form-decoder/captured",
        ),
        core=(
            "b2.h48.tq40.tk100.dv64.dq32/mask-padding+form-decoder/normal",
            "b1.h16.tq9.tk33.dq12/default/zero-score",
            "b1.h16.tq9.tk33.dq12/default/linear",
            "b1.h16.tq9.tk33.dq12/default/unit-value",
            "b1.h64.tq12.tk1000.dv32.dq16/default/normal",
            "b1.h128.tq24.tk64.dq384/default/captured",
        ),
        full=("b2.h128.tq100.tk200.dq64/mask-random/normal",),
        constrain=check_family,
    ),
    costs=COSTS,
    clauses=(*CLAUSES, *GRADIENT_CLAUSES),
    mutants=ADDITIVE_MUTANTS,
    backward=BACKWARD,
)
