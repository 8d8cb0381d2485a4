"""Edits of safe softmax in torch, operator by operator.

It computes each exponential once, where the closed form allows twice: three times is wrong.
"""

from __future__ import annotations

from kernelproof.conformance.edits.editing import Edited, wrong_costs

_WIDE = "wide = x.to(torch.promote_types(x.dtype, torch.float32))"
_EXPS = "exps = shifted(wide, wide.amax(-1, keepdim=True))"

COSTS = (
    *wrong_costs(
        "traffic",
        {
            "x-copied": ("x is copied before it is read", (_WIDE, f"{_WIDE}.clone()")),
            "exps-copied": ("exponentials are copied", (_EXPS, f"{_EXPS}.clone()")),
        },
    ),
    *wrong_costs(
        "exps",
        {
            "exponentials-thrice": (
                "exponentials are computed three times",
                (_EXPS, f"{_EXPS}\n    wide.exp(), wide.exp()"),
            ),
        },
    ),
    *wrong_costs(
        "operations",
        {"times-one": ("every number is multiplied by 1", (_WIDE, f"{_WIDE} * 1.0 * 1.0"))},
    ),
    *wrong_costs(
        "memory",
        {
            "unused-scratch": (
                "a scratch of six times the size of x is allocated and never read",
                (_EXPS, f"{_EXPS}\n    scratch = torch.empty(6, *x.shape)"),
            ),
        },
    ),
)

EDITED = Edited("torch-safe-softmax", "safe", COSTS)
