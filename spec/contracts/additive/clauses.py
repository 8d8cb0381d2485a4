"""Clauses of additive attention."""

from __future__ import annotations

from collections.abc import Sequence

from kernelproof.spec.contracts.additive.properties import PROPERTIES
from kernelproof.spec.contracts.costs import cost_clauses, growth_clause
from kernelproof.spec.contracts.integrity import layout_clause, repeat_clause
from kernelproof.spec.language import Check, Clause, Growth

AREA = "attention.additive"


def _clause(
    name: str, sentence: str, check: Check, smoke: Sequence[str] = (), core: Sequence[str] = ()
) -> Clause:
    return Clause(f"{AREA}.{name}", sentence, check, smoke, core)


_VALUES = (
    _clause(
        "accuracy",
        "out and weights differ from the exact result by no more than the worst case of the "
        "declared roundings, in every element.",
        "accuracy",
    ),
    _clause(
        "scores",
        "Scores are w_score · tanh(w_queryᵀ q + w_keyᵀ k + bias): the bias is inside tanh, and "
        "nothing is divided by sqrt(h).",
        "semantics",
        smoke=[
            "b1.h24.tq5.tk20.dq8/default/bias-alone",
            "b2.h40.tq9.tk17.dv8.dq12.dk20/default/normal",
        ],
        core=["b1.h64.tq9.tk33.dv7.dq40.dk9/default/normal"],
    ),
    _clause(
        "decoder",
        "form = decoder gives out = [out; query]: b tq dv+dq, the query as it was given.",
        "semantics",
        smoke=["b2.h16.tq9.tk20.dv8.dq12/form-decoder/normal"],
        core=["b2.h16.tq1.tk33.dv24.dq9/mask-padding+form-decoder/normal"],
    ),
    _clause(
        "mask.boolean",
        "mask is boolean and broadcasts to b tq tk; True = may attend.",
        "semantics",
        smoke=[f"b2.h16.tq9.tk33.dq12/mask-{m}/normal" for m in ("random", "padding", "matrix")],
        core=["b3.h16.tq40.tk70.dq12/mask-padding/heavy-tailed"],
    ),
    _clause(
        "mask.fully-masked-row",
        "A row with no allowed key gives weights of 0 and out = 0, exactly.",
        "semantics",
        smoke=[f"b2.h16.tq9.tk20.dq12/mask-{m}/normal" for m in ("empty-rows", "none")],
        core=["b2.h16.tq9.tk20.dq12/mask-empty-rows+form-decoder/large-score"],
    ),
    _clause(
        "mask.hidden-keys",
        "Keys that a boolean mask hides never influence the output while they are finite.",
        "semantics",
        smoke=["b2.h16.tq9.tk33.dq12/mask-padding/masked-huge"],
        core=["b2.h16.tq9.tk33.dq12/mask-none/masked-huge"],
    ),
    _clause(
        "keys.structural",
        "What lies beyond the keys in memory (the padding of a tile, the rest of a storage) never "
        "influences the output, NaN included.",
        "semantics",
        smoke=["b1.h16.tq9.tk33.dq12/default/normal/sliced"],
        core=["b2.h16.tq15.tk64.dq12/default/normal/sliced"],
    ),
    _clause(
        "nan.query",
        "A NaN in query i makes row i NaN and no other.",
        "semantics",
        smoke=["b2.h16.tq9.tk20.dq12/default/nan-query"],
    ),
    _clause(
        "nan.key",
        "A NaN in a key makes every row that sees it NaN.",
        "semantics",
        smoke=["b2.h16.tq9.tk20.dq12/default/nan-key"],
    ),
    _clause(
        "nan.value",
        "A NaN in a value makes out NaN in every row that sees it, and leaves weights.",
        "semantics",
        smoke=["b2.h16.tq9.tk20.dq12/default/nan-value"],
    ),
    _clause(
        "shape.empty",
        "tk = 0 gives zeros; tq = 0 or b = 0 give empty tensors; h = 0 leaves all scores at 0.",
        "semantics",
        smoke=["b1.h16.tq5.tk0.dq12/default/normal", "b1.h16.tq0.tk9.dq12/default/normal"],
        core=[
            "b0.h16.tq5.tk9.dq12/default/normal",
            "b1.h0.tq5.tk9.dq12/default/normal",
            "b2.h16.tq5.tk0.dq12/mask-random+form-decoder/normal",
        ],
    ),
    _clause(
        "shape.ragged",
        "Lengths and widths of 1, below a tile and not a multiple of one are right.",
        "semantics",
        smoke=[
            "b1.h1.tq1.tk1.dq1/default/normal",
            "b1.h17.tq37.tk131.dv5.dq7.dk33/default/normal",
        ],
        core=["b1.h33.tq65.tk17.dv1.dq9/default/normal"],
    ),
    _clause(
        "large-scores",
        "Scores beyond 88 and beyond 65504 stay finite where the true result is.",
        "semantics",
        smoke=["b1.h20.tq5.tk40.dq8/default/beyond-65504"],
    ),
    layout_clause(
        AREA,
        "b2.h16.tq9.tk33.dq12/default/normal",
        ("transposed", "sliced", "offset", "expanded", "mixed"),
        core=["b2.h16.tq17.tk33.dq12/mask-random/normal/columns"],
    ),
    repeat_clause(AREA, "b2.h24.tq33.tk70.dq16/default/normal"),
)

_COSTS = (
    *cost_clauses(
        AREA,
        *("traffic", "footprint", "flops", "exps", "memory"),
        smoke=(
            "b2.h24.tq40.tk70.dv20.dq12/default/normal",
            # long enough for tq x tk x h to stand out from any workspace
            "b1.h32.tq150.tk200.dq8/default/normal",
            "b2.h16.tq33.tk50.dq12/mask-padding+form-decoder/normal",
        ),
        core=("b1.h48.tq1.tk300.dq32/default/normal",),
    ),
    *(
        growth_clause(
            f"{AREA}.complexity.{metric}",
            metric,
            Growth(2, ("tq", "tk"), sizes=(64, 96, 128, 160, 192)),
            at="b1.h16.tq192.tk192.dq8/default/normal",
        )
        for metric in ("flops", "exps", "traffic")
    ),
)

CLAUSES: tuple[Clause, ...] = (*_VALUES, *PROPERTIES, *_COSTS)
"""Every clause of additive attention."""
