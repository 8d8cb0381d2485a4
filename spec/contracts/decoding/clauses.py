"""Clauses of decoding: those of attention that one query has, and those of lengths and splits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from kernelproof.spec.contracts.attention.clauses import GROUPS, attention_clauses
from kernelproof.spec.contracts.costs import cost_clauses, growth_clause
from kernelproof.spec.contracts.decoding.cases import HEADS
from kernelproof.spec.contracts.decoding.properties import PROPERTIES
from kernelproof.spec.language import Clause, Growth


def of_one_query(clauses: Iterable[Clause]) -> Iterator[Clause]:
    """Clauses without costs, in whose cases each sequence has one query, and no axis for it."""
    for clause in clauses:
        if clause.metric is None:
            yield replace(clause, smoke=_one_query(clause.smoke), core=_one_query(clause.core))


def _one_query(cases: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(re.sub(r"\.tq\d+\b", "", case) for case in cases))


OWN = (
    Clause(
        "attention.lengths",
        "Sequence i has lengths[i] keys, the first ones; without lengths all tk.",
        "semantics",
        smoke=[f"b3.{HEADS}.tk130.d32/lengths-{name}/normal" for name in ("ragged", "full", "one")],
        core=[f"b5.{HEADS}.tk{tk}.d64/lengths-ragged/normal" for tk in (1, 64, 200)]
        + [f"b17.{HEADS}.tk33.d16/lengths-ragged/normal"],
    ),
    Clause(
        "attention.lengths.empty",
        "A sequence of length 0 gives out = 0 and lse = -inf, exactly.",
        "semantics",
        smoke=[
            f"b4.{HEADS}.tk70.d32/lengths-some-empty+splits-2/normal",
            f"b2.{HEADS}.tk33.d32/lengths-empty/normal",
        ],
        core=[f"b2.{HEADS}.tk130.d64/lengths-empty+splits-8/large-logit"],
    ),
    Clause(
        "attention.lengths.beyond",
        "Keys and values beyond a length never influence the output, whatever they hold: in these "
        "cases NaN, and behind the last length the largest integer.",
        "semantics",
        smoke=[f"b3.{HEADS}.tk70.d32/lengths-ragged/normal/sliced"],
        core=[
            f"b3.{HEADS}.tk200.d64/lengths-{name}+splits-3/normal/{layout}"
            for name, layout in (
                ("ragged", "mixed"),
                ("one", "transposed"),
                ("some-empty", "offset"),
            )
        ],
    ),
    Clause(
        "attention.splits",
        "splits is the number of parts into which the keys are dealt, from 1 to more than there "
        "are keys; the result does not depend on it.",
        "semantics",
        smoke=[f"b1.{HEADS}.tk140.d32/splits-{n}/normal" for n in (1, 2, 400)],
        core=[f"b1.{HEADS}.tk{tk}.d64/splits-8/normal" for tk in (1, 64, 511, 1100)],
    ),
    Clause(
        "attention.splits.empty",
        "A split without keys changes nothing.",
        "semantics",
        smoke=[
            f"b2.{HEADS}.tk5.d32/splits-8/normal",
            f"b3.{HEADS}.tk100.d32/lengths-ragged+splits-8/normal",
        ],
        core=[f"b3.{HEADS}.tk300.d64/lengths-one+splits-3/normal"],
    ),
    Clause(
        "attention.options.together",
        "Options hold together: lengths, splits and scale each do with the others what they do "
        "alone.",
        "semantics",
        smoke=[f"b3.{HEADS}.tk130.d32/lengths-ragged+splits-2+scale-0.3/normal"],
        core=[
            f"b4.{HEADS}.tk200.d64/lengths-some-empty+splits-3+scale--0.3/normal",
            f"b2.{HEADS}.tk130.d32/splits-2+scale-0.0/normal",
        ],
    ),
    replace(
        GROUPS,
        smoke=("b2.hq6.hkv3.tk33.d32/default/normal", "b1.hq4.hkv4.tk20.d32/default/normal"),
        core=(
            "b1.hq8.hkv1.tk65.d64/splits-2/normal",
            "b2.hq9.hkv3.tk129.d64/default/normal",
            "b1.hq14.hkv2.tk40.d16/default/normal",
            "b1.hq40.hkv1.tk40.d16/default/normal",
            "b2.hq12.hkv12.tk5.d16/default/normal",
        ),
    ),
    Clause(
        "attention.shape.ragged",
        "Lengths of 1, below a tile and not a multiple of one are right, and so is every head "
        "size.",
        "semantics",
        smoke=[f"b1.{HEADS}.tk{tk}.d64/default/normal" for tk in (1, 15, 129)],
        core=[f"b1.{HEADS}.tk40.d{d}/default/normal" for d in (20, 33, 72, 160, 256)]
        + [f"b1.{HEADS}.tk{tk}.d16/default/normal" for tk in (257, 4200)]
        + [f"b17.{HEADS}.tk3.d16/splits-2/normal"],
    ),
    Clause(
        "attention.shape.empty",
        "tk = 0 gives zeros (lse -inf); b = 0 or no heads give empty tensors.",
        "semantics",
        smoke=[f"b1.{HEADS}.tk0.d32/default/normal"],
        core=[
            f"b0.{HEADS}.tk9.d32/splits-2/normal",
            "b1.hq0.hkv0.tk9.d32/default/normal",
            f"b2.{HEADS}.tk0.d32/lengths-empty+splits-3/normal",
        ],
    ),
)

COSTS = (
    *cost_clauses(
        "attention",
        *("traffic", "footprint", "flops", "exps", "memory"),
        smoke=(
            f"b1.{HEADS}.tk300.d64/splits-3/normal",
            f"b3.{HEADS}.tk300.d64/lengths-ragged+splits-2/normal",
            f"b4.{HEADS}.tk100.d32.dv48/lengths-some-empty+splits-8/normal",
            # heads enough for a copy of the keys for each to stand out from any workspace
            "b1.hq8.hkv1.tk600.d64/splits-4/normal",
        ),
        core=(
            f"b2.{HEADS}.tk130.d80/default/normal",
            f"b1.{HEADS}.tk600.d64/splits-400/normal",
            f"b2.{HEADS}.tk300.d128/lengths-one+splits-3/normal",
        ),
    ),
    *(
        growth_clause(
            f"attention.complexity.{metric}",
            metric,
            Growth(1, ("tk",), sizes=(256, 512, 768, 1024, 1280)),
            at=f"b1.{HEADS}.tk1280.d32/splits-2/normal",
        )
        for metric in ("flops", "traffic")
    ),
)

_TAKEN_OVER = attention_clauses(
    HEADS, "lengths, scale", without=("shape.empty", "shape.ragged"), own=("splits",)
)

DECODING_CLAUSES = (*of_one_query(_TAKEN_OVER), *OWN, *PROPERTIES, *COSTS)
"""What holds of one query per sequence over keys of given lengths, split or not."""
