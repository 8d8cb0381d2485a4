"""Approximate attention against dense attention and against the packages that people install.

    pip install reformer-pytorch linformer performer-pytorch   # in an environment of its own
    python benchmarks/approximate_speed.py [--rounds 5] [--sizes 1024 4096 ...] [--json FILE]

float32, one sequence, 8 heads of 64. Every implementation of a size runs in turn, round after
round; printed are medians of seconds, and of the ratios to ours within a round. The packages' own
projections of inputs are taken out; each gets as many hashes, features or rows as ours.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from kernelproof.impls.torch.approximate.linformer import linformer
from kernelproof.impls.torch.approximate.lsh import lsh
from kernelproof.impls.torch.approximate.performer import performer

HEADS, D = 8, 64
BUCKET, ROUNDS = 64, 4
FEATURES, RANK = 256, 256
SIZES = (1024, 2048, 4096, 8192, 16384, 32768, 65536)
DENSE_UP_TO = 16384
"""Longer, dense attention takes minutes for a call."""

Run = Callable[[], Any]


def main() -> int:
    """Print a line per size and implementation; 1 if a package is faster from 4,096 on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--json", help="write the numbers to this file")
    given = parser.parse_args()
    rows, slower = [], False
    for t in given.sizes:
        for group, runs in algorithms(t).items():
            seconds = interleaved(runs, given.rounds)
            for name, own in seconds.items():
                ratio = median(a / b for a, b in zip(own, seconds["ours"], strict=True))
                rows.append(
                    {
                        "t": t,
                        "algorithm": group,
                        "of": name,
                        "seconds": median(own),
                        "x ours": ratio,
                    }
                )
                slower |= name == "package" and ratio < 1 and t >= 4096
                print(
                    f"{t:>6}  {group:<17} {name:<8} {median(own):8.4f} s  {ratio:6.2f}", flush=True
                )
    if given.json:
        with open(given.json, "w") as file:
            about = {"torch": torch.__version__, "threads": torch.get_num_threads()}
            json.dump({**about, "rows": rows}, file, indent=1)
    return int(slower)


def interleaved(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Seconds of each run, in turn, round after round, behind one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                if number:
                    seconds[name].append(time.perf_counter() - start)
    return seconds


def algorithms(t: int) -> dict[str, dict[str, Run]]:
    """What is compared at a length: ours, the package's, and dense attention while it can be."""
    generator = torch.Generator().manual_seed(t)
    q, k, v = (torch.randn(1, HEADS, t, D, generator=generator) for _ in range(3))
    dense: dict[str, Run] = {}
    if t <= DENSE_UP_TO:
        dense["dense"] = lambda: nn.functional.scaled_dot_product_attention(q, k, v)
    return {
        "lsh": {**_lsh(t, q, v, generator), **dense},
        "performer": {**_performer(q, k, v, causal=False), **dense},
        "performer, causal": _performer(q, k, v, causal=True),
        "linformer": {**_linformer(t, q, k, v, generator), **dense},
    }


def _lsh(t: int, q: Tensor, v: Tensor, generator: torch.Generator) -> dict[str, Run]:
    from reformer_pytorch import LSHAttention

    rotations = torch.randn(ROUNDS, D, t // BUCKET // 2, generator=generator)
    # of the packages' options those of the paper: within buckets, no pair twice
    package = LSHAttention(
        bucket_size=BUCKET,
        n_hashes=ROUNDS,
        attend_across_buckets=False,
        allow_duplicate_attention=False,
    )
    flat = q[0], v[0]
    return {"ours": lambda: lsh(q, v, rotations), "package": lambda: package(*flat)}


def _performer(q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> dict[str, Run]:
    from performer_pytorch import FastAttention

    package = FastAttention(dim_heads=D, nb_features=FEATURES, causal=causal)
    features = package.projection_matrix
    word = "top-left" if causal else None
    return {
        "ours": lambda: performer(q, k, v, features, causal=word),
        "package": lambda: package(q, k, v),
    }


def _linformer(
    t: int, q: Tensor, k: Tensor, v: Tensor, generator: torch.Generator
) -> dict[str, Run]:
    from linformer import LinformerSelfAttention

    package = LinformerSelfAttention(dim=HEADS * D, seq_len=t, k=RANK, heads=HEADS)
    for name in ("to_q", "to_k", "to_v", "to_out"):
        setattr(package, name, nn.Identity())
    x = torch.randn(1, t, HEADS * D, generator=generator)
    proj_k, proj_v = package.proj_k.detach().T, package.proj_v.detach().T
    return {
        "ours": lambda: linformer(q, k, v, proj_k=proj_k, proj_v=proj_v),
        "package": lambda: package(x),
    }


if __name__ == "__main__":
    raise SystemExit(main())
