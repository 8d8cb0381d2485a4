"""How well attention is approximated at a rank: by projections, random features and the best.

    python benchmarks/low_rank.py [--json FILE]

Two captured layers of a sentence encoder, four heads of 32 each, 256 tokens. Per layer and rank r,
the mean over its heads of

- the share of the sum of singular values of P = softmax(q kᵀ / sqrt(d)) that its r largest have
  (Wang et al. 2020, figure 1), and the rank at which that is 90 percent;
- the error of P v with P cut to rank r, the yardstick: no matrix of rank r is nearer to P;
- the error of (P Rᵀ) (R v) for random R: r t of deviation 1/sqrt(r) (Wang et al. 2020, theorem 1);
- the error of Linformer whose projections take means of t / r neighbours, and are not trained;
- the error of Performer with r orthogonal positive features.

Errors are 2-norms relative to that of P v, in float64. They are reported, and no gate: how near an
approximation comes depends on the data, and projections are meant to be trained.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from kernelproof.reference.approximate.features import features
from kernelproof.reference.approximate.linformer import linformer
from kernelproof.reference.approximate.performer import performer
from kernelproof.reference.attention.scaled_dot_product import scaled_dot_product
from kernelproof.spec.contracts.captured import LAYERS, load_captured

Array = npt.NDArray[Any]

RANKS = (8, 16, 32, 64, 128, 256)
DRAWS = 8
"""Draws of random projections and features, whose errors are averaged."""
COLUMNS = ("singular values", "truncated SVD", "random P Rᵀ R v", "mean pooling", "performer")


def main() -> int:
    """Print a table: a row per layer and rank."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the numbers to this file")
    arguments = parser.parse_args()
    print("layer   rank  " + "  ".join(f"{name:>15}" for name in COLUMNS))
    rows, ninety = [], {}
    for layer in LAYERS:
        q, k, v = (load_captured()[f"{layer}.{role}"][None] for role in "qkv")
        exact = scaled_dot_product(q, k, v)
        shares = _shares(exact.probs[0])
        ninety[layer] = [int(np.argmax(share >= 0.9)) + 1 for share in shares]
        for rank in RANKS:
            errors = {name: float(np.mean(e)) for name, e in _errors(q, k, v, exact, rank)}
            row = {"singular values": float(shares[:, rank - 1].mean()), **errors}
            rows.append({"layer": layer, "rank": rank, **row})
            print(f"{layer}  {rank:4}  " + "  ".join(f"{row[name]:15.4f}" for name in COLUMNS))
        print(f"{layer}  90 percent of the singular values of each head: rank {ninety[layer]}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"rows": rows, "rank of 90 percent": ninety}, file, indent=1)
    return 0


def _shares(probs: Array) -> Array:
    """Cumulative singular values of each head, divided by their sum: h t."""
    values = np.linalg.svd(probs, compute_uv=False)
    shares: Array = np.cumsum(values, -1) / values.sum(-1, keepdims=True)
    return shares


def _errors(
    q: Array, k: Array, v: Array, exact: Any, rank: int
) -> Iterator[tuple[str, list[float]]]:
    """Of every way to approximate out at a rank: by name, one or one per draw."""
    t, d = q.shape[-2:]
    rng = np.random.default_rng(rank)

    def error(out: Array) -> float:
        off = np.linalg.norm(out - exact.out, axis=(-2, -1))
        return float(np.mean(off / np.linalg.norm(exact.out, axis=(-2, -1))))

    u, s, vt = np.linalg.svd(exact.probs)
    yield "truncated SVD", [error(u[..., :rank] * s[..., None, :rank] @ vt[..., :rank, :] @ v)]
    draws = [rng.standard_normal((rank, t)) / np.sqrt(rank) for _ in range(DRAWS)]
    yield "random P Rᵀ R v", [error(exact.probs @ each.T @ (each @ v)) for each in draws]
    pooling = np.repeat(np.eye(rank), t // rank, axis=1) / (t // rank)
    yield "mean pooling", [error(linformer(q, k, v, pooling, pooling).out)]
    drawn = [
        features(rng.standard_normal((rank, d)), np.sqrt(rng.chisquare(d, rank))).features
        for _ in range(DRAWS)
    ]
    yield "performer", [error(performer(q, k, v, each).out) for each in drawn]


if __name__ == "__main__":
    sys.exit(main())
