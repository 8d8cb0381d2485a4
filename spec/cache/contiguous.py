"""A contiguous key/value cache: incremental decoding of one token at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.attention.grouped_query import grouped_query
from kernelproof.reference.cache.contiguous import Contiguous
from kernelproof.spec.contracts.families import FAMILIES, check_captured
from kernelproof.spec.contracts.softmax import softmax_bound
from kernelproof.spec.domain import Domain, Scalar
from kernelproof.spec.language import Clause, Costs, Mutant, Outputs, Program, Spec, operation

Array = npt.NDArray[Any]

program = Program(
    new=("b", "hkv", "d", "capacity"),
    operations={
        "append": operation("k: b hkv t d, v: b hkv t d", refusal="the tokens do not fit the capacity"),
        "attend": operation("q: b hq t d", outputs="out: b hq t d, lse: b hq t float32"),
    },
    stream="t",
    macros={"decode": ("append", "attend")},
)


def _constrain(x: dict[str, int], options: Mapping[str, Scalar], family: str) -> None:
    if "steps" not in options:
        raise ValueError("a case of a program wants its steps, as in steps-append5.attend")
    steps = program.parse_steps(str(options["steps"]))
    if x["hkv"] == 0 or x["hq"] % x["hkv"]:
        raise ValueError(f"hq{x['hq']} is not a multiple of hkv{x['hkv']}")
    if family == "captured":
        check_captured(x, sum(n for _, n in steps))


def _random_steps(rng: np.random.Generator) -> str:
    words = [f"append{rng.integers(1, 40)}"]
    for _ in range(rng.integers(1, 8)):
        words.append(rng.choice([f"append{rng.integers(1, 40)}", "attend", f"decode{rng.integers(1, 6)}"]))
    return ".".join([*words, "attend"])


def _state(change: Callable[[Array, Array, int], tuple[Array, Array]]) -> Any:
    """The bug that attends over other tokens than were appended.

    ``change`` gets k and v in order (b hkv tokens d) and the group size g; heads of its result
    are repeated to those of the query.
    """

    def model(reference: Any, x: Mapping[str, Any], options: Mapping[str, Any]) -> Outputs | None:
        cache: Contiguous = reference.__self__
        if cache.k.shape[2] < 2:
            return None
        k, v = change(cache.k, cache.v, x["q"].shape[1] // cache.k.shape[1])
        changed = grouped_query(x["q"], k, v)
        return {"out": changed.out, "lse": changed.lse}

    return model


def _newest_from_slot_before(k: Array, v: Array, g: int) -> tuple[Array, Array]:
    return k, np.concatenate([v[:, :, :-1], v[:, :, -2:-1]], axis=2)


def _one_slot_too_many(k: Array, v: Array, g: int) -> tuple[Array, Array]:
    padded = [np.concatenate([x, 0 * x[:, :, :1]], axis=2) for x in (k, v)]
    return padded[0], padded[1]


def _heads_modulo(k: Array, v: Array, g: int) -> tuple[Array, Array]:
    return np.tile(k, (1, g, 1, 1)), np.tile(v, (1, g, 1, 1))


spec = Spec(
    name="cache.contiguous",
    title="Contiguous key/value cache",
    source="incremental decoding; Shazeer 2019, section 2.3",
    call=program,
    reference=Contiguous,
    accuracy=softmax_bound,
    domain=Domain(
        sizes={"b": (1, 3), "hq": (1, 6), "hkv": (1, 3), "d": (8, 80), "capacity": (1, 200)},
        families=FAMILIES,
        options={"steps": _random_steps},
        smoke=(
            "b2.hq4.hkv2.d64.capacity64/steps-append5.attend.decode7/normal",
            "b1.hq1.hkv1.d32.capacity40/steps-append33.attend.append7.attend/large-logit",
            "b1.hq2.hkv2.d32.capacity130/steps-append127.decode3/heavy-tailed",
            "b1.hq2.hkv2.d64.capacity256/steps-append200.decode4/captured",
        ),
        core=(
            *(
                f"b2.hq4.hkv2.d64.capacity300/steps-append256.decode8/{family}"
                for family in ("normal", "heavy-tailed", "large-logit", "rising", "sink", "one-hot")
            ),
            "b1.hq8.hkv4.d32.capacity256/steps-append128.decode16/captured",
        ),
        full=("b1.hq4.hkv2.d128.capacity1100/steps-append1000.decode64/normal",),
        constrain=_constrain,
    ),
    costs=Costs(
        # one attend over the capacity: a step is linear in the tokens, prefix never recomputed
        flops=lambda x: 4 * x.b * x.hq * x.capacity * x.d,
        exps=lambda x: x.b * x.hq * x.capacity,
        compulsory=lambda x: 2 * x.b * (x.hkv * x.capacity + x.hq) * x.d,
        traffic=lambda x: 2 * x.b * (x.hkv * x.capacity + x.hq) * x.d,
        memory=lambda x: 2 * x.b * x.hkv * x.capacity * x.d,
    ),
    clauses=(
        Clause(
            "cache.accuracy",
            "attend equals attention over all tokens appended so far, recomputed from scratch.",
            "accuracy",
        ),
        Clause(
            "cache.order",
            "Tokens appended one by one, in chunks or at once give the same cache.",
            "semantics",
            smoke=(
                "b1.hq4.hkv2.d32.capacity20/steps-append1.append1.append1.append9.attend/rising",
                "b1.hq4.hkv2.d32.capacity20/steps-append12.attend/rising",
            ),
            core=("b2.hq4.hkv2.d32.capacity20/steps-decode20/normal",),
        ),
        Clause(
            "cache.empty",
            "attend before any append gives out = 0 and lse = -inf, exactly.",
            "semantics",
            smoke=("b2.hq4.hkv2.d32.capacity8/steps-attend.append1.attend/normal",),
        ),
        Clause(
            "cache.full",
            "A cache filled to its capacity is right, to the last slot.",
            "semantics",
            smoke=("b2.hq4.hkv2.d32.capacity33/steps-append32.decode1/normal",),
            core=("b1.hq1.hkv1.d16.capacity1/steps-decode1/normal",),
        ),
        Clause(
            "cache.overflow",
            "An append beyond the capacity raises an exception and leaves the cache as it was.",
            "semantics",
            smoke=(
                "b2.hq4.hkv2.d32.capacity8/steps-append6.append3.attend.append2.attend.append1.attend/normal",
                "b1.hq2.hkv1.d32.capacity4/steps-append5.attend/normal",
            ),
            core=("b1.hq2.hkv2.d64.capacity16/steps-append16.append1.decode1.attend/normal",),
        ),
        Clause(
            "cache.batch",
            "Sequences of a batch and heads do not mix; query head h reads key head h // g.",
            "semantics",
            smoke=("b3.hq6.hkv3.d16.capacity24/steps-append17.attend/large-logit",),
        ),
        Clause(
            "cache.nan",
            "A NaN among the keys makes every later result NaN.",
            "semantics",
            smoke=("b1.hq4.hkv2.d32.capacity16/steps-append8.attend/nan-key",),
        ),
        Clause(
            "cache.layout",
            "Tokens may be transposed, sliced or at an offset in a larger storage; the cache "
            "keeps copies, so that the caller may reuse its buffers.",
            "integrity",
            smoke=tuple(
                f"b2.hq4.hkv2.d32.capacity20/steps-append9.decode3/normal/{layout}"
                for layout in ("transposed", "sliced", "offset")
            ),
        ),
        Clause(
            "cache.deterministic",
            "The same program twice gives equal bits, unless the implementation declares atomics.",
            "integrity",
            smoke=("b2.hq4.hkv2.d64.capacity64/steps-append40.decode3/normal",),
            repeat=True,
        ),
    ),
    mutants=(
        Mutant("last-token-lost", "the newest token is not read", _state(lambda k, v, g: (k[:, :, :-1], v[:, :, :-1]))),
        Mutant("first-token-lost", "the oldest token is not read", _state(lambda k, v, g: (k[:, :, 1:], v[:, :, 1:]))),
        Mutant("slot-stale", "the newest value is read from the slot before it", _state(_newest_from_slot_before)),
        Mutant("empty-slot-read", "one slot beyond the last token is read", _state(_one_slot_too_many)),
        Mutant("head-modulo", "query head h reads key head h mod hkv", _state(_heads_modulo)),
        Mutant("batch-of-first", "every sequence reads the tokens of the first", _state(lambda k, v, g: (0 * k + k[:1], 0 * v + v[:1]))),
    ),
)
