"""A contiguous key/value cache: incremental decoding of one token at a time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kernelproof.reference.cache.contiguous import Contiguous
from kernelproof.spec.contracts.attention.families import FAMILIES
from kernelproof.spec.contracts.attention.spread import SOFTMAX
from kernelproof.spec.contracts.cache.clauses import CACHE_CLAUSES
from kernelproof.spec.contracts.cache.mutants import CACHE_MUTANTS
from kernelproof.spec.contracts.captured import check_captured
from kernelproof.spec.domain import Domain, Scalar
from kernelproof.spec.language import Costs, Program, Spec, operation

program = Program(
    new=("b", "hkv", "d", "capacity"),
    operations={
        "append": operation(
            "k: b hkv t d, v: b hkv t d", refusal="the tokens do not fit the capacity"
        ),
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
        words += [(f"append{rng.integers(1, 40)}", "attend", "decode3")[rng.integers(3)]]
    return ".".join([*words, "attend"])


spec = Spec(
    name="cache.contiguous",
    title="Contiguous key/value cache",
    source="incremental decoding; Shazeer 2019, section 2.3",
    call=program,
    reference=Contiguous,
    accuracy=SOFTMAX,
    domain=Domain(
        sizes={"b": (1, 3), "hq": (1, 6), "hkv": (1, 3), "d": (8, 80), "capacity": (1, 200)},
        families={n: f for n, f in FAMILIES.items() if n != "masked-huge"},  # there is no mask
        options={"steps": _random_steps},
        smoke=(
            "b2.hq4.hkv2.d64.capacity64/steps-append5.attend.decode7/normal",
            "b1.hq1.hkv1.d32.capacity40/steps-append33.attend.append7.attend/large-logit",
            "b1.hq2.hkv2.d32.capacity130/steps-append127.decode3/heavy-tailed",
            "b1.hq1.hkv1.d16.capacity4500/steps-append4500.attend/stagnant",
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
        # one attend over a full cache: a step is linear in the tokens, the prefix not recomputed
        flops=lambda x: 4 * x.b * x.hq * x.capacity * x.d,
        useful=lambda x: 4 * x.b * x.hq * x.capacity * x.d,
        exps=lambda x: x.b * x.hq * x.capacity,
        compulsory=lambda x: 2 * x.b * (x.hkv * x.capacity + x.hq) * x.d * x.item,
        traffic=lambda x: 2 * x.b * (x.hkv * x.capacity + x.hq) * x.d * x.item,
        cap=lambda x: 4 * x.b * (x.hkv * x.capacity + x.hq) * x.d * x.item,
        memory=lambda x: 2 * x.b * x.hkv * x.capacity * x.d * x.item,
    ),
    clauses=CACHE_CLAUSES,
    mutants=CACHE_MUTANTS,
)
