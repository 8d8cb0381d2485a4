"""Clauses that all exact attention variants share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from kernelproof.spec.contracts.attention.cases import with_options
from kernelproof.spec.contracts.attention.costs import tiles_of_equal_size
from kernelproof.spec.contracts.attention.properties import attention_properties
from kernelproof.spec.contracts.costs import cost_clauses, growth_clause
from kernelproof.spec.contracts.integrity import layout_clause, repeat_clause
from kernelproof.spec.language import Clause, Growth, option_words


def attention_clauses(
    heads: str,
    options: str = "mask, causal, scale",
    *,
    without: Sequence[str] = (),
    own: Sequence[str] = (),
) -> tuple[Clause, ...]:
    """The clauses about these options, with cases for ``heads`` (``h2``, ``hq4.hkv2``).

    without: anchors of clauses that do not hold, less their ``attention.``.
    own: options of this variant alone, with any of which the properties hold that do.
    """
    every = (
        *_clauses(heads),
        *attention_properties(heads),
        *attention_cost_clauses(heads),
        *_growth_clauses(heads),
    )
    anchors = {f"attention.{name}" for name in without}
    if unknown := anchors - {c.anchor for c in every}:
        raise ValueError(f"without {', '.join(sorted(unknown))}: no clause has that anchor")
    taken = option_words(options)
    cut = [
        replace(c, smoke=with_options(taken, c.smoke), core=with_options(taken, c.core))
        for c in every
        if c.anchor not in anchors
    ]
    return tuple(_also_with(own, c) for c in cut if c.check == "accuracy" or c.smoke or c.growth)


def smoke_alone(clauses: Sequence[Clause]) -> tuple[Clause, ...]:
    """The clauses with their smoke cases only, those of growth left out: for a variant of an
    algorithm whose core cases ask all there is to ask."""
    return tuple(replace(c, core=()) for c in clauses if not c.growth)


def _also_with(own: Sequence[str], clause: Clause) -> Clause:
    """The property of a clause holds with these options too."""
    relation = clause.relation
    if relation is None:
        return clause
    return replace(clause, relation=replace(relation, options=(*relation.options, *own)))


def attention_cost_clauses(heads: str) -> tuple[Clause, ...]:
    """What is counted: with and without a mask, ragged, one query, and long."""
    h = heads
    return cost_clauses(
        "attention",
        *("traffic", "footprint", "flops", "exps", "memory"),
        smoke=(
            f"b2.{h}.tq100.tk130.d64/default/normal",
            f"b1.{h}.tq100.tk130.d64/causal-bottom-right/normal",
            f"b1.{h}.tq1.tk300.d64/default/normal",
            # long enough for a tq x tk scratch to stand out from any workspace
            f"b1.{h}.tq600.tk600.d16/default/normal",
            # tiles beyond the diagonal
            f"b1.{h}.tq300.tk300.d16/causal-top-left/normal",
            f"b2.{h}.tq60.tk70.d32.dv48/mask-padding/normal",
        ),
        core=(
            f"b1.{h}.tq256.tk256.d64/causal-top-left/normal",
            f"b3.{h}.tq90.tk150.d80/scale-0.3/normal",
            f"b1.{h}.tq700.tk600.d32/causal-bottom-right/normal",
            f"b1.{h}.tq130.tk64.d128/causal-top-left/normal",
        ),
    )


def _growth_clauses(heads: str) -> Iterator[Clause]:
    """FLOPs and bytes are quadratic in the length of the sequences, and linear in that of the keys
    where one query decodes."""
    for metric in ("flops", "traffic"):
        yield growth_clause(
            f"attention.complexity.{metric}",
            metric,
            Growth(2, ("tq", "tk"), sizes=(128, 256, 384, 512, 640)),
            at=f"b1.{heads}.tq640.tk640.d32/default/normal",
        )
        yield growth_clause(
            f"attention.complexity.{metric}-of-one-query",
            metric,
            Growth(1, ("tk",), sizes=(256, 512, 768, 1024, 1280)),
            at=f"b1.{heads}.tq1.tk1280.d32/default/normal",
            where=" where there is one query",
        )


WIDTH = growth_clause(
    "attention.complexity.traffic-in-d",
    "traffic",
    Growth(2, ("d", "dv"), sizes=(16, 32, 64, 128, 256), tiles=tiles_of_equal_size),
    at="b1.hq1.hkv1.tq1024.tk1024.d256/default/normal",
    where=" where tiles of q and out take the same memory on chip",
)
"""Tiled attention moves t^2 d^2 / M: wide heads leave less room for rows (Dao et al. 2022,
Theorem 2)."""


def _clauses(heads: str) -> tuple[Clause, ...]:
    h = heads
    no_head = "".join(c if not c.isdigit() else "0" for c in heads)
    return (
        Clause(
            "attention.accuracy",
            "out and lse differ from the exact result by no more than the worst case of the "
            "declared roundings, in every element.",
            "accuracy",
        ),
        Clause(
            "attention.scale.default",
            "scale defaults to 1/sqrt(d) of the query and key head size, also where dv differs "
            "or d is not a power of two.",
            "semantics",
            smoke=[
                f"b1.{h}.tq17.tk33.d16.dv48/default/normal",
                f"b1.{h}.tq19.tk40.d80/default/normal",
            ],
            core=[f"b1.{h}.tq17.tk33.d{d}/default/normal" for d in (8, 16, 24, 32, 64, 96, 128)]
            + [f"b1.{h}.tq17.tk33.d64.dv32/default/normal"],
        ),
        Clause(
            "attention.scale.explicit",
            "An explicit scale is obeyed, also 0, 1 and a negative one.",
            "semantics",
            smoke=[f"b1.{h}.tq17.tk33.d32/scale-{s}/normal" for s in (0.0, 1.0, -0.3)],
            core=[f"b1.{h}.tq17.tk33.d64/causal-top-left+scale--0.125/normal"],
        ),
        Clause(
            "attention.mask.boolean",
            "mask is boolean and broadcasts to b h tq tk; True = may attend.",
            "semantics",
            smoke=[
                f"b2.{h}.tq17.tk33.d32/mask-{m}/normal"
                for m in (
                    *("random", "padding", "left-padding", "shared", "per-query", "per-head"),
                    "rows",
                )
            ]
            + [f"b1.{h}.tq150.tk64.d32/mask-random/normal"],  # more rows than a tile has
            core=[f"b3.{h}.tq70.tk130.d64/mask-{m}/heavy-tailed" for m in ("random", "padding")]
            + [f"b2.{h}.tq33.tk33.d32/causal-top-left+mask-random/normal"]
            + [f"b2.{h}.tq33.tk40.d32/mask-random/normal/columns"],
        ),
        Clause(
            "attention.options.together",
            "Options hold together: scale, causal and mask each do with the others what they do "
            "alone.",
            "semantics",
            smoke=[
                f"b2.{h}.tq17.tk40.d32/causal-bottom-right+scale-0.3+mask-random/normal",
                f"b2.{h}.tq1.tk65.d32/scale-0.3+mask-left-padding/normal",
                f"b2.{h}.tq33.tk65.d32/causal-bottom-right+scale-0.3/normal",
            ],
            core=[
                f"b2.{h}.{lengths}.d32/{options}/normal"
                for lengths in ("tq33.tk70", "tq70.tk33", "tq1.tk65")
                for options in (
                    "causal-bottom-right+mask-random",
                    "causal-bottom-right+mask-left-padding",
                    "causal-bottom-right+scale-0.3",
                    "causal-top-left+mask-per-query",
                    "causal-top-left+scale-0.3",
                    "scale-0.3+mask-matrix",
                    "scale--0.3+mask-empty-rows",
                    "causal-bottom-right+scale-0.3+mask-padding",
                )
            ],
        ),
        Clause(
            "attention.mask.fully-masked-row",
            "A row with no allowed key gives out = 0 and lse = -inf, exactly.",
            "semantics",
            smoke=[f"b2.{h}.tq17.tk33.d32/mask-{m}/normal" for m in ("empty-rows", "none")],
            core=[f"b1.{h}.tq17.tk33.d64/mask-empty-rows/large-logit"],
        ),
        Clause(
            "attention.mask.hidden-keys",
            "Keys that a boolean mask hides never influence the output while they are finite.",
            "semantics",
            smoke=[f"b2.{h}.tq17.tk33.d32/mask-padding/masked-huge"],
            core=[f"b2.{h}.tq17.tk33.d32/mask-none/masked-huge"],
        ),
        Clause(
            "attention.causal.top-left",
            "causal top-left lets query i attend to keys j <= i.",
            "semantics",
            smoke=_causal("top-left", f"b1.{h}", ((33, 33), (17, 40), (40, 17), (1, 9))),
            core=_causal("top-left", f"b2.{h}", ((1, 1), (64, 128), (130, 70), (300, 333))),
        ),
        Clause(
            "attention.causal.bottom-right",
            "causal bottom-right lets query i attend to keys j <= i + tk - tq; queries before "
            "the first key give out = 0 and lse = -inf.",
            "semantics",
            smoke=_causal("bottom-right", f"b1.{h}", ((33, 33), (17, 40), (40, 17), (1, 9))),
            core=[
                *_causal("bottom-right", f"b2.{h}", ((1, 1), (64, 128), (130, 70))),
                *_causal("bottom-right", f"b1.{h}", ((300, 333), (300, 180), (4, 700))),
            ],
        ),
        Clause(
            "attention.keys.structural",
            "What lies beyond the keys in memory (the padding of a tile, the rest of a storage) "
            "never influences the output, NaN included.",
            "semantics",
            smoke=[
                f"b1.{h}.tq17.tk33.d32/default/normal/sliced",
                f"b1.{h}.tq1.tk65.d64/default/normal/offset",
            ],
            core=[f"b2.{h}.tq{t}.tk{t + 1}.d64/default/normal/sliced" for t in (15, 64, 127)],
        ),
        Clause(
            "attention.nan.query",
            "A NaN in query i makes row i NaN and no other.",
            "semantics",
            smoke=[f"b1.{h}.tq17.tk33.d32/default/nan-query"],
            core=[
                f"b2.{h}.tq130.tk130.d64/default/nan-query",
                f"b1.{h}.tq4.tk4.d16/default/nan-query",
            ],
        ),
        Clause(
            "attention.nan.key",
            "A NaN in a key makes every row that sees it NaN.",
            "semantics",
            smoke=[f"b1.{h}.tq17.tk33.d32/default/nan-key"],
            core=[f"b1.{h}.tq130.tk130.d64/default/nan-key"],
        ),
        Clause(
            "attention.nan.value",
            "A NaN in a value makes every row that sees it NaN.",
            "semantics",
            smoke=[f"b1.{h}.tq17.tk33.d32/default/nan-value"],
            core=[f"b1.{h}.tq130.tk130.d64/default/nan-value"],
        ),
        Clause(
            "attention.shape.empty",
            "tk = 0 gives zeros (lse -inf); tq = 0, b = 0 or no heads give empty tensors.",
            "semantics",
            smoke=[f"b1.{h}.tq5.tk0.d32/default/normal", f"b1.{h}.tq0.tk9.d32/default/normal"],
            core=[
                f"b0.{h}.tq5.tk9.d32/default/normal",
                f"b1.{no_head}.tq5.tk9.d32/default/normal",
                f"b2.{h}.tq5.tk0.d32/causal-bottom-right+scale-0.3/normal",
                f"b2.{h}.tq5.tk0.d32/mask-random/normal",
            ],
        ),
        Clause(
            "attention.shape.ragged",
            "Lengths of 1, below a tile and not a multiple of one are right, and so is every "
            "head size.",
            "semantics",
            smoke=[
                f"b1.{h}.tq{q}.tk{k}.d64/default/normal" for q, k in ((1, 1), (7, 129), (65, 15))
            ],
            core=[
                f"b1.{h}.tq{q}.tk{k}.d64/default/normal"
                for q, k in ((63, 127), (129, 257), (1, 513))
            ]
            + [f"b1.{h}.tq9.tk70.d{d}/default/normal" for d in (20, 72, 112, 160, 256)]
            + [f"b1.{h}.tq640.tk1100.d16/default/normal"]
            # beyond 4096 keys; whole blocks of queries that see no key
            + [f"b1.{h}.tq1.tk8200.d16/default/normal"]
            + [f"b1.{h}.tq600.tk300.d16/causal-bottom-right/normal"]
            + [f"b17.{h}.tq3.tk20.d16/default/normal", f"b1.{h}.tq1100.tk9.d16/default/normal"]
            + [f"b1.{h}.tq5.tk40.d{d}/default/normal" for d in (33, 320)]
            + [f"b1.{h}.tq70.tk300.d16/causal-top-left/normal"],
        ),
        Clause(
            "attention.statistics.wide",
            "Running max, running sum and the accumulator are kept in at least float32: logits "
            "beyond 88 and beyond 65504 stay finite where the true result is.",
            "semantics",
            smoke=[
                f"b1.{h}.tq17.tk64.d16/default/beyond-65504",
                f"b1.{h}.tq17.tk65.d32/default/huge",
                # logits below any finite number that stands for -inf
                f"b1.{h}.tq17.tk33.d16/scale--0.2/beyond-65504",
            ],
            core=[
                f"b1.{h}.tq64.tk256.d64/default/rising",
                f"b1.{h}.tq64.tk256.d64/default/huge",
                f"b1.{h}.tq17.tk33.d16/causal-top-left+scale--0.2/beyond-65504",
            ],
        ),
        layout_clause(
            "attention",
            f"b2.{h}.tq17.tk33.d32/default/normal",
            core=[
                f"b2.{h}.tq33.tk65.d64/{options}/normal/{layout}"
                for options in ("default", "causal-bottom-right", "mask-random")
                for layout in ("transposed", "sliced", "repeated", "mixed")
            ],
        ),
        repeat_clause(
            "attention",
            f"b2.{h}.tq65.tk129.d64/default/normal",
            core=[f"b2.{h}.tq128.tk256.d64/causal-bottom-right/normal"],
        ),
    )


def _causal(kind: str, prefix: str, lengths: tuple[tuple[int, int], ...]) -> list[str]:
    return [f"{prefix}.tq{tq}.tk{tk}.d32/causal-{kind}/normal" for tq, tk in lengths]


DROPOUT = Clause(
    "attention.dropout",
    "keep = (mask, rate): weights are zeroed where mask is False and divided by 1 - rate "
    "elsewhere, after the softmax; lse does not change.",
    "semantics",
    smoke=("b2.h2.tq17.tk33.d32/keep-0.1/normal",),
    core=(
        "b1.h2.tq64.tk64.d64/keep-0.5/unit-value",
        "b2.h2.tq33.tk40.d32/causal-bottom-right+keep-0.5/normal",
        "b2.h2.tq33.tk40.d32/scale-0.3+keep-0.5/normal",
        "b2.h2.tq33.tk40.d32/causal-top-left+scale-0.3+mask-random+keep-0.1/normal",
    ),
)

GROUPS = Clause(
    "attention.groups",
    "Query head h reads key/value head h // g with g = hq / hkv, for any number of groups.",
    "semantics",
    smoke=("b2.hq6.hkv3.tq17.tk33.d32/default/normal", "b1.hq4.hkv4.tq9.tk20.d32/default/normal"),
    core=(
        "b1.hq8.hkv2.tq33.tk65.d64/causal-bottom-right/normal",
        "b1.hq4.hkv1.tq33.tk65.d64/causal-top-left/normal",
        "b2.hq9.hkv3.tq1.tk129.d64/default/normal",
        "b1.hq10.hkv2.tq70.tk70.d32/default/normal",
        "b1.hq16.hkv2.tq9.tk33.d32/causal-top-left/normal",
        "b1.hq32.hkv1.tq3.tk40.d16/default/normal",
        "b1.hq12.hkv6.tq3.tk40.d16/default/normal",
        "b1.hq14.hkv2.tq3.tk40.d16/default/normal",
        "b8.hq20.hkv20.tq3.tk5.d16/default/normal",  # 160 programs: more than multiprocessors
    ),
)
