"""Clauses of LSH attention: each step of a round, and how rounds are joined."""

from __future__ import annotations

from kernelproof.spec.contracts.costs import cost_clauses, growth_clause
from kernelproof.spec.contracts.integrity import layout_clause, repeat_clause
from kernelproof.spec.contracts.lsh.collisions import COLLISIONS, INDEPENDENCE
from kernelproof.spec.contracts.lsh.costs import hash_bytes, hash_flops
from kernelproof.spec.contracts.lsh.properties import PROPERTIES
from kernelproof.spec.language import Clause, Formula, Growth, Metric

_SEMANTICS = (
    Clause(
        "approximate.hash",
        "The bucket of a token x in a round is the place of the largest of [x R; -x R], computed "
        "in at least float32.",
        "semantics",
        smoke=[
            "b1.h2.t60.d32.rounds1.half4/default/normal",
            "b1.h2.t60.d80.rounds1.half5/default/clustered",
            "b1.h1.t100.d16.rounds4.half8/default/normal",
        ],
        core=[
            f"b1.h2.t100.d{d}.rounds2.half{half}/default/normal" for d, half in ((8, 1), (128, 32))
        ],
    ),
    Clause(
        "approximate.hash.many",
        "There may be as many buckets as tokens, and more than a byte counts.",
        "semantics",
        smoke=["b1.h1.t160.d16.rounds2.half150/default/normal"],
    ),
    Clause(
        "approximate.sort",
        "Tokens are sorted by bucket, and by position within one: equal tokens keep their order.",
        "semantics",
        smoke=[
            "b1.h2.t40.d16.rounds2.half4/default/repeated",
            "b1.h1.t64.d32.rounds2.half8/default/clustered",
        ],
        core=["b1.h1.t200.d16.rounds1.half12/default/repeated"],
    ),
    Clause(
        "approximate.chunks",
        "A chunk holds ceil(t / half) sorted tokens, the last one fewer, and attends to itself and "
        "to the chunk before it.",
        "semantics",
        smoke=[
            f"b1.h1.{t}.d32.rounds2.{half}/default/clustered"
            for t, half in (("t64", "half4"), ("t61", "half4"), ("t22", "half5"))
        ],
        core=["b1.h1.t17.d16.rounds2.half17/default/repeated"],
    ),
    Clause(
        "approximate.chunks.first",
        "The first chunk attends to itself alone: it does not wrap around to the last.",
        "semantics",
        smoke=[
            "b1.h2.t40.d32.rounds2.half2/default/normal",
            "b1.h2.t39.d16.rounds1.half3/default/repeated",
            "b1.h2.t40.d32.rounds1.half1/default/normal",
        ],
    ),
    Clause(
        "approximate.self",
        "A token attends to itself only if no round allows it another: then out is its v, and lse "
        "its own logit.",
        "semantics",
        smoke=[
            "b1.h1.t24.d32.rounds1.half16/default/normal",
            "b1.h1.t24.d32.rounds3.half8/causal-top-left/normal",
            "b2.h2.t1.d32.rounds2.half4/default/large-logit",
        ],
        core=["b1.h1.t40.d32.rounds2.half16/causal-top-left+duplicates-counted/large-logit"],
    ),
    Clause(
        "approximate.causal",
        "causal lets a token attend to earlier ones alone, in whatever order they are sorted.",
        "semantics",
        smoke=[
            f"b1.h1.t60.d32.rounds2.half4/causal-{corner}/clustered"
            for corner in ("top-left", "bottom-right")
        ],
        core=["b1.h1.t130.d64.rounds3.half4/causal-top-left/normal"],
    ),
    Clause(
        "approximate.rounds",
        "Any number of rounds, each with its own rotation, allows the union of their pairs.",
        "semantics",
        smoke=[f"b1.h1.t30.d32.rounds{n}.half3/default/large-logit" for n in (1, 3, 9)],
        core=[f"b1.h2.t48.d32.rounds{n}.half4/causal-top-left/normal" for n in (2, 4)],
    ),
    Clause(
        "approximate.duplicates",
        "duplicates is once, the default: a pair that n rounds allow counts once (the paper's log "
        "N); or counted: log n is added to its logit.",
        "semantics",
        smoke=[
            f"b1.h1.t48.d32.rounds3.half3/duplicates-{word}/normal" for word in ("once", "counted")
        ],
        core=["b1.h1.t30.d32.rounds8.half8/causal-top-left+duplicates-counted/normal"],
    ),
    Clause(
        "approximate.scale",
        "Logits are x_i·k_j / sqrt(d) for keys of length 1, also where dv differs.",
        "semantics",
        smoke=[
            "b1.h2.t40.d24.dv40.rounds2.half3/default/large-logit",
            "b1.h2.t40.d64.dv16.rounds2.half3/default/heavy-tailed",
            "b1.h2.t40.d16.rounds1.half2/default/faint",
        ],
    ),
    Clause(
        "approximate.softmax.wide",
        "Logits beyond any exponential stay finite: what the largest of a row is, the others are "
        "relative to.",
        "semantics",
        smoke=["b1.h1.t40.d32.rounds2.half3/default/huge"],
    ),
    Clause(
        "approximate.shape.ragged",
        "Any length and head size is right, also fewer tokens than half.",
        "semantics",
        smoke=[f"b1.h2.t{t}.d20.dv33.rounds1.half5/default/normal" for t in (2, 3, 17, 65)],
        core=["b17.h2.t9.d16.rounds1.half2/default/normal"]
        + [f"b1.h1.t{t}.d33.rounds1.half7/default/clustered" for t in (63, 257)],
    ),
    Clause(
        "approximate.shape.empty",
        "t = 0, b = 0 or no heads give empty tensors.",
        "semantics",
        smoke=[
            f"b{b}.h{h}.t{t}.d32.rounds2.half4/default/normal"
            for b, h, t in ((2, 2, 0), (0, 2, 9), (1, 0, 9), (2, 2, 1))
        ],
    ),
    layout_clause("approximate", "b2.h2.t20.d16.rounds1.half2/default/normal"),
    repeat_clause("approximate", "b1.h2.t65.d32.rounds1.half4/default/normal"),
)

