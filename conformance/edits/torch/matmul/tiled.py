"""Edits of the tiled matrix product in torch."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs

_PRODUCT = "torch.mm(a[i : i + TILE], b[:, j : j + TILE], out=tile)"
_ALLOCATED = "out = torch.empty(m, n, dtype=a.dtype, device=a.device)"

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "operands-copied-twice": (
                "both factors are copied twice before they are read",
                (_ALLOCATED, f"{_ALLOCATED}\n        a, b = (x.clone().clone() for x in (a, b))"),
            ),
            "smaller-tiles": ("tiles are 16 wide and high", ("TILE = 128", "TILE = 16")),
        },
    ),
    *wrong_costs(
        "flops",
        {
            "product-twice": (
                "every product is computed twice",
                (_PRODUCT, f"{_PRODUCT}\n                {_PRODUCT}"),
            )
        },
    ),
    *wrong_costs(
        "memory",
        {
            "unused-scratch": (
                "an m x n x k scratch is allocated and never read",
                (_ALLOCATED, f"{_ALLOCATED}\n        scratch = torch.empty(m, n, a.shape[1])"),
            ),
        },
    ),
)

EDITED = Edited("torch-tiled", "tiled", COSTS)
