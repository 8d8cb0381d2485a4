"""Edits of the tiled matrix product in Triton."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_DOT = 'total = tl.dot(x, y, total, input_precision="ieee")'
_ONLY_FLOAT32 = "TF32 holds every number of this dtype"

VALUES = wrong_values(
    {
        "last-k-tile-skipped": (
            "the last tile along k is not read",
            ("range(0, k, BLOCK_K)", "range(0, k - BLOCK_K, BLOCK_K)"),
        ),
        "last-product-dropped": (
            "the last product of every sum is missing",
            ("inside = depth < k - done", "inside = depth < k - 1 - done"),
        ),
        "k-unmasked": (
            "the last tile along k reads on beyond the rows of a",
            ("mask=(rows < m)[:, None] & inside[None, :]", "mask=(rows < m)[:, None]"),
        ),
        "n-unmasked": (
            "the last columns of b are those of the next row",
            ("mask=inside[:, None] & (columns < n)[None, :]", "mask=inside[:, None]"),
        ),
        "store-unmasked": (
            "the last tile of columns is stored into the next row of out",
            (
                "mask=(rows < m)[:, None] & (columns < n)[None, :]",
                "mask=(rows < m)[:, None]",
            ),
        ),
        "ragged-columns-stale": (
            "the last, ragged tile of columns repeats the one before",
            (
                "columns.to(tl.int64)[None, :] * stride_bn",
                "tl.where(columns // BLOCK_N < n // BLOCK_N, columns, columns % BLOCK_N)"
                "[None, :] * stride_bn",
            ),
        ),
        "sum-in-bfloat16": (
            "the running sum is rounded to bfloat16",
            (_DOT, f"{_DOT}.to(tl.bfloat16).to(tl.float32)"),
        ),
        "sum-in-float16": (
            "the running sum is rounded to float16",
            (_DOT, f"{_DOT}.to(tl.float16).to(tl.float32)"),
        ),
        "product-in-tf32": ("factors are rounded to TF32", ('"ieee"', '"tf32"')),
        "a-transposed": (
            "the strides of a are swapped",
            ("[:, None] * stride_am", "[:, None] * stride_ak"),
            ("[None, :] * stride_ak", "[None, :] * stride_am"),
            ("whole_tile * stride_ak", "whole_tile * stride_am"),
        ),
        "unit-stride-assumed": (
            "the elements of a row of b are taken to be neighbours",
            ("columns.to(tl.int64)[None, :] * stride_bn", "columns.to(tl.int64)[None, :]"),
        ),
        "rounded-twice": (
            "out is rounded to bfloat16 before it is rounded to its dtype",
            ("total.to(out.dtype.element_ty)", "total.to(tl.bfloat16).to(out.dtype.element_ty)"),
        ),
        "scaled-1-percent": (
            "the product is 1 percent too large",
            ("total.to(out.dtype.element_ty)", "(1.01 * total).to(out.dtype.element_ty)"),
        ),
        "strip-of-eight": (
            "every strip is taken to be eight tiles high",
            ("height = tl.minimum(tiles_m - 8 * strip, 8)", "height = 8"),
        ),
    },
    harmless={
        "product-in-tf32": {"float16": _ONLY_FLOAT32, "bfloat16": _ONLY_FLOAT32},
        "rounded-twice": {"bfloat16": "the second rounding changes nothing"},
    },
)

_Y = "tl.load(b_tile, mask=inside[:, None] & (columns < n)[None, :], other=0.0)"
_SIZES = "(m, k), n = a.shape, b.shape[1]"

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "b-read-twice": ("b is read twice", (f"y = {_Y}", f"y = tl.maximum({_Y}, {_Y})")),
            "b-copied": (
                "b is copied before it is read",
                ("(a, b, out, m,", "(a, b.clone(), out, m,"),
            ),
            "sum-in-memory": (
                "the running sum is stored and read back in every step along k",
                (_SIZES, f"{_SIZES}\n    sums = torch.zeros(m, n, device=a.device)"),
                ("a, b, out, m, n, k, *a", "a, b, out, sums, m, n, k, *a"),
                ("a, b, out, m, n, k,\n", "a, b, out, sums, m, n, k,\n"),
                (
                    f"        {_DOT}\n",
                    "        here = sums + rows[:, None] * n + columns[None, :]\n"
                    "        there = (rows < m)[:, None] & (columns < n)[None, :]\n"
                    "        total = tl.load(here, mask=there, other=0.0)\n"
                    f"        {_DOT}\n"
                    "        tl.store(here, total, mask=there)\n",
                ),
            ),
            "smallest-tiles": (
                "of the tiles that fit the smallest are taken",
                ('key=lambda c: -c.kwargs["BLOCK_M"] *', 'key=lambda c: c.kwargs["BLOCK_M"] *'),
            ),
        },
    ),
    *wrong_costs(
        "flops",
        {
            "product-twice": (
                "every product is computed twice",
                (_DOT, f"{_DOT} / 2 + {_DOT.removeprefix('total = ')} / 2"),
            ),
        },
    ),
    *wrong_costs(
        "memory",
        {
            "unused-scratch": (
                "an m x n x k scratch is allocated and never read",
                (_SIZES, f"{_SIZES}\n    torch.empty(m, n, k, device=a.device)"),
            ),
        },
    ),
)

EDITED = Edited("triton-tiled", "tiled", (*VALUES, *COSTS))
