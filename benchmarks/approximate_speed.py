"""Approximate attention against dense attention and against the packages that people install.

    pip install reformer-pytorch linformer performer-pytorch psutil   # in an environment of its own
    python benchmarks/approximate_speed.py [--rounds 5] [--sizes 1024 4096 ...] [--json FILE]

float32, one sequence, 8 heads of 64. Every implementation of a size runs in turn, round after
round; printed are medians of seconds, of CPU seconds of all threads, and of their ratios to ours
within a round. Where others use the cores, too, the clock tells less than the CPU seconds, and
OMP_WAIT_POLICY=passive keeps threads that wait from spinning.

What each computes: the packages' own projections of inputs are taken out, and each gets as many
buckets, hashes, features or rows as ours.

LSH     `package` has the paper's options: within buckets, no pair twice. A chunk of ours is twice a
        mean bucket, as in the paper, and of the package one: ours makes twice as many scores, and
        lse beside out. `as it comes` has the package's defaults, another function: whatever shares
        a chunk attends, and pairs count as often as rounds allow them.
performer  The package adds 1e-4 to features; under causal 1e-6 to the normaliser, too, and it has
        no kernel of its own for CPUs, but one that it calls inefficient.
linformer  The same function.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from kernelproof.impls.torch.approximate.linformer import linformer
from kernelproof.impls.torch.approximate.lsh import lsh
from kernelproof.impls.torch.approximate.performer import performer

HEADS, D = 8, 64
BUCKET, ROUNDS = 64, 4
FEATURES, RANK = 256, 256
SIZES = (1024, 2048, 4096, 8192, 16384, 32768, 65536)
NAMES = ("lsh", "performer", "performer, causal", "linformer")
CLAIMED_FROM = 4096
"""Sizes from which on a package must not be faster."""
DENSE_UP_TO = 16384
"""Longer, dense attention takes minutes for a call."""

PATIENCE = "seconds after which no more rounds of a size begin"

Run = Callable[[], Any]
Times = tuple[float, float]
"""Seconds on the clock, and CPU seconds."""


def main() -> int:
    """Print a line per size and implementation; 1 if a package is faster from 4,096 on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--patience", type=float, default=120, help=PATIENCE)
    parser.add_argument("--algorithms", nargs="*", default=NAMES, choices=NAMES)
    parser.add_argument("--json", help="write the numbers to this file")
    given = parser.parse_args()
    # who needs more fails, and not the machine
    free = int(0.9 * psutil.virtual_memory().available)
    resource.setrlimit(resource.RLIMIT_AS, (free, free))
    threads = torch.get_num_threads()
    print(f"torch {torch.__version__}, {threads} threads, float32, {HEADS} heads of {D}")
    print(f"memory for a run: {free / 2**30:.1f} GiB")
    print("     t  algorithm          of                 s  / ours     CPU s  / ours  rounds")
    for runs in algorithms(min(SIZES)).values():  # what the first call of each prepares
        interleaved(runs, 1, given.patience)
    rows: list[dict[str, Any]] = []
    about = {
        "torch": torch.__version__,
        "threads": threads,
        "dtype": "float32",
        "GiB": free / 2**30,
    }
    for t in given.sizes:
        for group in given.algorithms:
            runs = algorithms(t)[group]
            for row in compared(interleaved(runs, given.rounds, given.patience)):
                rows.append({"t": t, "algorithm": group, **row})
                print(line(rows[-1]), flush=True)
            if given.json:  # as it goes: the last rows take the longest
                with open(given.json, "w") as file:
                    json.dump({**about, "rows": rows}, file, indent=1)
    claimed = (r for r in rows if r["of"] == "package" and r["t"] >= CLAIMED_FROM and r["rounds"])
    return int(any(r["seconds / ours"] < 1 for r in claimed))


def interleaved(runs: dict[str, Run], rounds: int, patience: float) -> dict[str, list[Times]]:
    """Times of each run, in turn, round after round: none of what has not the memory."""
    times: dict[str, list[Times]] = {name: [] for name in runs}
    left, began = dict(runs), time.perf_counter()
    with torch.inference_mode():
        for _ in range(rounds):
            for name, run in tuple(left.items()):
                start, used = time.perf_counter(), time.process_time()
                try:
                    run()
                except RuntimeError as error:
                    if "memory" not in str(error):
                        raise
                    del left[name]
                    continue
                times[name].append((time.perf_counter() - start, time.process_time() - used))
            if time.perf_counter() - began > patience:
                break
    return times


def compared(times: dict[str, list[Times]]) -> list[dict[str, Any]]:
    """Medians of the times of each, and of their ratios to ours."""
    rows = []
    for name, own in times.items():
        row: dict[str, Any] = {"of": name, "rounds": len(own)}
        for place, word in enumerate(("seconds", "CPU seconds") if own else ()):
            row[word] = median(each[place] for each in own)
            pairs = zip(own, times["ours"], strict=False)
            row[f"{word} / ours"] = median(each[place] / ours[place] for each, ours in pairs)
        rows.append(row)
    return rows


def line(row: dict[str, Any]) -> str:
    """A row as text."""
    named = f"{row['t']:>6}  {row['algorithm']:<17}  {row['of']:<11}"
    if not row["rounds"]:
        return f"{named}  out of memory"
    shown = "  ".join(
        f"{row[word]:>8.3f}  {row[f'{word} / ours']:>6.2f}" for word in ("seconds", "CPU seconds")
    )
    return f"{named}  {shown}  {row['rounds']:>6}"


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
    options = {"bucket_size": BUCKET, "n_hashes": ROUNDS}
    paper = {"attend_across_buckets": False, "allow_duplicate_attention": False}
    package, defaults = LSHAttention(**options, **paper), LSHAttention(**options)
    flat = q[0], v[0]
    return {
        "ours": lambda: lsh(q, v, rotations),
        "package": lambda: package(*flat),
        "as it comes": lambda: defaults(*flat),
    }


def _performer(q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> dict[str, Run]:
    from performer_pytorch import FastAttention

    with contextlib.redirect_stdout(io.StringIO()):  # it says that there is no CUDA
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
    # ours has r rows of t numbers, and the package t rows of r
    proj_k, proj_v = (p.detach().T.contiguous() for p in (package.proj_k, package.proj_v))
    return {
        "ours": lambda: linformer(q, k, v, proj_k=proj_k, proj_v=proj_v),
        "package": lambda: package(x),
    }


if __name__ == "__main__":
    raise SystemExit(main())
