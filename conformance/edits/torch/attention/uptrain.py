"""Edits of uptraining in torch."""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs, wrong_values

_GROUPED = "w.unflatten(1, (kv_heads, group, -1))"
_MEAN = f"{_GROUPED}.mean(dim=2)"

VALUES = wrong_values(
    {
        "sum": (
            "the heads of a group are added, not averaged",
            (_MEAN, f"{_GROUPED}.sum(dim=2)"),
        ),
        "first-head": (
            "each group keeps its first head",
            (_MEAN, f"{_GROUPED}[:, :, 0].clone()"),
        ),
        "groups-by-modulo": (
            "head h belongs to group h mod hkv instead of h // g",
            (_MEAN, "w.unflatten(1, (group, kv_heads, -1)).mean(dim=1)"),
        ),
        "heads-last": (
            "the columns of a head are read as far apart instead of side by side",
            (_MEAN, "w.unflatten(1, (-1, kv_heads, group)).mean(dim=3).transpose(1, 2)"),
        ),
    }
)

COSTS = (
    *wrong_costs(
        "traffic", {"w-copied": ("w is copied before it is read", (_MEAN, f"w.clone(){_MEAN[1:]}"))}
    ),
    *wrong_costs(
        "operations",
        {"pooled-twice": ("every mean is computed twice", (_MEAN, f"({_MEAN} + {_MEAN}) / 2"))},
    ),
    *wrong_costs(
        "memory",
        {
            "unused-scratch": (
                "a scratch of four times the size of w is allocated and never read",
                (
                    f"pooled: Tensor = {_MEAN}",
                    f"scratch = w.new_empty(4, *w.shape)\n    pooled: Tensor = {_MEAN}",
                ),
            )
        },
    ),
)

EDITED = Edited("torch-uptrain", "uptrain", (*VALUES, *COSTS))
