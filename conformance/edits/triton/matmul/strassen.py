"""Edits of Strassen's product in Triton: of its kernels, and of the schedule it runs."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values
from kernelproof.conformance.edits.halving import COSTS

_LEFT = "left = tl.load(x + row * stride_xm + column * stride_xn, mask=there, other=0.0)"
_TOTAL = "total = left - right if SUBTRACT else left + right"
_ONE_PER_GATE = ("flops", "additions", "memory")

_VALUES = wrong_values(
    {
        "subtracts-never": (
            "blocks are added where they are to be subtracted",
            (_TOTAL, "total = left + right"),
        ),
        "minuend-swapped": (
            "x and y change places in differences",
            (_TOTAL, "total = right - left if SUBTRACT else left + right"),
        ),
        "blocks-in-bfloat16": (
            "sums of blocks are rounded to bfloat16",
            (_TOTAL, f"{_TOTAL}\n    total = total.to(tl.bfloat16).to(tl.float32)"),
        ),
        "last-block-skipped": (
            "the last program of an addition is not launched",
            (
                "grid = (triton.cdiv(out.numel(), _BLOCK),)\n        _add",
                "grid = (max(1, out.numel() // _BLOCK),)\n        _add",
            ),
        ),
        "result-strides": (
            "the strides of the result are taken to be those of x",
            (
                "tl.store(out + row * stride_om + column * stride_on, total, mask=there)",
                "tl.store(out + row * stride_xm + column * stride_on, total, mask=there)",
            ),
        ),
        "margin-unwritten": (
            "what lies behind a copy is left as it was allocated",
            ("(out.dtype.element_ty), mask=there", "(out.dtype.element_ty), mask=known"),
        ),
        "margin-of-next-row": (
            "a copy reads on beyond its rows",
            (
                "known = there & (row < x_rows) & (column < x_columns)",
                "known = there & (row < x_rows)",
            ),
        ),
        "copy-in-bfloat16": (
            "what is copied is rounded to bfloat16",
            ("value.to(out.dtype", "value.to(tl.bfloat16).to(out.dtype"),
        ),
    },
    harmless={"copy-in-bfloat16": {"bfloat16": "factors and result are bfloat16"}},
)

_COSTS = wrong_costs(
    "traffic",
    {
        "left-read-twice": (
            "the first block of an addition is read twice",
            (_LEFT, f"{_LEFT}\n    {_LEFT}"),
        ),
    },
)

EDITED = Edited(
    "triton-strassen",
    "strassen",
    (*_VALUES, *_COSTS),
    kernels="halving",
    of_kernels=tuple(edit for edit in COSTS if edit.metric in _ONE_PER_GATE),
)
