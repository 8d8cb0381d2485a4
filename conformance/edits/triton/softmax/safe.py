"""Edits of safe softmax in Triton; those of its last pass are online softmax's too."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_TOP = "top = tl.maximum(top, tl.max(tile, 1))"
_TOTAL = "total += tl.sum(tl.exp(tile - finite(top)[:, None]), 1)"
_RESULT = "result = tl.exp(load_tile(x_tile, there) - finite(top)[:, None]) / divisor"
_ALLOCATED = "out = torch.empty(r, n, dtype=x.dtype, device=x.device)"
_MAX_PASS = f"tile = load_tile(x_tile, inside & (columns < n - first))\n        {_TOP}"
_SUM_PASS = f"tile = load_tile(x_tile, inside & (columns < n - first))\n        {_TOTAL}"

LAST_PASS = wrong_values(
    {
        "padding-counted": (
            "the padding of the last tile is read as zeros, which are counted in the sum",
            ('other=float("-inf")', "other=0.0"),
        ),
        "empty-row-nan": (
            "a row of only -inf is NaN: 0/0",
            ("tl.where(total == 0.0, 1.0, total)", "total"),
        ),
        "empty-row-unguarded": (
            "a row of only -inf is NaN: -inf - -inf",
            ('tl.where(top == float("-inf"), 0.0, top)', "top"),
        ),
        "division-approximate": (
            "the division by the sum is 0.1 percent off",
            ("/ divisor", "/ (1.001 * divisor)"),
        ),
        "not-normalised": ("the division by the sum is missing", (" / divisor", "")),
        "last-tile-unwritten": (
            "the last tile of out is left as it was allocated",
            (
                "for first in range(0, n, BLOCK_N):\n        there",
                "for first in range(0, n - BLOCK_N + 1, BLOCK_N):\n        there",
            ),
        ),
        "last-element-unwritten": (
            "the last element of a row is left as it was allocated",
            (
                "there = inside & (columns < n - first)",
                "there = inside & (columns < n - first - 1)",
            ),
        ),
        "rounded-twice": (
            "out is rounded to bfloat16 before it is rounded to its dtype",
            ("result.to(", "result.to(tl.bfloat16).to("),
        ),
        "exp2-in-the-last-pass": (
            "the last pass takes powers of 2 instead of e",
            (_RESULT, _RESULT.replace("exp", "exp2")),
        ),
    },
    harmless={"rounded-twice": {"bfloat16": "the second rounding changes nothing"}},
)

VALUES = wrong_values(
    {
        "no-max-subtraction": (
            "the maximum is not subtracted before exp",
            (_TOP, "top = tl.zeros((BLOCK_R,), tl.float32)"),
        ),
        "max-of-first-tile": (
            "the maximum of the first tile stands for that of the row",
            (f"        {_TOP}", f"        if first == 0:\n            {_TOP}"),
        ),
        "max-of-last-tile": (
            "the maximum of the last tile stands for that of the row",
            (_TOP, "top = tl.max(tile, 1)"),
        ),
        "one-max-per-program": (
            "the rows of a program share one maximum",
            (_TOP, "top = tl.maximum(top, tl.max(tl.max(tile, 1), 0))"),
        ),
        "sum-without-last-element": (
            "the last element of a row is not counted in the sum",
            (_SUM_PASS, _SUM_PASS.replace("n - first)", "n - first - 1)")),
        ),
        "sum-without-last-tile": (
            "the last tile of a row is not counted in the sum",
            (
                "total = tl.zeros((BLOCK_R,), tl.float32)\n    for first in range(0, n, BLOCK_N)",
                "total = tl.zeros((BLOCK_R,), tl.float32)\n"
                "    for first in range(0, n - BLOCK_N, BLOCK_N)",
            ),
        ),
        "sum-in-bfloat16": (
            "the sum is kept in bfloat16",
            (_TOTAL, f"{_TOTAL}\n        total = total.to(tl.bfloat16).to(tl.float32)"),
        ),
        "unit-stride-assumed": (
            "the elements of a row are taken to be neighbours",
            ("columns.to(tl.int64) * stride_xn", "columns.to(tl.int64)"),
        ),
        "rows-unmasked": (
            "the last program reads and writes rows beyond the last",
            ("inside, width = rows < r,", "inside, width = rows >= 0,"),
        ),
        "temperature-off-1-percent": (
            "x is scaled by 1.01",
            ('other=float("-inf")).to(tl.float32)', 'other=float("-inf")).to(tl.float32) * 1.01'),
        ),
    },
)

_LAST_READ = "load_tile(x_tile, there)"
_READ_TWICE = f"tl.maximum({_LAST_READ}, {_LAST_READ})"

LAST_PASS_COSTS = (
    *wrong_costs(
        "traffic",
        {
            "x-read-twice": (
                "the last pass reads x twice",
                (_RESULT, _RESULT.replace(_LAST_READ, _READ_TWICE)),
            ),
            "out-written-twice": (
                "out is written twice",
                (
                    "        x_tile += step_x\n        out_tile += step_out",
                    "        tl.store(out_tile, result.to(out_tile.dtype.element_ty), mask=there)\n"
                    "        x_tile += step_x\n        out_tile += step_out",
                ),
            ),
        },
    ),
    *wrong_costs(
        "exps",
        {
            "exponentials-twice": (
                "the last pass computes exponentials twice",
                (
                    _RESULT,
                    "exponent = load_tile(x_tile, there) - finite(top)[:, None]\n"
                    "        result = tl.maximum(tl.exp(exponent), tl.exp(exponent)) / divisor",
                ),
            ),
        },
    ),
)

WASTE = (
    *wrong_costs(
        "operations",
        {
            "times-one": (
                "every number is multiplied by 1",
                ("tl.max(tile, 1)", "tl.max(tile * 1.0, 1)"),
            )
        },
    ),
    *wrong_costs(
        "memory",
        {
            "unused-scratch": (
                "a scratch of the size of x is allocated and never read",
                (_ALLOCATED, f"{_ALLOCATED}\n    torch.empty(r, n, device=x.device)"),
            ),
        },
    ),
)
"""Work and memory that change no result, in either kernel."""

COSTS = (
    *LAST_PASS_COSTS,
    *wrong_costs(
        "traffic",
        {
            "fourth-pass": (
                "the maximum is taken twice",
                (_MAX_PASS, f"{_MAX_PASS}\n        {_MAX_PASS}"),
            ),
            "x-copied": (
                "x is copied before it is read",
                ("(x, out, r, n, *x", "(x.clone(), out, r, n, *x"),
            ),
            "exps-stored": (
                "the exponentials of the sum are stored and read back",
                ("    x, out, r, n,\n", "    x, out, kept, r, n,\n"),
                (
                    "(x, out, r, n, *x",
                    "(x, out, torch.empty(x.shape, device=x.device), r, n, *x",
                ),
                (
                    _TOTAL,
                    "exps, place = tl.exp(tile - finite(top)[:, None]), kept + rows * n + columns\n"
                    "        there = inside & (columns < n - first)\n"
                    "        tl.store(place + first, exps, mask=there)\n"
                    "        total += tl.sum(tl.load(place + first, mask=there, other=0.0), 1)",
                ),
            ),
        },
    ),
    *WASTE,
)

EDITED = Edited("triton-safe-softmax", "safe", (*LAST_PASS, *VALUES, *COSTS))
