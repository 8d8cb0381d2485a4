"""Triton's interpreter, corrected and metered, against the stock one: the goal is not slower.

    python benchmarks/interpreter_speed.py [--rounds 5] [--launches 5] [--tokens 512]

A flash attention with tiles of 64 x 64 and heads of 64 runs in a process of its own each time,
stock and ours in turn. Printed are medians of seconds per launch over all rounds, and their ratio.
"""

# ruff: noqa: ANN001  # the parameters of a kernel are pointers and constants of the launch

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from statistics import median

import torch
import triton
import triton.language as tl

DTYPES = ("float32", "float16", "bfloat16")
_STOCK_CAN = ("float32", "float16")


def main() -> int:
    """Print a line per dtype; 1 if ours is slower anywhere."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="processes of each kind")
    parser.add_argument("--launches", type=int, default=5, help="launches timed in each process")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--dtypes", nargs="*", choices=DTYPES, default=_STOCK_CAN)
    parser.add_argument("--here", choices=("stock", "ours"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(*_seconds(given.here == "ours", given.dtypes[0], given.launches, given.tokens))
        return 0
    slower = False
    for dtype in given.dtypes:
        seconds: dict[str, list[float]] = {"stock": [], "ours": []}
        for _ in range(given.rounds):
            for kind, found in seconds.items():
                found += _in_a_process(kind, dtype, given.launches, given.tokens)
        stock, ours = median(seconds["stock"]), median(seconds["ours"])
        slower |= ours > stock
        print(f"{dtype}: stock {stock:.3f} s, ours {ours:.3f} s, ratio {ours / stock:.2f}")
    return int(slower)


def _in_a_process(kind: str, dtype: str, launches: int, tokens: int) -> list[float]:
    numbers = [f"--launches={launches}", f"--tokens={tokens}"]
    command = [sys.executable, __file__, f"--here={kind}", *numbers, "--dtypes", dtype]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        command,
        env={**os.environ, **one_thread, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(word) for word in done.stdout.split()]


def _seconds(ours: bool, dtype: str, launches: int, tokens: int) -> list[float]:
    """Seconds of each launch but the first."""
    q, k, v = (torch.randn(2, tokens, 64).to(getattr(torch, dtype)) for _ in range(3))
    out = torch.empty_like(q)
    with ExitStack() as stack:
        if ours:
            from kernelproof.conformance.interpreter import launching
            from kernelproof.conformance.meters.meter import Meter

            launching.install()
            inputs = {name: tensor.view(-1) for name, tensor in zip("qkv", (q, k, v), strict=True)}
            stack.enter_context(launching.metered(Meter(inputs)))
        seconds = []
        for _ in range(1 + launches):
            start = time.perf_counter()
            grid = (triton.cdiv(tokens, 64), 2)
            flash[grid](q, k, v, out, tokens, 64**-0.5 * 1.4427, BM=64, BN=64, D=64)
            seconds.append(time.perf_counter() - start)
    expected = torch.nn.functional.scaled_dot_product_attention(q.float(), k.float(), v.float())
    assert torch.allclose(out.float(), expected, atol=0.03), "the kernel is wrong"
    return seconds[1:]


@triton.jit
def flash(q, k, v, out, tokens, scale, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr) -> None:
    """Attention of one head, with the online softmax."""
    first = tl.program_id(1) * tokens * D
    rows, d = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, D)
    places = first + rows[:, None] * D + d[None, :]
    queries = tl.load(q + places, mask=rows[:, None] < tokens, other=0.0)
    top = tl.full([BM], float("-inf"), tl.float32)
    total, acc = tl.zeros([BM], tl.float32), tl.zeros([BM, D], tl.float32)
    for start in range(0, tokens, BN):
        columns = start + tl.arange(0, BN)
        near, inside = first + columns[:, None] * D + d[None, :], columns[:, None] < tokens
        keys = tl.load(k + near, mask=inside, other=0.0)
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * scale
        scores = tl.where(columns[None, :] < tokens, scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        p, fade = tl.exp2(scores - higher[:, None]), tl.exp2(top - higher)
        values = tl.load(v + near, mask=inside, other=0.0)
        total = total * fade + tl.sum(p, 1)
        acc = acc * fade[:, None] + tl.dot(p.to(values.dtype), values, input_precision="ieee")
        top = higher
    result = (acc / total[:, None]).to(out.dtype.element_ty)
    tl.store(out + places, result, mask=rows[:, None] < tokens)


if __name__ == "__main__":
    sys.exit(main())
