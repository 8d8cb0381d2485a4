"""The backward of additive attention with regard to all its inputs, and the clauses about it."""

from __future__ import annotations

from kernelproof.reference.attention.additive_gradients import additive_gradients
from kernelproof.spec.contracts.additive.gradient_mutants import GRADIENT_MUTANTS
from kernelproof.spec.contracts.additive.gradients_spread import GRADIENTS
from kernelproof.spec.language import Backward, Clause

BACKWARD = Backward(
    of="query, key, value, w_query, w_key, bias, w_score",
    reference=additive_gradients,
    accuracy=GRADIENTS,
    mutants=GRADIENT_MUTANTS,
    without="form",  # a decoder's out has a cotangent of another width
)
"""Gradients of weights value, through the scores and tanh."""

GRADIENT_CLAUSES = (
    Clause(
        "attention.additive.gradients",
        "The gradients of all inputs for a given d_out differ from the exact ones by no more than "
        "the worst case of the declared roundings, in every element; those of parameters are sums "
        "over the batch, too.",
        "gradients",
        smoke=(
            "b2.h24.tq20.tk33.dv16.dq12.dk20/default/normal",
            "b2.h16.tq9.tk50.dq12/mask-random/large-score",
            "b1.h16.tq9.tk33.dq12/default/saturated",
            # errors of 0.5 percent average out over as many rows
            "b2.h4.tq150.tk20.dv8.dq24/default/normal",
        ),
        core=(
            "b2.h8.tq40.tk17.dv24.dq16/default/positive-value",
            "b1.h16.tq9.tk33.dq12/default/plateau",
            "b2.h16.tq9.tk33.dq12/default/heavy-tailed",
            "b2.h32.tq12.tk48.dq96/default/captured",
            "b1.h16.tq9.tk20.dq12/default/zero-score",
        ),
    ),
    Clause(
        "attention.additive.gradients.empty-row",
        "A row with no allowed key adds nothing to any gradient, and a key that no row sees has "
        "dkey = 0 and dvalue = 0: exactly.",
        "gradients",
        smoke=(
            "b2.h16.tq9.tk20.dq12/mask-empty-rows/normal",
            "b2.h16.tq9.tk20.dq12/mask-padding/normal",
            "b2.h16.tq9.tk20.dq12/mask-none/normal",
        ),
    ),
    Clause(
        "attention.additive.gradients.shape",
        "One query, key or hidden unit, and lengths that no tile divides are right; without keys "
        "or queries all gradients are zero.",
        "gradients",
        smoke=(
            "b1.h1.tq1.tk1.dq4/default/normal",
            "b1.h17.tq37.tk131.dv5.dq7.dk33/default/normal",
            "b1.h16.tq5.tk0.dq12/default/normal",
            "b1.h16.tq0.tk9.dq12/default/normal",
        ),
    ),
    Clause(
        "attention.additive.gradients.layout",
        "Inputs and d_out may be transposed, sliced, expanded or at an offset in a larger storage.",
        "gradients",
        smoke=tuple(
            f"b2.h16.tq9.tk20.dq12/default/normal/{layout}"
            for layout in ("transposed", "sliced", "offset", "expanded", "mixed")
        ),
    ),
)
