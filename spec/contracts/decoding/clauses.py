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
    """Clauses without costs, in whose cases each sequence has one query, and no axis for it: under
    causal it would see all keys."""
    for clause in clauses:
        if clause.metric is None:
            yield replace(clause, smoke=_one_query(clause.smoke), core=_one_query(clause.core))


def _one_query(cases: Sequence[str]) -> tuple[str, ...]:
    with_one = (
        re.sub(r"\.tq\d+\b", "", re.sub(r"/causal-[a-z-]+/", "/default/", c)) for c in cases
    )
    return tuple(dict.fromkeys(with_one))


OWN = (
    Clause(
        "attention.lengths",
        "Sequence i has lengths[i] keys, the first ones; without lengths all tk.",
        "semantics",
        smoke=[f"b3.{HEADS}.tk130.d32/lengths-{name}/normal" for name in ("ragged", "full", "one")],
        core=[f"b8.{HEADS}.tk{tk}.d64/lengths-ragged/normal" for tk in (1, 15, 64, 333)],
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
        core=[f"b2.{HEADS}.tk{tk}.d64/splits-8/normal" for tk in (1, 7, 64, 511, 513, 1100)],
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
            at=f"b1.{HEADS}.tk1280.d32/splits-4/normal",
        )
        for metric in ("flops", "traffic")
    ),
)

DECODING_CLAUSES = (
    *of_one_query(
        (*attention_clauses(HEADS, "lengths, scale", without=("shape.empty",), own=("splits",)),)
    ),
    *of_one_query([GROUPS]),
    *OWN,
    *PROPERTIES,
    *COSTS,
)
"""What holds of one query per sequence over keys of given lengths, split or not."""
