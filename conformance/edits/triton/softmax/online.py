"""Edits of online softmax in Triton: of itself, and of the last pass that it shares."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values
from kernelproof.conformance.edits.triton.softmax.safe import LAST_PASS, LAST_PASS_COSTS, WASTE

_READ = "load_tile(x_tile, inside & (columns < n - first))"
_TOP = "new = tl.maximum(top, tl.max(tile, 1))"
_TOTAL = "total = total * rescale + tl.sum(tl.exp(tile - finite(new)[:, None]), 1)"
_EXPS = "tl.exp(tile - finite(new)[:, None])"

VALUES = wrong_values(
    {
        "sum-not-rescaled": (
            "the running sum is not rescaled when the maximum grows",
            ("total * rescale + ", "total + "),
        ),
        "no-max-subtraction": (
            "the maximum is not subtracted before exp",
            (_TOP, "new = tl.zeros((BLOCK_R,), tl.float32)"),
        ),
        "max-of-first-tile": (
            "the maximum of the first tile stands for that of the row",
            (_TOP, "new = tl.max(tile, 1) if first == 0 else top"),
        ),
        "max-of-last-tile": (
            "the maximum of the last tile stands for that of the row",
            (_TOP, "new = tl.max(tile, 1)"),
        ),
        "sum-without-last-element": (
            "the last element of a row is not counted in the sum",
            ("(columns < n - first)", "(columns < n - first - 1)"),
        ),
        "sum-without-last-tile": (
            "the last tile of a row is not counted in the sum",
            ("range(0, n, BLOCK_N)", "range(0, n - BLOCK_N, BLOCK_N)"),
        ),
        "sum-without-first-tile": (
            "the first tile of a row is not counted in the sum",
            ("range(0, n, BLOCK_N)", "range(BLOCK_N, n, BLOCK_N)"),
            ("    x_tile = x_row\n", "    x_tile = x_row + step_x\n"),
        ),
        "sum-in-bfloat16": (
            "the sum is kept in bfloat16",
            (_TOTAL, f"{_TOTAL}\n        total = total.to(tl.bfloat16).to(tl.float32)"),
        ),
        "sum-in-float16": (
            "the sum is kept in float16",
            (_TOTAL, f"{_TOTAL}\n        total = total.to(tl.float16).to(tl.float32)"),
        ),
        "unit-stride-assumed": (
            "the elements of a row are taken to be neighbours",
            ("columns.to(tl.int64) * stride_xn", "columns.to(tl.int64)"),
        ),
        "rows-unmasked": (
            "the last program reads and writes rows beyond the last",
            ("inside, width = rows < r,", "inside, width = rows >= 0,"),
        ),
        "lse-in-log2": (
            "lse is a base-2 logarithm",
            ("top + tl.log(total)", "(top + tl.log(total)) * 1.4426950408889634"),
        ),
        "lse-without-max": ("lse lacks the maximum", ("top + tl.log(total)", "tl.log(total)")),
        "lse-is-max": (
            "lse lacks the logarithm of the sum",
            ("top + tl.log(total)", "top"),
        ),
        "lse-in-bfloat16": (
            "lse is rounded to bfloat16",
            ("top + tl.log(total)", "(top + tl.log(total)).to(tl.bfloat16).to(tl.float32)"),
        ),
    },
)

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "maximum-first": (
                "the maximum is taken in a pass of its own: safe softmax",
                (
                    "    x_tile = x_row\n",
                    "    x_tile, largest = x_row, tl.full((BLOCK_R,), float('-inf'), tl.float32)\n"
                    "    for first in range(0, n, BLOCK_N):\n"
                    f"        largest = tl.maximum(largest, tl.max({_READ}, 1))\n"
                    "        x_tile += step_x\n"
                    "    x_tile = x_row\n",
                ),
                (_TOP, "new = largest"),
            ),
            "x-copied": (
                "x is copied before it is read",
                ("(x, out, lse, r, n, *x", "(x.clone(), out, lse, r, n, *x"),
            ),
        },
    ),
    *wrong_costs(
        "exps",
        {
            "exponentials-of-the-sum-twice": (
                "the exponentials of the sum are computed twice",
                (_TOTAL, _TOTAL.replace(_EXPS, f"tl.maximum({_EXPS}, {_EXPS})")),
            ),
        },
    ),
    *WASTE,
)

EDITED = Edited(
    "triton-online-softmax",
    "online",
    (*VALUES, *COSTS),
    kernels="triton.softmax.safe",
    of_kernels=(*LAST_PASS, *LAST_PASS_COSTS),
)
