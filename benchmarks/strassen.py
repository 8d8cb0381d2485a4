"""Strassen's and Winograd's product against torch.mm, on this machine's CPU in float32.

    python benchmarks/strassen.py [--sizes 2048 4096 8192] [--levels 1 2 3] [--json FILE]

Both run in turns (A B A B), with all threads; a ratio is the median over pairs of time(torch.mm) /
time(ours): above 1 ours is faster. Beside it the largest error, in units of the bound of the spec
and of torch.mm's own largest error, on rows that are enough to tell. The cutoff is the longest
side of a leaf product.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernelproof.impls.torch.matmul.strassen import strassen
from kernelproof.reference.matmul.forms import FORMS
from kernelproof.reference.matmul.strassen import BlockProduct, by_blocks
from kernelproof.spec.contracts.matmul.strassen import strassen_bound
from kernelproof.spec.rounding import resolve_precision

PAIRS = {2048: 9, 4096: 7}
"""Pairs of runs by size; of others 5."""


def main() -> int:
    """Print a table; the best of each size is marked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[2048, 4096, 8192])
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--pairs", type=int, help="pairs of runs; default: 9 to 5, by size")
    parser.add_argument("--json", help="write the numbers to this file")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32")
    print("    n  variant   levels  cutoff  torch.mm s    ours s  ratio  error/bound  error/mm's")
    rows = []
    for n in arguments.sizes:
        found = _measure(n, arguments.levels, arguments.pairs or PAIRS.get(n, 5))
        best = max(found, key=lambda row: float(row["ratio"]))
        for row in found:
            print(_text(row) + ("  best" if row is best else ""), flush=True)
        rows += found
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"threads": torch.get_num_threads(), "rows": rows}, file, indent=1)
    return 0


def _measure(n: int, depths: list[int], pairs: int) -> list[dict[str, Any]]:
    """Both variants at every depth."""
    a, b = torch.randn(2, n, n, generator=torch.Generator().manual_seed(n))
    plain, rows = torch.empty(n, n), []
    for variant in FORMS:
        for levels in depths:
            ours: list[float] = []
            theirs: list[float] = []
            for turn in range(-1, pairs):  # the first pair warms up
                start = time.perf_counter()
                torch.mm(a, b, out=plain)
                between = time.perf_counter()
                fast = strassen(a, b, levels=levels, variant=variant)
                end = time.perf_counter()
                if turn >= 0:
                    theirs.append(between - start)
                    ours.append(end - between)
            ratios = [x / y for x, y in zip(theirs, ours, strict=True)]
            rows.append(
                {
                    "n": n,
                    "variant": variant,
                    "levels": levels,
                    "cutoff": -(-n // 2**levels),
                    "torch.mm s": statistics.median(theirs),
                    "ours s": statistics.median(ours),
                    "ratio": statistics.median(ratios),
                    **_errors(a, b, fast, plain, levels, variant),
                }
            )
    return rows


def _errors(
    a: Tensor, b: Tensor, fast: Tensor, plain: Tensor, levels: int, variant: str
) -> dict[str, float]:
    """The largest errors of the same rows of every block of leaves, so that the bound of a smaller
    product is that of the whole one's rows."""
    n, keep = len(a), 2 ** max(levels, 3)
    # block rows of the recursion are equally far apart: one row of each leaf makes a product
    rows = torch.arange(0, n, n // keep) if n % keep == 0 else torch.arange(n)
    x, y = a[rows].double().numpy(), b.double().numpy()
    exact = x @ y
    plus = by_blocks(FORMS[variant], abs(x), abs(y), levels, sub=np.add)
    record = BlockProduct(x, y, exact, plus, levels, variant)
    rounding = resolve_precision(None, "float32").rounding("float32")
    error, own = (abs(each[rows].double().numpy() - exact) for each in (fast, plain))
    bound = strassen_bound(record, rounding)["out"]
    return {
        "error / bound": float((error / bound).max()),
        "error / error of torch.mm": float(error.max() / own.max()),
    }


def _text(row: dict[str, Any]) -> str:
    return (
        f"{row['n']:5}  {row['variant']:<8}  {row['levels']:6}  {row['cutoff']:6}"
        f"  {row['torch.mm s']:10.4f}  {row['ours s']:8.4f}  {row['ratio']:5.3f}"
        f"  {row['error / bound']:11.3g}  {row['error / error of torch.mm']:10.3g}"
    )


if __name__ == "__main__":
    sys.exit(main())
