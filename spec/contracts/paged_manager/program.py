"""Programs of a paged key/value cache: the operations, and how cases of them are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from kernelproof.reference.cache.paged_manager import PagedManager
from kernelproof.spec.contracts.attention.families import FAMILIES
from kernelproof.spec.contracts.captured import check_captured
from kernelproof.spec.domain import Arrays, Domain, Family, Scalar
from kernelproof.spec.language import Program, operation


def _holds(manager: PagedManager) -> dict[str, int]:
    """Tokens of every sequence, and what the last append copied."""
    tokens = {f"tokens{n}": each.k.shape[1] for n, each in manager.sequences.items()}
    return {**tokens, "copied": manager.copied}


PROGRAM = Program(
    new=("pages", "page", "hkv", "d"),
    operations={
        "allocate": operation("", options="sequence", refusal="the sequence is there already"),
        "append": operation(
            "k: 1 hkv t d, v: 1 hkv t d",
            options="sequence",
            refusal="there is no such sequence, or the free pages do not suffice",
        ),
        "fork": operation(
            "",
            options="source, target",
            refusal="there is no such source, or the target is there already",
        ),
        "free": operation("", options="sequence", refusal="there is no such sequence"),
        "attend": operation(
            "q: t hq 1 d",
            outputs="out: t hq 1 d, lse: t hq 1 float32",
            options="sequences...",
            refusal="there is no such sequence",
        ),
    },
    stream="t",
    macros={"decode": ("append", "attend")},
    holds=_holds,
    full={"tokens0": "pages*page"},
    example="allocate@0.append1@0.attend@0",
)


def _query_each(family: Family) -> Family:
    """The family, which draws the queries of one sequence, for one query in each of many."""

    def draw(
        rng: np.random.Generator,
        shapes: Mapping[str, tuple[int, ...]],
        options: Mapping[str, Any],
    ) -> Arrays:
        t, hq, _, d = shapes["q"]
        drawn = family.draw(rng, {**shapes, "q": (1, hq, t, d)}, options)
        return {**drawn, "q": drawn["q"].transpose(2, 1, 0, 3)}

    return replace(family, draw=draw)


_NAMES = ("normal", "heavy-tailed", "large-logit", "rising", "stagnant", "nan-key", "captured")


def _constrain(x: dict[str, int], options: Mapping[str, Scalar], family: str) -> None:
    if "steps" not in options:
        raise ValueError("a case of a program wants its steps, as in steps-allocate@0.append5@0")
    steps = PROGRAM.parse_steps(str(options["steps"]))
    if x["hkv"] == 0 or x["hq"] % x["hkv"]:
        raise ValueError(f"hq{x['hq']} is not a multiple of hkv{x['hkv']}")
    if x["page"] == 0:
        raise ValueError("page0: wanted pages of at least one token")
    if family == "captured":
        for name in ("append", "attend"):
            tokens = sum(step.length for step in steps if step.operation == name)
            check_captured({**x, "b": 1}, tokens)


SEQUENCES = 5
"""How many numbers of sequences a random program is about."""


def random_steps(rng: np.random.Generator, count: int = 16) -> str:
    """A program of so many requests, of which some are to be refused, and an attend at its end."""
    live: list[int] = []
    words = []

    def known() -> int:
        """A sequence that is there, mostly."""
        there = live and rng.random() < 0.9
        return int(rng.choice(live) if there else rng.integers(SEQUENCES))

    def begin(word: str, target: int, source: int | None = None) -> None:
        words.append(word)
        if target not in live and (source is None or source in live):
            live.append(target)

    for _ in range(count):
        draw = rng.random()
        if not live or draw < 0.15:
            target = int(rng.integers(SEQUENCES))
            begin(f"allocate@{target}", target)
        elif draw < 0.3:
            source, target = known(), int(rng.integers(SEQUENCES))
            begin(f"fork@{source}@{target}", target, source)
        elif draw < 0.4:
            freed = known()
            words.append(f"free@{freed}")
            live[:] = [each for each in live if each != freed]
        elif draw < 0.8:
            words.append(f"append{rng.integers(30)}@{known()}")
        else:
            words.append("attend" + "".join(f"@{known()}" for _ in range(rng.integers(1, 4))))
    every = live or [int(rng.integers(SEQUENCES))]
    begins = [] if live else [f"allocate@{every[0]}"]
    return ".".join([*words, *begins, "attend" + "".join(f"@{each}" for each in every)])


def paged_domain(**cases: Any) -> Domain:
    """Cases of the program; ``cases`` per tier."""
    return Domain(
        sizes={"pages": (1, 40), "page": (1, 24), "hq": (1, 6), "hkv": (1, 3), "d": (8, 80)},
        families={name: _query_each(FAMILIES[name]) for name in _NAMES},
        options={"steps": random_steps},
        constrain=_constrain,
        **cases,
    )
