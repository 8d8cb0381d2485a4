"""Edits of the naive matrix product in Triton."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_ADDED = "total += tl.sum(x.to(tl.float32) * y.to(tl.float32), 0)"
_X = "tl.load(a + row * stride_am + p * stride_ak, mask=inside, other=0.0)"
_ALLOCATED = "out = torch.empty(m, n, dtype=a.dtype, device=a.device)"

VALUES = wrong_values(
    {
        "last-k-tile-skipped": (
            "the last chunk along k is not read",
            ("range(0, k, BLOCK)", "range(0, k - BLOCK, BLOCK)"),
        ),
        "last-product-dropped": (
            "the last product of every sum is missing",
            ("depth < k - done", "depth < k - 1 - done"),
        ),
        "k-unmasked": (
            "the last chunk of a column of b is read with the mask of a whole one",
            (_X, _X.replace("mask=inside, other=0.0", "mask=depth < BLOCK, other=0.0")),
            ("stride_bn, mask=inside, other=0.0", "stride_bn, mask=inside, other=1.0"),
        ),
        "zeros": ("returns zeros", ("total.to(out", "(0 * total).to(out")),
        "sum-in-bfloat16": (
            "the running sum is rounded to bfloat16",
            (_ADDED, f"{_ADDED}\n        total = total.to(tl.bfloat16).to(tl.float32)"),
        ),
        "sum-in-float16": (
            "products are summed up in float16",
            (_ADDED, "total += tl.sum((x.to(tl.float32) * y.to(tl.float32)).to(tl.float16), 0)"),
        ),
        "a-transposed": (
            "the strides of a are swapped",
            ("row * stride_am + p * stride_ak", "row * stride_ak + p * stride_am"),
        ),
        "unit-stride-assumed": (
            "the elements of a row of b are taken to be neighbours",
            ("column * stride_bn", "column"),
        ),
        "empty-sum-unwritten": (
            "k = 0 leaves out as it was allocated",
            ("if out.numel():", "if out.numel() and k:"),
        ),
        "scaled-1-percent": (
            "the product is 1 percent too large",
            ("total.to(out", "(1.01 * total).to(out"),
        ),
    },
)

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "a-read-twice": ("a is read twice", (f"x = {_X}", f"x = tl.maximum({_X}, {_X})")),
            "b-copied": (
                "b is copied before it is read",
                ("_multiply[(m * n,)](a, b,", "_multiply[(m * n,)](a, b.clone(),"),
            ),
        },
    ),
    *wrong_costs(
        "operations",
        {
            "product-twice": (
                "every product is computed twice",
                (_ADDED, f"{_ADDED} / 2\n        {_ADDED} / 2"),
            ),
        },
    ),
    *wrong_costs(
        "memory",
        {
            "unused-scratch": (
                "an m x n x k scratch is allocated and never read",
                (_ALLOCATED, f"{_ALLOCATED}\n    torch.empty(m, n, k, device=a.device)"),
            ),
        },
    ),
)

EDITED = Edited("triton-naive", "naive", (*VALUES, *COSTS))