_STATISTICS = tuple(
    Clause(
        f"approximate.statistics.{name}",
        sentence,
        "statistics",
        smoke=("b1.h1.t256.d256.dv128.rounds16.half4/duplicates-counted/pairs",),
        core=core,
        dtypes=("float32",),
        statistic=statistic,
    )
    for name, statistic, core, sentence in (
        (
            "collisions",
            COLLISIONS,
            ("b1.h1.t256.d256.dv128.rounds16.half16/duplicates-counted/pairs",),
            "Tokens of a known angle share a bucket of a random rotation as often as the integral "
            "says.",
        ),
        (
            "rounds",
            INDEPENDENCE,
            (),
            "Two rounds both part them with probability (1 - p)^2, so that one at least does not "
            "with 1 - (1 - p)^2: rounds are independent.",
        ),
    )
)

_COSTS = cost_clauses(
    "approximate",
    *("traffic", "footprint", "flops", "exps", "memory"),
    smoke=(
        "b2.h1.t96.d32.rounds2.half6/default/normal",
        "b1.h2.t60.d64.dv32.rounds2.half4/causal-top-left+duplicates-counted/normal",
        # long enough for t x t scores to stand out from any workspace
        "b1.h1.t600.d16.rounds1.half30/default/normal",
    ),
)

_BESIDE = ", beside those of x R, which has t / 16 columns"
_APART: dict[Metric, tuple[Formula | None, str]] = {
    "exps": (None, ""),
    "flops": (hash_flops, _BESIDE),
    "traffic": (hash_bytes, _BESIDE),
}
_GROWTH = tuple(
    growth_clause(
        f"approximate.complexity.{metric}",
        metric,
        Growth(1, ("t",), sizes=(128, 256, 384, 512, 640), parts={"half": 16}, apart=apart),
        at="b1.h1.t640.d16.rounds2.half40/default/normal",
        where=f" where chunks hold 16 tokens{words}",
    )
    for metric, (apart, words) in _APART.items()
)
"""Attention within chunks is linear. The t log t of the paper is the sort, whose comparisons are
not counted; hashing into buckets in proportion to t is quadratic, and its closed form is taken off
(docs/decisions/lsh-is-linear-beside-hashing.md)."""

LSH_CLAUSES: tuple[Clause, ...] = (
    Clause(
        "approximate.accuracy",
        "out and lse differ from the exact result by no more than the worst case of the declared "
        "roundings, in every element.",
        "accuracy",
    ),
    *_SEMANTICS,
    *PROPERTIES,
    *_STATISTICS,
    *_COSTS,
    *_GROWTH,
)
