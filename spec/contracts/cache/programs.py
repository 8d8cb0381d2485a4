"""Programs of key/value caches: the operations, and how cases of them are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kernelproof.spec.contracts.attention.families import FAMILIES
from kernelproof.spec.contracts.captured import check_captured
from kernelproof.spec.domain import Domain, Scalar
from kernelproof.spec.language import Program, operation


def cache_program(size: str, *, refusal: str | None = None) -> Program:
    """A cache of one batch of sequences, ``size`` tokens long; refusal: when an append has one."""
    return Program(
        new=("b", "hkv", "d", size),
        operations={
            "append": operation("k: b hkv t d, v: b hkv t d", refusal=refusal),
            "attend": operation("q: b hq t d", outputs="out: b hq t d, lse: b hq t float32"),
        },
        stream="t",
        macros={"decode": ("append", "attend")},
        holds=lambda cache: {"tokens": cache.k.shape[2]},
        full={"tokens": size},
        example="append1.attend",
    )


def _random_steps(rng: np.random.Generator) -> str:
    words = [f"append{rng.integers(1, 40)}"]
    for _ in range(rng.integers(1, 8)):
        words += [(f"append{rng.integers(1, 40)}", "attend", "decode3")[rng.integers(3)]]
    return ".".join([*words, "attend"])


def cache_domain(program: Program, **cases: Any) -> Domain:
    """Cases of such a program; ``cases`` per tier."""

    size = program.new[-1]

    def constrain(x: dict[str, int], options: Mapping[str, Scalar], family: str) -> None:
        if "steps" not in options:
            raise ValueError("a case of a program wants its steps, as in steps-append5.attend")
        steps = program.parse_steps(str(options["steps"]))
        if x[size] == 0:
            raise ValueError(f"{size}0: wanted a cache of at least one token")
        if x["hkv"] == 0 or x["hq"] % x["hkv"]:
            raise ValueError(f"hq{x['hq']} is not a multiple of hkv{x['hkv']}")
        if family == "captured":
            check_captured(x, sum(step.length for step in steps))

    return Domain(
        sizes={"b": (1, 3), "hq": (1, 6), "hkv": (1, 3), "d": (8, 80), size: (1, 200)},
        families={n: f for n, f in FAMILIES.items() if n != "masked-huge"},  # there is no mask
        options={"steps": _random_steps},
        constrain=constrain,
        **cases,
    )
