"""How many of the keys that matter LSH attention finds, by rounds and buckets.

    python benchmarks/lsh_recall.py [--draws 20] [--seed 1] [--json FILE]

Tokens are the captured queries of a sentence encoder, 8 heads of 32 and 256 tokens. The true top
32 and 64 keys of a token are those of the largest logits among all other tokens; recall is the
share of them that some round allows it, the mean over tokens, heads and draws of the rotations.
Beside it stand the mean of 1 - (1 - p)^rounds over the same pairs, p the collision probability of
their angle, which chunks can only lower, and the share of all pairs that the rounds allow: what
keys found at random would give.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.approximate.lsh import allow, chunks_of, hash_tokens
from kernelproof.spec.contracts.captured import HEADS, LAYERS, TOKENS, captured_windows
from kernelproof.spec.contracts.lsh.collisions import collision_probability

Array = npt.NDArray[Any]

ROUNDS, HALVES, TOPS = (1, 2, 4, 8), (1, 2, 4, 8, 16), (32, 64)


def main() -> int:
    """Print a table: a row per number of buckets and rounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=20, help="of the rotations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="write the numbers to this file")
    arguments = parser.parse_args()
    heads = HEADS * len(LAYERS)
    tokens = captured_windows("q", heads, TOKENS, 32, np.array([TOKENS]))
    print("buckets  rounds  pairs allowed  " + "  ".join(f"top {n}  by angle" for n in TOPS))
    rows = []
    for half in HALVES:
        for row in _measure(tokens, half, arguments.draws, np.random.default_rng(arguments.seed)):
            rows.append(row)
            found = "  ".join(f"{row[f'top {n}']:6.3f}  {row[f'angle {n}']:8.3f}" for n in TOPS)
            print(f"{row['buckets']:7}  {row['rounds']:6}  {row['pairs']:13.3f}  {found}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"draws": arguments.draws, "seed": arguments.seed, "rows": rows}, file)
    return 0


def _measure(tokens: Array, half: int, draws: int, rng: np.random.Generator) -> Iterator[Any]:
    """Rows for one number of buckets; fewer rounds are the first of the most."""
    cosines = _cosines(tokens)
    truth = {n: _largest(cosines, n) for n in TOPS}
    collisions = _collisions(cosines, half)
    others = ~np.eye(cosines.shape[-1], dtype=bool)
    shape = (draws * max(ROUNDS), tokens.shape[-1], half)
    single = allow(*chunks_of(hash_tokens(tokens, rng.standard_normal(shape)), half), None)
    each = (single & others).reshape(draws, max(ROUNDS), *cosines.shape)
    for rounds in ROUNDS:
        allowed, expected = each[:, :rounds].any(1), 1 - (1 - collisions) ** rounds
        yield {
            "buckets": 2 * half,
            "rounds": rounds,
            "pairs": float(allowed[..., others].mean()),
            **{f"top {n}": float(allowed[:, top].mean()) for n, top in truth.items()},
            **{f"angle {n}": float(expected[top].mean()) for n, top in truth.items()},
        }


def _cosines(tokens: Array) -> Array:
    unit = tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)
    return np.asarray(unit @ unit.swapaxes(-1, -2))


def _collisions(cosines: Array, half: int) -> Array:
    """p of every pair, by interpolation over angles: between those of a cosine of 0.99 and its
    negative it is computed, 1 and 0 where tokens are the same or opposite."""
    inside = np.linspace(np.arccos(0.99), np.arccos(-0.99), 97)
    known = [1.0, *(collision_probability(np.cos(angle), half) for angle in inside), 0.0]
    return np.asarray(np.interp(np.arccos(np.clip(cosines, -1, 1)), [0.0, *inside, np.pi], known))


def _largest(cosines: Array, n: int) -> Array:
    """Which n other tokens have the largest logits: those of the largest cosines."""
    without = np.where(np.eye(cosines.shape[-1], dtype=bool), -np.inf, cosines)
    least = np.sort(without, axis=-1)[..., [-n]]
    return np.asarray(without >= least)


if __name__ == "__main__":
    sys.exit(main())
