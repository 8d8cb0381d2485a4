"""Edits of online softmax in torch, operator by operator."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs

_WIDE = "wide = tile.to(kind)"
_TOP = "top = new"
_TOTAL = "total = torch.zeros_like(top)"

COSTS = (
    *wrong_costs(
        "traffic",
        {"x-copied": ("every tile is copied before it is read", (_WIDE, f"{_WIDE}.clone()"))},
    ),
    *wrong_costs(
        "exps",
        {
            "exponentials-of-the-sum-twice": (
                "the exponentials of the sum are computed twice",
                (_TOP + "\n", f"{_TOP}\n        shifted(wide, new)\n"),
            ),
        },
    ),
    *wrong_costs(
        "operations",
        {"times-one": ("every number is multiplied by 1", (_WIDE, f"{_WIDE} * 1.0"))},
    ),
    *wrong_costs(
        "memory",
        {
            "unused-scratch": (
                "a scratch of six times the size of x is allocated and never read",
                (_TOTAL, f"{_TOTAL}\n    scratch = torch.empty(6, *x.shape)"),
            ),
        },
    ),
)

EDITED = Edited("torch-online-softmax", "online", COSTS)
